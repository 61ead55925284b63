//! The operator's command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use crds::ResourceKind;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Config};
use metrics::gauge;
use operator::{
    check,
    cluster::{
        client::{DEADLINE, Fence, client},
        leader::{LeaderElector, Times},
        pod_http::PodHttp,
        scope::Scope,
    },
    portal::{gauges::PortalGauges, source_reports::SourceReports, status::publisher},
    rotation::{pod_reports::PodReports, source::Sources},
    run::{self, Equipment},
    settings::{HostPattern, Settings},
    watch::reports::WatchReports,
};
use service_kit::{
    Lifecycle, admin,
    config::{self, AdminArgs, EXIT_BAD_CONFIGURATION, EXIT_FAILED, LogArgs, ShutdownArgs},
    open_files,
    server::{self, Site},
    telemetry,
};
use tracing::{error, info};

/// Turns `HardwarePortal` resources into running services, which watch for hardware as `HardwareWatch`
/// resources ask.
#[derive(Parser)]
#[command(name = "operator", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch portals and reconcile them until the process is stopped
    Run(Box<RunArgs>),
    /// Print a CRD, for kubectl apply --server-side
    Crd {
        /// Plural of the resource [default: all of them]
        #[arg(value_parser = resource_kinds(), value_name = "RESOURCE")]
        resource: Option<ResourceKind>,
    },
    /// Print the problems of this installation; exit status 1 if there are any
    Check(ScopeArgs),
}

#[derive(Args)]
struct ScopeArgs {
    /// Namespaces to watch, separated by commas
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,
    /// Watch all namespaces if none is named, with the rights of deploy/manifests/all-namespaces.yaml
    #[arg(long, env = "CLUSTER_WIDE")]
    cluster_wide: bool,
    /// The operator's own namespace
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "gill-hicks-system",
        value_name = "NAMESPACE"
    )]
    pod_namespace: String,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Image of hardware for portals that name none
    #[arg(long, env = "OPERATOR_HARDWARE_IMAGE", value_name = "IMAGE")]
    hardware_image: String,
    /// Image of portal for portals that name none
    #[arg(long, env = "OPERATOR_PORTAL_IMAGE", value_name = "IMAGE")]
    portal_image: String,
    /// Image of collector for portals that name none
    #[arg(long, env = "OPERATOR_COLLECTOR_IMAGE", value_name = "IMAGE")]
    collector_image: String,
    /// When to pull these images: Always, `IfNotPresent` or Never [default: as Kubernetes decides]
    #[arg(long, env = "OPERATOR_IMAGE_PULL_POLICY", value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// Hosts that database credentials may be sent to, as names or *.DOMAIN [default: any that comes
    /// with the credential, or that its administrator names with gill-hicks.dev/database-host]
    #[arg(long, env = "ALLOWED_DATABASE_HOSTS", value_delimiter = ',', value_name = "HOST")]
    allowed_database_hosts: Vec<HostPattern>,
    /// PEM file with the certificate authorities of databases, for portals that name none
    #[arg(
        long,
        env = "RDS_CA_FILE",
        default_value = "/etc/gill-hicks/rds-ca.pem",
        value_name = "FILE"
    )]
    rds_ca_file: PathBuf,
    /// Address of AWS Secrets Manager [default: that of the region]
    #[arg(long, env = "AWS_ENDPOINT_URL_SECRETS_MANAGER", value_name = "URL")]
    aws_endpoint: Option<String>,
    /// Name of the operator's pod, for events and as its identity in the leader election
    #[arg(long, env = "POD_NAME", default_value = "operator", value_name = "NAME")]
    pod_name: String,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
}

impl ScopeArgs {
    /// The namespaces that are named, or all of them; none if neither is asked for.
    fn scopes(&self) -> Vec<Scope> {
        let named = self.watch_namespaces.iter().filter(|name| !name.is_empty());
        let mut scopes: Vec<Scope> = named.cloned().map(Scope::Namespace).collect();
        if scopes.is_empty() && self.cluster_wide {
            scopes.push(Scope::Cluster);
        }
        scopes
    }
}

fn main() -> ExitCode {
    let cli = match config::parse::<Cli>(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing has chosen a provider before main");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILED, &format!("failed to start threads: {error}")),
    };
    match cli.command {
        Command::Crd { resource } => print(&crd_documents(resource)),
        Command::Check(scope) => runtime.block_on(check_installation(&scope)),
        Command::Run(args) => runtime.block_on(run_until_stopped(&args)),
    }
}

/// The resources by their plurals.
fn resource_kinds() -> impl TypedValueParser<Value = ResourceKind> {
    PossibleValuesParser::new(ResourceKind::ALL.map(ResourceKind::plural)).map(|plural| {
        let mut resources = ResourceKind::ALL.into_iter();
        resources.find(|one| one.plural() == plural).expect("only these are accepted")
    })
}

/// One CRD, or all of them as documents of one stream.
fn crd_documents(resource: Option<ResourceKind>) -> String {
    match resource {
        Some(resource) => resource.crd_yaml(),
        None => ResourceKind::ALL.map(ResourceKind::crd_yaml).join("---\n"),
    }
}

async fn run_until_stopped(args: &RunArgs) -> ExitCode {
    let scopes = args.scope.scopes();
    let is_contradiction = args.scope.cluster_wide && !scopes.contains(&Scope::Cluster);
    if scopes.is_empty() || is_contradiction {
        let found = if is_contradiction { "set besides CLUSTER_WIDE" } else { "not set" };
        let sentence = format!(
            "bad configuration: WATCH_NAMESPACES is {found}, expected either namespaces separated by commas or --cluster-wide"
        );
        return fail(EXIT_BAD_CONFIGURATION, &sentence);
    }
    let metrics = match telemetry::init(&args.log) {
        Ok(metrics) => metrics,
        Err(error) => return fail(EXIT_BAD_CONFIGURATION, &error.to_string()),
    };
    let rds_authorities = match std::fs::read(&args.rds_ca_file) {
        Ok(bytes) => bytes,
        Err(error) => {
            let path = args.rds_ca_file.display();
            let sentence =
                format!("bad configuration: RDS_CA_FILE: failed to read {path}: {error}");
            return fail(EXIT_BAD_CONFIGURATION, &sentence);
        }
    };
    let fence = Fence::default();
    // Writes of the Lease do not pass the fence, which they open.
    let clients = (connect(&fence).await, connect(&Fence::always_open()).await);
    let (client, leases) = match clients {
        (Ok(client), Ok(leases)) => (client, leases),
        (Err(error), _) | (_, Err(error)) => return fail(EXIT_FAILED, &error),
    };
    let listener = match server::bind(args.admin.admin_listen, "ADMIN_LISTEN").await {
        Ok(listener) => listener,
        Err(error) => return fail(EXIT_FAILED, &error.to_string()),
    };
    let settings = Settings {
        hardware_image: args.hardware_image.clone(),
        portal_image: args.portal_image.clone(),
        collector_image: args.collector_image.clone(),
        image_pull_policy: args.image_pull_policy.clone(),
        allowed_database_hosts: args.allowed_database_hosts.clone(),
        namespace: args.scope.pod_namespace.clone(),
        rds_authorities: rds_authorities.into(),
        aws_endpoint: args.aws_endpoint.clone(),
    };
    let http = match PodHttp::new() {
        Ok(http) => http,
        Err(error) => return fail(EXIT_FAILED, &format!("failed to prepare a client: {error}")),
    };
    let (lifecycle, ended) = Lifecycle::new((&args.shutdown).into());
    info!(version = env!("CARGO_PKG_VERSION"), ?scopes, "starting");
    gauge!("build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    let leases: Api<Lease> = Api::namespaced(leases, &args.scope.pod_namespace);
    let elector =
        LeaderElector::new(leases, identity(&args.pod_name), fence.clone(), Times::default());
    let equipment = Equipment {
        sources: Sources::new(client.clone(), settings.aws_endpoint.clone()),
        watch_reports: WatchReports::new(client.clone(), http.clone()),
        client,
        fence,
        settings,
        pod_reports: PodReports::new(http.clone()),
        source_reports: SourceReports::new(http),
        instance: args.pod_name.clone(),
        gauges: PortalGauges::default(),
        status_pause: publisher::PAUSE,
    };
    run::start(&lifecycle, equipment, scopes, elector);
    lifecycle.spawn("metrics", telemetry::run_upkeep(metrics.clone(), lifecycle.closing().clone()));
    let site = Site::new("admin", admin::router(lifecycle.readiness().clone(), metrics));
    let admin = tokio::spawn(server::serve(
        listener,
        site,
        open_files::limits_of_admin_listener(),
        lifecycle.closed().clone(),
    ));
    let outcome = lifecycle.run(ended).await;
    admin.abort();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "stopped");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The identity in the leader election: the pod's name, so that the Lease names the pod, and a random part,
/// since an earlier container of the same pod is another candidate and may still run.
fn identity(pod_name: &str) -> String {
    format!("{pod_name}_{:08x}", rand::random::<u32>())
}

async fn check_installation(scope: &ScopeArgs) -> ExitCode {
    let client = match connect(&Fence::always_open()).await {
        Ok(client) => client,
        Err(error) => return fail(EXIT_FAILED, &error),
    };
    let mut scopes = scope.scopes();
    if scopes.is_empty() {
        // As with the kubeconfig of an administrator, outside of a pod.
        scopes.push(Scope::Cluster);
    }
    let findings = match check::find_problems(&client, &scope.pod_namespace, &scopes).await {
        Ok(findings) => findings,
        Err(error) => return fail(EXIT_FAILED, &format!("failed to ask the API server: {error}")),
    };
    for unchecked in &findings.unchecked {
        print(&format!("{unchecked}\n"));
    }
    if findings.problems.is_empty() {
        return print("everything that the operator needs is there\n");
    }
    fail(EXIT_FAILED, &findings.problems.join("\n"))
}

async fn connect(fence: &Fence) -> Result<Client, String> {
    let config = Config::infer().await.map_err(|error| {
        format!("failed to find the API server: {error}; run inside a cluster or set KUBECONFIG")
    })?;
    client(config, fence, DEADLINE).map_err(|error| format!("failed to prepare a client: {error}"))
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, such as `| head`.
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

fn fail(status: u8, sentence: &str) -> ExitCode {
    use std::io::Write;
    let mut errors = std::io::stderr();
    // If the write fails, the exit status still reports the failure.
    let _written = writeln!(errors, "{sentence}");
    ExitCode::from(status)
}

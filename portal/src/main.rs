//! Command line and wiring of `portal`.

use std::{io, process::ExitCode};

use portal::{
    app::{self, StartError},
    check,
    config::{Cli, Command, ServeArgs},
};
use service_kit::{
    Clock, Lifecycle, admin,
    config::{ConfigError, EXIT_BAD_CONFIGURATION, EXIT_FAILED, parse},
    lifecycle::LifecycleError,
    open_files,
    server::{self, BindError, Site},
    telemetry,
};
use tracing::error;

/// Two do for requests that are answered from memory; more cost memory for nothing.
const MOST_WORKERS: usize = 4;

fn main() -> ExitCode {
    let cli: Cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(RunError::Runtime(error)),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            let status = match error {
                RunError::Config(_) | RunError::Start(StartError::Config(_)) => {
                    EXIT_BAD_CONFIGURATION
                }
                _ => EXIT_FAILED,
            };
            report(&error);
            ExitCode::from(status)
        }
    }
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("failed to start the runtime: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Run(#[from] LifecycleError),
    #[error("failed to write the report: {0}")]
    Report(io::Error),
}

async fn run(command: Command) -> Result<ExitCode, RunError> {
    match command {
        Command::Serve(args) => serve(args).await,
        Command::Check(args) => {
            let is_good = check::run(&args, &mut io::stdout()).await.map_err(RunError::Report)?;
            Ok(ExitCode::from(if is_good { 0 } else { EXIT_FAILED }))
        }
    }
}

async fn serve(args: ServeArgs) -> Result<ExitCode, RunError> {
    let metrics = telemetry::init(&args.log)?;
    let (lifecycle, ended) = Lifecycle::new((&args.shutdown).into());
    let site = app::start(&args, &lifecycle, Clock::new(chrono::Utc::now))?;
    let limits = open_files::limits_of_public_listener();
    let public = server::bind(args.portal_listen, "PORTAL_LISTEN").await?;
    let admin = server::bind(args.admin.admin_listen, "ADMIN_LISTEN").await?;
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("metrics", telemetry::run_upkeep(metrics.clone(), closing.clone()));
    let admin_site = Site::new("admin", admin::router(lifecycle.readiness().clone(), metrics));
    let admin_limits = open_files::limits_of_admin_listener();
    // Outlives the public listener, so that probes are answered to the end.
    tokio::spawn(server::serve(admin, admin_site, admin_limits, lifecycle.closed().clone()));
    lifecycle.spawn("public listener", server::serve(public, site, limits, closing));
    lifecycle.run(ended).await?;
    Ok(ExitCode::SUCCESS)
}

/// One sentence, in the log if there is one by now.
fn report(error: &RunError) {
    if tracing::dispatcher::has_been_set() {
        error!("{error}");
    } else {
        eprintln!("portal: {error}");
    }
}

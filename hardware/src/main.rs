//! Command line and wiring of `hardware`.

use std::{io, process::ExitCode};

use chrono::Utc;
use hardware::{
    app::{App, StartError},
    backtest::{self, BacktestError},
    check,
    config::{Cli, Command, MigrateArgs, OpenError, ServeArgs},
    import::{self, ImportError},
    rebuild::{self, RebuildError},
    store::{Db, StoreError},
};
use service_kit::{
    Clock, Lifecycle, admin,
    config::{ConfigError, EXIT_BAD_CONFIGURATION, EXIT_FAILED, parse},
    lifecycle::LifecycleError,
    open_files,
    server::{self, BindError, Site},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

/// Threads for requests, which are answered from memory. More of them cost memory and serve no more.
const MOST_WORKERS: usize = 4;

fn main() -> ExitCode {
    let cli: Cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // The first one wins, and nothing before this line could have installed another.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
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
                RunError::Config(_)
                | RunError::Start(StartError::Config(_))
                | RunError::Import(ImportError::Config(_))
                | RunError::Rebuild(RebuildError::Config(_)) => EXIT_BAD_CONFIGURATION,
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
    Config(#[from] OpenError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Run(#[from] LifecycleError),
    #[error("failed to write the report: {0}")]
    Report(io::Error),
    #[error(transparent)]
    Backtest(#[from] BacktestError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
}

impl From<ConfigError> for RunError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.into())
    }
}

async fn run(command: Command) -> Result<ExitCode, RunError> {
    if !matches!(command, Command::Serve(_)) {
        end_on_signal();
    }
    match command {
        Command::Serve(args) => serve(args).await,
        Command::Migrate(args) => migrate(args).await,
        Command::Check(args) => {
            let is_good = check::run(&args, &mut io::stdout()).await.map_err(RunError::Report)?;
            Ok(ExitCode::from(if is_good { 0 } else { EXIT_FAILED }))
        }
        Command::Backtest(args) => {
            backtest::run(&args, &mut io::stdout().lock(), &mut io::stderr())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(args) => {
            telemetry::init(&args.log)?;
            let clock = Clock::new(Utc::now);
            let imported = import::run(&args, &clock, &mut io::stdout(), &mut io::stderr()).await?;
            Ok(ExitCode::from(if imported.refused == 0 { 0 } else { EXIT_FAILED }))
        }
        Command::Rebuild(args) => {
            telemetry::init(&args.log)?;
            rebuild::run(&args, &mut io::stdout()).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Lets a signal end a command that has no shutdown of its own. The first process of a container gets no
/// default action for signals, so without this it would go on.
fn end_on_signal() {
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")]
    {
        let mut signals = signal(kind).expect("a signal handler");
        tokio::spawn(async move {
            signals.recv().await;
            eprintln!("hardware: ended by {name}");
            // As shells report a process that a signal ended.
            std::process::exit(128 + kind.as_raw_value());
        });
    }
}

async fn serve(args: ServeArgs) -> Result<ExitCode, RunError> {
    let metrics = telemetry::init(&args.log)?;
    let (lifecycle, ended) = Lifecycle::new((&args.shutdown).into());
    let limits = open_files::limits_of_public_listener();
    let public = server::bind(args.hardware_listen, "HARDWARE_LISTEN").await?;
    let admin = server::bind(args.admin.admin_listen, "ADMIN_LISTEN").await?;
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("metrics", telemetry::run_upkeep(metrics.clone(), closing.clone()));
    let app = App::start(&args, &lifecycle, Clock::new(Utc::now)).await?;
    let readiness = lifecycle.readiness().clone();
    let admin_routes =
        admin::router_with_series(readiness, metrics, move || (app.series)()).merge(app.admin);
    let admin_site = Site::new("admin", admin_routes);
    let admin_limits = open_files::limits_of_admin_listener();
    // Outlives the public listener, so that probes are answered to the end.
    tokio::spawn(server::serve(admin, admin_site, admin_limits, lifecycle.closed().clone()));
    lifecycle.spawn("public listener", server::serve(public, app.public, limits, closing));
    lifecycle.run(ended).await?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(args: MigrateArgs) -> Result<ExitCode, RunError> {
    telemetry::init(&args.log)?;
    let store = args.store.open().await?;
    let applied = Db::new(&store.config)?.migrate().await?;
    if applied.is_empty() {
        tracing::info!("the schema is up to date");
    } else {
        tracing::info!(applied = applied.join(", "), "migrated the schema");
    }
    Ok(ExitCode::SUCCESS)
}

/// One sentence, in the log if there is one by now.
fn report(error: &RunError) {
    if tracing::dispatcher::has_been_set() {
        error!("{error}");
    } else {
        eprintln!("hardware: {error}");
    }
}

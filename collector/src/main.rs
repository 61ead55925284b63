//! Command line and wiring of `collector`.

use std::{io, process::ExitCode};

use collector::{
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

/// It waits for others most of its time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli: Cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing has chosen a provider before main");
    match run(cli.command).await {
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
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Run(#[from] LifecycleError),
    #[error("failed to write the table: {0}")]
    Table(io::Error),
}

async fn run(command: Command) -> Result<ExitCode, RunError> {
    match command {
        Command::Serve(args) => serve(args).await,
        Command::Check(args) => {
            let clock = Clock::new(chrono::Utc::now);
            let checked = check::run(&args, &clock, &mut io::stdout()).await;
            let is_good = checked.map_err(RunError::Table)?;
            Ok(ExitCode::from(if is_good { 0 } else { EXIT_FAILED }))
        }
    }
}

async fn serve(args: ServeArgs) -> Result<ExitCode, RunError> {
    let metrics = telemetry::init(&args.log)?;
    let (lifecycle, ended) = Lifecycle::new((&args.shutdown).into());
    let admin = server::bind(args.admin.admin_listen, "ADMIN_LISTEN").await?;
    app::start(&args, &lifecycle, Clock::new(chrono::Utc::now)).await?;
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("metrics", telemetry::run_upkeep(metrics.clone(), closing));
    let site = Site::new("admin", admin::router(lifecycle.readiness().clone(), metrics));
    let limits = open_files::limits_of_admin_listener();
    tokio::spawn(server::serve(admin, site, limits, lifecycle.closed().clone()));
    lifecycle.run(ended).await?;
    Ok(ExitCode::SUCCESS)
}

/// One sentence, in the log if there is one by now.
fn report(error: &RunError) {
    if tracing::dispatcher::has_been_set() {
        error!("{error}");
    } else {
        eprintln!("collector: {error}");
    }
}

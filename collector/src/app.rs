//! Starts the sources.

use service_kit::{Clock, Lifecycle, config::ConfigError};

use crate::{config::ServeArgs, hardware_client::HardwareClient, metrics, runner::Runner};

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The HTTP client cannot be made.
    #[error("failed to prepare the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// A source cannot be made.
    #[error("failed to start the source {name}: {reason}")]
    Source {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Starts the sources in `lifecycle`, which ends them.
pub async fn start(
    args: &ServeArgs,
    lifecycle: &Lifecycle,
    clock: Clock,
) -> Result<(), StartError> {
    metrics::describe();
    let address = args.hardware_address()?;
    for (name, kind) in args.sources.resolve()? {
        let client = HardwareClient::new(&address, args.source_tokens_folder.join(&name))?;
        let source = kind.open(&name, &clock).await;
        let source = source.map_err(|reason| StartError::Source { name: name.clone(), reason })?;
        let runner = Runner::new(name, source, client, clock.clone());
        let closing = lifecycle.closing().clone();
        lifecycle.spawn("source", async move {
            closing.run_until_cancelled(runner.run()).await;
        });
    }
    Ok(())
}

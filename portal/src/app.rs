//! The service, from its configuration to its routes and task.

use std::io;

use service_kit::{Clock, Lifecycle, config::ConfigError, server::Site};

use crate::{
    config::ServeArgs,
    hardware_client::HardwareClient,
    metrics,
    page::{Frame, RenderError},
    page_publisher::PagePublisher,
    refresh,
    web::{self, WebState},
};

/// Answers that may be missed before the page calls it an outage.
const MISSED_ANSWERS: u32 = 3;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The HTTP client cannot be made.
    #[error("failed to prepare the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// The first page cannot be made.
    #[error("{0}")]
    Page(String),
}

impl From<RenderError> for StartError {
    fn from(error: RenderError) -> Self {
        Self::Page(error.to_string())
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Page(format!("failed to compress the page's files: {error}"))
    }
}

/// Starts the refresh in `lifecycle`, which ends it, and returns the public site. The page can be
/// shown from then on, so there is no gate of readiness.
pub fn start(args: &ServeArgs, lifecycle: &Lifecycle, clock: Clock) -> Result<Site, StartError> {
    metrics::describe();
    let client = HardwareClient::new(&args.hardware.base_url()?)?;
    let refresh_ms = u64::try_from(args.refresh_interval.as_millis()).unwrap_or(u64::MAX);
    let frame = Frame { title: args.title().to_owned(), refresh_ms };
    let outage_after = args.refresh_interval * MISSED_ANSWERS;
    let page = PagePublisher::new(frame, outage_after, clock.clone())?;
    let published = page.published();
    let refresh = refresh::run(client, page, args.refresh_interval);
    let closing = lifecycle.closing().clone();
    lifecycle.spawn("refresh", async move {
        closing.run_until_cancelled(refresh).await;
    });
    Ok(web::site(WebState { published, clock, title: args.title().to_owned() })?)
}

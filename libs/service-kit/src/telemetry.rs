//! Logs and metrics of a process.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{ConfigError, LogArgs, LogFormat},
    durations::BUCKETS,
};

/// rmcp says at `info` that each request begins and ends, and warns of each that a client got wrong, which
/// the log of requests has already. A directive for it in the user's own list wins.
const QUIET: &str = "rmcp=error";

/// Starts logging to standard error and recording metrics, for the whole process, once.
pub fn init(args: &LogArgs) -> Result<PrometheusHandle, ConfigError> {
    let directives = format!("{QUIET},{}", args.log_level);
    let filter = EnvFilter::try_new(directives).map_err(|error| ConfigError {
        option: "LOG_LEVEL",
        found: format!("\"{}\" ({error})", args.log_level),
        expected: "a level such as info, or directives such as info,hardware=debug".to_owned(),
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        LogFormat::Text => lines.init(),
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_seconds".to_owned()),
            &BUCKETS.map(|(bound, _)| bound),
        )
        .expect("the bucket list is not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("metrics are started once");
    Ok(handle)
}

/// Drains histograms into their buckets, so that memory stays bounded when nobody scrapes.
pub async fn run_upkeep(metrics: PrometheusHandle, closing: CancellationToken) {
    let mut ticks = interval(Duration::from_secs(5));
    while closing.run_until_cancelled(ticks.tick()).await.is_some() {
        metrics.run_upkeep();
    }
}

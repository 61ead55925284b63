//! Metrics of the sources.

use chrono::{DateTime, Utc};
use hardware_api::{Attempt, AttemptOutcome};
use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};

/// What each metric means, for whoever reads `/metrics`.
pub(crate) fn describe() {
    describe_counter!("collector_reports_total", "What a source said, by what became of it.");
    describe_counter!("collector_attempts_total", "Attempts that arrived, by what came of them.");
    describe_counter!(
        "collector_attempts_lost_total",
        "Attempts that were given up, as the service was away for too long."
    );
    describe_counter!(
        "collector_ambiguous_failures_total",
        "Failed requests that name no single pool, so that no attempt is reported."
    );
    describe_gauge!(
        "collector_source_up",
        "Whether a source sees its hardware and is heard: 1 or 0."
    );
    describe_gauge!("collector_pools", "Pools that a source reports.");
    describe_gauge!(
        "collector_last_report_timestamp_seconds",
        "When a source was last heard, in seconds since 1970."
    );
}

/// Instruments of one source.
pub(crate) struct SourceMetrics {
    source: String,
    up: Gauge,
    pools: Gauge,
    last_report: Gauge,
}

impl SourceMetrics {
    /// Registers those of `source`.
    pub(crate) fn register(source: &str) -> Self {
        let named = |gauge: fn(String) -> Gauge| gauge(source.to_owned());
        let metrics = Self {
            source: source.to_owned(),
            up: named(|source| gauge!("collector_source_up", "source" => source)),
            pools: named(|source| gauge!("collector_pools", "source" => source)),
            last_report: named(
                |source| gauge!("collector_last_report_timestamp_seconds", "source" => source),
            ),
        };
        metrics.set_up(false);
        for outcome in
            ["delivered", "unconfirmed", "no_token", "unreachable", "refused", "not_understood"]
        {
            counter!("collector_reports_total", "source" => metrics.source.clone(), "outcome" => outcome)
                .absolute(0);
        }
        metrics
    }

    /// Counts a report.
    pub(crate) fn count(&self, outcome: &'static str) {
        counter!("collector_reports_total", "source" => self.source.clone(), "outcome" => outcome)
            .increment(1);
    }

    /// Counts attempts that arrived.
    pub(crate) fn count_attempts(&self, attempts: &[Attempt]) {
        for attempt in attempts {
            let outcome = match attempt.outcome {
                AttemptOutcome::Succeeded => "succeeded",
                AttemptOutcome::Failed => "failed",
            };
            counter!("collector_attempts_total", "source" => self.source.clone(), "outcome" => outcome)
                .increment(1);
        }
    }

    /// Counts attempts that were given up.
    pub(crate) fn count_lost_attempts(&self, lost: u64) {
        counter!("collector_attempts_lost_total", "source" => self.source.clone()).increment(lost);
    }

    /// Shows whether the source is heard.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.set(f64::from(u8::from(is_up)));
    }

    /// Shows what was delivered at `now`.
    pub(crate) fn observe_report(&self, now: DateTime<Utc>, pools: usize) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (seconds, pools) = (now.timestamp() as f64, pools as f64);
        self.last_report.set(seconds);
        self.pools.set(pools);
    }
}

//! Metrics of the refresh; requests are observed by service-kit.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::{hardware_client::FetchError, pools::PoolsAnswer, upstream::Failure};

/// What each metric means, for whoever reads `/metrics`.
pub(crate) fn describe() {
    describe_counter!("portal_hardware_requests_total", "Requests to hardware by outcome.");
    describe_histogram!(
        "portal_hardware_request_duration_seconds",
        "Time that hardware took to answer or to fail."
    );
    describe_counter!(
        "portal_pools_requests_total",
        "Requests to hardware for the pools that sources report, by outcome."
    );
    describe_gauge!("portal_list_age_seconds", "Time since the database confirmed the list.");
    describe_gauge!("portal_list_rows", "Rows of the list.");
    describe_counter!("portal_renders_total", "How often the page changed and was rendered.");
}

/// Instruments of the refresh task.
pub(crate) struct RefreshMetrics {
    succeeded: Counter,
    pools_succeeded: Counter,
    pools_not_served: Counter,
    duration: Histogram,
    age: Gauge,
    rows: Gauge,
    renders: Counter,
}

impl RefreshMetrics {
    /// Registers them.
    pub(crate) fn register() -> Self {
        for failure in
            [Failure::Unreachable, Failure::TimedOut, Failure::Status(0), Failure::NotUnderstood]
        {
            requests(failure.label()).absolute(0);
            pools_requests(failure.label()).absolute(0);
        }
        Self {
            succeeded: requests("succeeded"),
            pools_succeeded: pools_requests("succeeded"),
            pools_not_served: pools_requests("not_served"),
            duration: histogram!("portal_hardware_request_duration_seconds"),
            age: gauge!("portal_list_age_seconds"),
            rows: gauge!("portal_list_rows"),
            renders: counter!("portal_renders_total"),
        }
    }

    /// Counts a request to `hardware`.
    pub(crate) fn observe_request(&self, failure: Option<Failure>, elapsed: Duration) {
        match failure {
            None => self.succeeded.increment(1),
            Some(failure) => requests(failure.label()).increment(1),
        }
        self.duration.record(elapsed);
    }

    /// Counts a request to `hardware` for its pools.
    pub(crate) fn count_pools_request(&self, outcome: &Result<PoolsAnswer, FetchError>) {
        match outcome {
            Ok(PoolsAnswer::NotServed) => self.pools_not_served.increment(1),
            Ok(_) => self.pools_succeeded.increment(1),
            Err(error) => pools_requests(error.failure.label()).increment(1),
        }
    }

    /// Shows the list's age and length.
    pub(crate) fn observe_list(&self, age: Duration, rows: usize) {
        self.age.set(age);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 rows")]
        self.rows.set(rows as f64);
    }

    /// Counts a rendering.
    pub(crate) fn count_render(&self) {
        self.renders.increment(1);
    }
}

fn pools_requests(outcome: &'static str) -> Counter {
    counter!("portal_pools_requests_total", "outcome" => outcome)
}

fn requests(outcome: &'static str) -> Counter {
    counter!("portal_hardware_requests_total", "outcome" => outcome)
}

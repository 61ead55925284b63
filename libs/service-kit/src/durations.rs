//! How long the answers of the busiest routes take, counted in place.
//!
//! The recorder keeps each duration until somebody asks, or for some seconds: a route that answers hundreds of
//! thousands of requests a second would spend more time on that than on its answers. A route that is registered
//! here counts into the buckets themselves, and [`render`] adds them to what the recorder says.

use std::{
    fmt::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;

/// Upper bounds in seconds, with their text: from a memory answer (below a millisecond) to a hung dependency.
pub(crate) const BUCKETS: [(f64, &str); 11] = [
    (0.0005, "0.0005"),
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (1.0, "1"),
    (2.5, "2.5"),
    (10.0, "10"),
];

/// The family that they belong to.
const NAME: &str = "http_request_duration_seconds";

/// The line that begins it in the text format.
const TYPE: &str = "# TYPE http_request_duration_seconds histogram\n";

/// All that are registered. The services of one process share those of a route, as they share its counters.
static REGISTERED: Mutex<Vec<Arc<Durations>>> = Mutex::new(Vec::new());

/// The durations of the answers to one method of one route.
#[derive(Debug)]
pub(crate) struct Durations {
    method: &'static str,
    route: &'static str,
    /// By bucket, not cumulative; the last one has what exceeds all bounds.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_ns: AtomicU64,
}

impl Durations {
    /// Those of the route, which are rendered from now on.
    pub(crate) fn register(method: &'static str, route: &'static str) -> Arc<Self> {
        let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = registered.iter().find(|it| it.is_of(method, route)) {
            return Arc::clone(known);
        }
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        let durations = Arc::new(Self { method, route, counts, sum_ns: AtomicU64::new(0) });
        registered.push(Arc::clone(&durations));
        durations
    }

    /// Those of the route, if it is registered.
    pub(crate) fn find(method: &str, route: &str) -> Option<Arc<Self>> {
        let registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        registered.iter().find(|it| it.is_of(method, route)).cloned()
    }

    fn is_of(&self, method: &str, route: &str) -> bool {
        self.method == method && self.route == route
    }

    pub(crate) fn record(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let bucket = BUCKETS.partition_point(|(bound, _)| *bound < seconds);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn render(&self, text: &mut String) -> fmt::Result {
        let labels = format!("method=\"{}\",route=\"{}\"", self.method, self.route);
        let bounds = BUCKETS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        let mut count = 0;
        for (bound, counted) in bounds.zip(&self.counts) {
            count += counted.load(Relaxed);
            writeln!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
        }
        let sum = Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64();
        writeln!(text, "{NAME}_sum{{{labels}}} {sum}")?;
        writeln!(text, "{NAME}_count{{{labels}}} {count}")
    }
}

/// What the recorder says, with the durations of these routes among those of the others.
pub(crate) fn render(metrics: &PrometheusHandle) -> String {
    let mut text = metrics.render();
    let mut lines = String::new();
    for durations in REGISTERED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        durations.render(&mut lines).expect("a String takes everything");
    }
    if let Some(family) = text.find(TYPE) {
        text.insert_str(family + TYPE.len(), &lines);
    } else if !lines.is_empty() {
        text.push_str(TYPE);
        text.push_str(&lines);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics::histogram;
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::{BUCKETS, Durations, TYPE, render};

    #[test]
    fn the_text_is_that_of_the_recorder_and_stands_in_the_same_family() {
        let bounds = BUCKETS.map(|(bound, _)| bound);
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &bounds)
            .expect("buckets")
            .build_recorder();
        let handle = prometheus.handle();
        let counted = Durations::register("GET", "/counted");
        let recorded = metrics::with_local_recorder(
            &prometheus,
            || histogram!("http_request_duration_seconds", "method" => "GET", "route" => "/recorded"),
        );
        assert!(render(&handle).contains(TYPE), "also before the recorder has any");
        // A bound belongs to its bucket, as Prometheus has it.
        for millis in [0.2, 0.5, 0.6, 1.0, 30.0, 2_500.0, 20_000.0] {
            let elapsed = Duration::from_secs_f64(millis / 1000.0);
            counted.record(elapsed);
            recorded.record(elapsed);
        }
        let text = render(&handle);
        assert_eq!(text.matches(TYPE).count(), 1, "{text}");
        let of = |route: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.contains(route));
            lines.map(|line| line.replace(route, "")).collect()
        };
        assert_eq!(of("/counted"), of("/recorded"), "{text}");
        assert_eq!(of("/counted").len(), BUCKETS.len() + 3);
    }

    #[test]
    fn a_route_is_counted_once_however_often_it_is_registered() {
        let one = Durations::register("GET", "/twice");
        Durations::register("GET", "/twice").record(Duration::from_millis(1));
        one.record(Duration::from_millis(1));
        let mut text = String::new();
        one.render(&mut text).expect("a String takes everything");
        assert!(text.ends_with("_count{method=\"GET\",route=\"/twice\"} 2\n"), "{text}");
        assert!(Durations::find("GET", "/twice").is_some());
        assert!(Durations::find("HEAD", "/twice").is_none());
    }
}

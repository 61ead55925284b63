//! The admin listener: probes and metrics, never exposed to users.

use axum::{Router, http::StatusCode, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{durations::render, readiness::Readiness};

/// `GET /livez`, `/readyz` and `/metrics`. A service merges its own admin routes into it.
///
/// `/livez` answers 200 while the process can answer at all. `/readyz` answers 200, or 503 with one
/// line per closed gate. `/metrics` is the Prometheus text format.
pub fn router(readiness: Readiness, metrics: PrometheusHandle) -> Router {
    router_with_series(readiness, metrics, String::new)
}

/// The same, where `/metrics` ends with what `series` gives: families of series that come and go, which a
/// recorder would keep for ever.
pub fn router_with_series(
    readiness: Readiness,
    metrics: PrometheusHandle,
    series: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(async move || report_readiness(&readiness)))
        .route(
            "/metrics",
            get(async move || {
                let text = render(&metrics) + &series();
                ([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
            }),
        )
}

fn report_readiness(readiness: &Readiness) -> (StatusCode, String) {
    let closed = readiness.closed_gates();
    if closed.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let lines = closed.iter().map(|(gate, reason)| format!("{gate}: {reason}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::report_readiness;
    use crate::readiness::Readiness;

    #[test]
    fn readyz_names_what_is_missing() {
        let readiness = Readiness::default();
        let gate = readiness.gate("schema", "2 migrations pending");
        let (status, body) = report_readiness(&readiness);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "schema: 2 migrations pending\n");
        gate.open();
        assert_eq!(report_readiness(&readiness).0, StatusCode::OK);
    }
}

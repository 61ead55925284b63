//! Rate, errors and duration of requests by route, and a log line for each that failed or was slow.
//!
//! The instruments of a route are registered at its first request and then found by the matched
//! path, so that a request costs one look-up and no allocation. What is answered before a route is looked
//! for has a [`RouteMetrics`] of its own, and no look-up.

use std::{
    any::Any,
    collections::HashMap,
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    response::Response,
};
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, StatusCode, header};
use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};
use tower::{Layer, Service};
use tracing::{debug, error, info, warn};

use crate::{durations::Durations, server::problem};

/// A request that takes longer than this is logged.
const SLOW: Duration = Duration::from_secs(1);

/// What a client is told of a panic, by the Accept of its request.
type PanicAnswer = Arc<dyn Fn(Option<&HeaderValue>) -> Response<Body> + Send + Sync>;

/// Observes every request of the [`axum::Router`] that it is a layer of:
/// `http_requests_total{method,route,status}`, `http_request_duration_seconds{method,route}`,
/// `http_requests_in_flight`. A panic is answered with 500 and counted in `http_panics_total`.
#[derive(Clone)]
pub struct ObserveRequests {
    routes: Arc<RwLock<HashMap<RouteKey, Arc<Instruments>>>>,
    panic_answer: PanicAnswer,
}

impl Default for ObserveRequests {
    fn default() -> Self {
        Self::answering_panics_with(|_| problem_of_panic())
    }
}

type RouteKey = (&'static str, Arc<str>);

impl std::fmt::Debug for ObserveRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObserveRequests").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ObserveRequests {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, observe: self.clone() }
    }
}

/// A service with [`ObserveRequests`] in front.
#[derive(Clone, Debug)]
pub struct Observed<S> {
    inner: S,
    observe: ObserveRequests,
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let observation = Observation::begin(self.observe.instruments_of(&request), &request);
        let accept = request.headers().get(header::ACCEPT).cloned();
        let panic_answer = Arc::clone(&self.observe.panic_answer);
        let response = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let response = response.await.unwrap_or_else(|panic| {
                observation.count_panic(&*panic);
                Ok(panic_answer(accept.as_ref()))
            })?;
            observation.end(&response);
            Ok(response)
        })
    }
}

/// The problem document (RFC 9457) of a bug, which says nothing of it.
fn problem_of_panic() -> Response<Body> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let problem = problem(status, "internal", "the answer could not be made; the log says why");
    let mut response = Response::new(Body::from(problem));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

impl ObserveRequests {
    /// Observes, and answers a panic so.
    #[must_use]
    pub fn answering_panics_with(
        answer: impl Fn(Option<&HeaderValue>) -> Response<Body> + Send + Sync + 'static,
    ) -> Self {
        // Also before the first request that is counted here, and where there is none.
        in_flight().increment(0);
        panics().increment(0);
        Self { routes: Arc::default(), panic_answer: Arc::new(answer) }
    }

    fn instruments_of(&self, request: &Request) -> Arc<Instruments> {
        let matched = request.extensions().get::<MatchedPath>();
        // Raw paths are the client's choice and would make as many series as it likes.
        let route: Arc<str> =
            matched.map_or_else(|| "unmatched".into(), |path| path.as_str().into());
        let key = (method_label(request.method()), route);
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let instruments = || Arc::new(Instruments::register(key.0, &key.1));
            Arc::clone(routes.entry(key.clone()).or_insert_with(instruments))
        })
    }
}

fn in_flight() -> Gauge {
    gauge!("http_requests_in_flight")
}

fn panics() -> Counter {
    counter!("http_panics_total")
}

/// Methods are an open set chosen by the client as well.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

struct Instruments {
    route: Arc<str>,
    answers: AnswerMetrics,
    in_flight: Gauge,
}

impl Instruments {
    fn register(method: &'static str, route: &Arc<str>) -> Self {
        Self {
            route: Arc::clone(route),
            answers: AnswerMetrics::register(method, route.to_string()),
            in_flight: in_flight(),
        }
    }
}

/// What is counted of the answers to one method of one route.
struct AnswerMetrics {
    by_status_class: [Counter; 5],
    duration: DurationMetric,
}

enum DurationMetric {
    Recorded(Histogram),
    Counted(Arc<Durations>),
}

impl AnswerMetrics {
    fn register(method: &'static str, route: impl Into<SharedString>) -> Self {
        let route = route.into();
        let counted = Durations::find(method, &route);
        let requests = |status: &'static str| {
            counter!("http_requests_total",
                "method" => method, "route" => route.clone(), "status" => status)
        };
        Self {
            by_status_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(requests),
            duration: counted.map_or_else(
                || {
                    DurationMetric::Recorded(histogram!("http_request_duration_seconds",
                        "method" => method, "route" => route.clone()))
                },
                DurationMetric::Counted,
            ),
        }
    }

    fn observe(&self, status: StatusCode, elapsed: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_status_class[class].increment(1);
        match &self.duration {
            DurationMetric::Recorded(histogram) => histogram.record(elapsed),
            DurationMetric::Counted(durations) => durations.record(elapsed),
        }
    }
}

/// Instruments of a route that is answered before the router, under the same names.
pub struct RouteMetrics {
    get: AnswerMetrics,
    head: AnswerMetrics,
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteMetrics").finish_non_exhaustive()
    }
}

impl RouteMetrics {
    /// Registers them for a route that answers GET and HEAD.
    #[must_use]
    pub fn register(route: &'static str) -> Self {
        for method in ["GET", "HEAD"] {
            Durations::register(method, route);
        }
        Self {
            get: AnswerMetrics::register("GET", route),
            head: AnswerMetrics::register("HEAD", route),
        }
    }

    /// Counts a request that was answered so, and took so long.
    pub fn observe(&self, method: &Method, status: StatusCode, elapsed: Duration) {
        let answers = if method == Method::HEAD { &self.head } else { &self.get };
        answers.observe(status, elapsed);
    }
}

/// One request under way; counts it as no longer in flight however it ends.
struct Observation {
    instruments: Arc<Instruments>,
    method: Method,
    trace_id: Option<TraceId>,
    started: Instant,
}

impl Observation {
    fn begin(instruments: Arc<Instruments>, request: &Request) -> Self {
        instruments.in_flight.increment(1);
        let traceparent = request.headers().get("traceparent");
        Self {
            instruments,
            method: request.method().clone(),
            trace_id: traceparent.and_then(|value| TraceId::parse(value.as_bytes())),
            started: Instant::now(),
        }
    }

    fn count_panic(&self, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        error!(route = &*self.instruments.route, message, "a request met a bug");
        panics().increment(1);
    }

    fn end(self, response: &Response<Body>) {
        let (elapsed, status) = (self.started.elapsed(), response.status());
        self.instruments.answers.observe(status, elapsed);
        let (route, method) = (&*self.instruments.route, self.method.as_str());
        let (status, ms) = (status.as_u16(), elapsed.as_millis());
        let trace = self.trace_id.as_ref().map(TraceId::as_str);
        match status {
            500.. => warn!(method, route, status, ms, trace, "request failed"),
            _ if elapsed >= SLOW => info!(method, route, status, ms, trace, "request was slow"),
            _ => debug!(method, route, status, ms, trace, "request"),
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.instruments.in_flight.decrement(1);
    }
}

/// The trace id of a W3C `traceparent` header: 32 hexadecimal digits, not all zero.
#[derive(Debug, PartialEq, Eq)]
struct TraceId([u8; 32]);

impl TraceId {
    fn parse(traceparent: &[u8]) -> Option<Self> {
        let mut parts = traceparent.split(|byte| *byte == b'-');
        let (_version, id) = (parts.next()?, parts.next()?);
        let id: [u8; 32] = id.try_into().ok()?;
        let is_hex = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && id.iter().any(|byte| *byte != b'0')).then_some(Self(id))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    use http_body_util::BodyExt;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt;

    use super::{ObserveRequests, TraceId};

    #[test]
    fn requests_are_counted_by_matched_route_and_status_class() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let router = Router::new()
                    .route("/pools/{id}", get(async || StatusCode::NOT_FOUND))
                    .layer(ObserveRequests::default());
                for path in ["/pools/1", "/pools/2", "/elsewhere"] {
                    let request = Request::get(path).body(Body::empty()).expect("a request");
                    router.clone().oneshot(request).await.expect("infallible");
                }
            });
        });
        let text = handle.render();
        let line = r#"http_requests_total{method="GET",route="/pools/{id}",status="4xx"} 2"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains(r#"route="unmatched",status="4xx"} 1"#), "{text}");
        assert!(text.contains("http_requests_in_flight 0"), "{text}");
    }

    #[test]
    fn what_a_dashboard_shows_is_there_before_the_first_request() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || drop(ObserveRequests::default()));
        let text = handle.render();
        for line in ["http_requests_in_flight 0\n", "http_panics_total 0\n"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_counted_and_says_nothing_of_itself() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _recorded = metrics::set_default_local_recorder(&recorder);
        let bug = get(async || -> () { panic!("secret detail") });
        let router = Router::new().route("/bug", bug).layer(ObserveRequests::default());
        let request = Request::get("/bug").body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret"), "{body}");
        let text = handle.render();
        assert!(text.contains("http_panics_total 1"), "{text}");
        assert!(text.contains(r#"route="/bug",status="5xx"} 1"#), "{text}");
        assert!(text.contains("http_requests_in_flight 0"), "{text}");
    }

    #[test]
    fn only_a_well_formed_traceparent_gives_a_trace_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let header = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(TraceId::parse(header.as_bytes()).expect("well-formed").as_str(), id);
        for bad in ["", "00", "00-xyz-1-01", &format!("00-{}-1-01", "0".repeat(32))] {
            assert_eq!(TraceId::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

//! Rate, errors and duration of requests by route, and a log line for each that failed or was slow.
//!
//! The instruments of a route are registered at its first request and then found by the matched
//! path, so that a request costs one look-up and no allocation.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    response::Response,
};
use futures::future::BoxFuture;
use http::Method;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tower::{Layer, Service};
use tracing::{debug, info, warn};

/// A request that takes longer than this is logged.
const SLOW: Duration = Duration::from_secs(1);

/// Observes every request of the [`axum::Router`] that it is a layer of:
/// `http_requests_total{method,route,status}`, `http_request_duration_seconds{method,route}`,
/// `http_requests_in_flight`.
#[derive(Clone, Default)]
pub struct ObserveRequests {
    routes: Arc<RwLock<HashMap<RouteKey, Arc<Instruments>>>>,
}

type RouteKey = (Method, Arc<str>);

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
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            observation.end(&response);
            Ok(response)
        })
    }
}

impl ObserveRequests {
    fn instruments_of(&self, request: &Request) -> Arc<Instruments> {
        let matched = request.extensions().get::<MatchedPath>();
        // Raw paths are the client's choice and would make as many series as it likes.
        let route: Arc<str> =
            matched.map_or_else(|| "unmatched".into(), |path| path.as_str().into());
        let key = (known_method(request.method()), route);
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let instruments = || Arc::new(Instruments::register(&key.0, &key.1));
            Arc::clone(routes.entry(key.clone()).or_insert_with(instruments))
        })
    }
}

/// Methods are an open set chosen by the client as well.
fn known_method(method: &Method) -> Method {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::OPTIONS
        | Method::PATCH => method.clone(),
        _ => Method::TRACE,
    }
}

struct Instruments {
    route: Arc<str>,
    by_status_class: [Counter; 5],
    duration: Histogram,
    in_flight: Gauge,
}

impl Instruments {
    fn register(method: &Method, route: &Arc<str>) -> Self {
        let (method, path) = (method.as_str().to_owned(), route.to_string());
        let requests = |status: &'static str| {
            counter!("http_requests_total",
                "method" => method.clone(), "route" => path.clone(), "status" => status)
        };
        Self {
            route: Arc::clone(route),
            by_status_class: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(requests),
            duration: histogram!("http_request_duration_seconds",
                "method" => method.clone(), "route" => path.clone()),
            in_flight: gauge!("http_requests_in_flight"),
        }
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

    fn end(self, response: &Response<Body>) {
        let (elapsed, status) = (self.started.elapsed(), response.status());
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.instruments.by_status_class[class].increment(1);
        self.instruments.duration.record(elapsed);
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
    fn only_a_well_formed_traceparent_gives_a_trace_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let header = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(TraceId::parse(header.as_bytes()).expect("well-formed").as_str(), id);
        for bad in ["", "00", "00-xyz-1-01", &format!("00-{}-1-01", "0".repeat(32))] {
            assert_eq!(TraceId::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

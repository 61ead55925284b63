//! `GET /hardware/`: the list, from memory.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::future::RouteFuture,
};
use futures::future::Either;
use hardware_api::{FRESHNESS_HEADER, Hardware, Problem};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower::Service;

use super::{ApiState, Refusal};
use crate::snapshot::Snapshot;

/// The path of the list.
const PATH: &str = "/hardware/";

pub(super) static FRESHNESS: HeaderName = HeaderName::from_static(FRESHNESS_HEADER);

/// What pages of other sites may see besides the list.
static EXPOSED: HeaderValue = HeaderValue::from_static("age,etag,snapshot-freshness");

/// List the hardware with its availability
///
/// The rows of the table `hardware` in its order. Answered from memory, also while the database is
/// away: `Age` says when the database last confirmed it. Query parameters are ignored, as the
/// original did.
#[utoipa::path(
    get,
    path = "/hardware/",
    tag = "hardware",
    responses(
        (status = OK, body = Vec<Hardware>, description = "The list"),
        (status = NOT_MODIFIED, description = "The list still has the tag of If-None-Match"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: there is no list yet"),
    )
)]
pub(super) async fn list_hardware(
    State(state): State<Arc<ApiState>>,
    request: Request,
) -> Response {
    answer(&state, &request)
}

/// Answers the list itself and leaves everything else to the router behind it.
///
/// The list is asked for far more often than anything else. Finding its route, noting the matched
/// path and boxing futures cost about as much as the answer. Measured against `examples/bare_server`:
/// 0.80 of its throughput as a route under the layer, 0.92 without the layer, 0.94 so.
#[derive(Clone)]
pub(super) struct ListFirst {
    pub(super) state: Arc<ApiState>,
    pub(super) others: Router,
}

impl Service<Request> for ListFirst {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.others, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read && request.uri().path() == PATH {
            Either::Left(ready(Ok(answer(&self.state, &request))))
        } else {
            Either::Right(self.others.call(without_trailing_slash(request)))
        }
    }
}

/// A slash at the end never matters.
fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() || trimmed.len() == path.len() || path == PATH {
        return request;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    // What was a path is one without its end.
    if let Ok(trimmed) = format!("{trimmed}{query}").parse() {
        *request.uri_mut() = trimmed;
    }
    request
}

fn answer(state: &ApiState, request: &Request) -> Response {
    let started = Instant::now();
    let response = build_answer(state, request.headers());
    state.list_metrics.observe(request.method(), response.status(), started.elapsed());
    response
}

fn build_answer(state: &ApiState, request: &HeaderMap) -> Response {
    let latest = state.published.latest();
    let Some(snapshot) = latest.as_deref() else {
        let detail = "the list has not been read from the database yet";
        return Refusal::unavailable("starting", detail).into_response();
    };
    let age = state.published.age();
    let freshness = state.published.freshness(age);

    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.reserve(10);
    headers.insert(header::ETAG, snapshot.etag.clone());
    headers.insert(header::AGE, age.as_secs().into());
    headers.insert(header::CACHE_CONTROL, state.cache_control.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(&FRESHNESS, HeaderValue::from_static(freshness));
    // Pages of other sites may read the list.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED.clone());
    if request.get_all(header::IF_NONE_MATCH).iter().any(|tags| matches_tag(tags, &snapshot.etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (encoding, body) = choose_encoding(request, snapshot);
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    *response.body_mut() = Body::from(body);
    response
}

/// The weak comparison of RFC 9110, section 13.1.2.
pub(super) fn matches_tag(tags: &HeaderValue, etag: &HeaderValue) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || opaque(tag) == opaque(etag.as_bytes()))
}

/// Brotli before gzip before neither, among what the client takes.
fn choose_encoding(request: &HeaderMap, snapshot: &Snapshot) -> (Option<&'static str>, Bytes) {
    let accepted = || request.get_all(header::ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
    if accepted().any(|value| accepts(value, b"br")) {
        (Some("br"), snapshot.brotli.clone())
    } else if accepted().any(|value| accepts(value, b"gzip")) {
        (Some("gzip"), snapshot.gzip.clone())
    } else {
        (None, snapshot.identity.clone())
    }
}

/// Whether an Accept-Encoding names `encoding` with a weight other than 0.
fn accepts(value: &[u8], encoding: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        is_named && !parts.any(is_weight_zero)
    })
}

/// Whether a parameter of a header gives the weight 0, which means "not this".
pub(super) fn is_weight_zero(parameter: &[u8]) -> bool {
    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| {
        weight.starts_with(b"0") && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::accepts;

    #[test]
    fn an_encoding_is_used_only_if_the_client_takes_it() {
        let cases = [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.8", true),
            ("BR", true),
            ("br;q=0", false),
            ("br; q=0.000, gzip", false),
            ("br;q=0.1", true),
            ("brotli, gzip", false),
            ("", false),
            ("identity", false),
        ];
        for (value, expected) in cases {
            assert_eq!(accepts(value.as_bytes(), b"br"), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            accepts(&value, b"br");
        }
    }
}

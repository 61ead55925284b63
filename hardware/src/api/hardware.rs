//! `GET /hardware/`: the list, from memory.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use hardware_api::{Hardware, Problem};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use service_kit::{observe::RouteMetrics, server::FastPath};
use tokio::time::Instant;

use super::{ApiState, answer::starting};

/// The path of the list.
pub(super) const PATH: &str = "/hardware/";

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
    headers: HeaderMap,
) -> Response {
    let answer = state.published.answer(&headers, Instant::now());
    answer.map_or_else(|| starting().into_response(), IntoResponse::into_response)
}

/// Answers the list before a route is looked for, as it is asked for far more often than anything else.
pub(super) struct ListFastPath {
    state: Arc<ApiState>,
    metrics: RouteMetrics,
}

impl ListFastPath {
    pub(super) fn new(state: Arc<ApiState>) -> Self {
        Self { state, metrics: RouteMetrics::register(PATH) }
    }
}

impl FastPath for ListFastPath {
    fn answer(&self, request: &Request<Incoming>) -> Option<http::Response<Full<Bytes>>> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if !is_read || request.uri().path() != PATH {
            return None;
        }
        let started = Instant::now();
        let response = self.state.published.answer(request.headers(), started)?;
        self.metrics.observe(request.method(), response.status(), started.elapsed());
        Some(response)
    }
}

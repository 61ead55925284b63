//! `GET /healthz`: for load balancers that cannot reach the admin listener.

use axum::response::{IntoResponse, Response};
use http::header;

use crate::{CachePolicy, security};

/// 200 while the process can answer; it shows the page also without `hardware`.
pub(super) async fn show_health() -> Response {
    let mut response = "ok\n".into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, CachePolicy::NoStore.header_value());
    security::add_headers(response.headers_mut());
    response
}

//! `GET /`: the page.

use std::sync::Arc;

use axum::{body::Bytes, extract::State};
use http::{HeaderMap, Response};
use http_body_util::Full;

use super::WebState;

/// Always 200, also while `hardware` is away: then the page says so. Query parameters are ignored,
/// as links from chats and newsletters carry some.
pub(super) fn answer(state: &WebState, request: &HeaderMap) -> Response<Full<Bytes>> {
    state.published.latest().index.answer(request)
}

pub(super) async fn show_index(
    State(state): State<Arc<WebState>>,
    headers: HeaderMap,
) -> Response<Full<Bytes>> {
    answer(&state, &headers)
}

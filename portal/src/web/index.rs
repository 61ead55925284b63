//! `GET /`: the page.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::HeaderMap;

use super::WebState;

/// Always 200, also while `hardware` is away: then the page says so. Query parameters are ignored,
/// as links from chats and newsletters carry some.
pub(super) async fn show_index(State(state): State<Arc<WebState>>, headers: HeaderMap) -> Response {
    state.published.latest().index.answer(&headers)
}

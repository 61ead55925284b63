//! `GET /`: the page.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::WebState;

/// Always 200, also while `hardware` is away: then the page says so. Query parameters are ignored,
/// as links from chats and newsletters carry some.
pub(super) async fn show_index(State(state): State<Arc<WebState>>, request: Request) -> Response {
    state.published.latest().index.answer(request.headers())
}

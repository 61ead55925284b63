//! `GET /rows`: the changing part of the page, for its script.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::header;

use super::WebState;

/// As `/`, plus `Age`: whole seconds since the database confirmed the list. A 304 has it as well, so
/// that the script can show the age of a list that does not change.
pub(super) async fn show_rows(State(state): State<Arc<WebState>>, request: Request) -> Response {
    let mut response = state.published.latest().rows.answer(request.headers());
    if let Some(age) = state.published.age(state.clock.now()) {
        response.headers_mut().insert(header::AGE, age.as_secs().into());
    }
    response
}

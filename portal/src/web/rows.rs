//! `GET /rows`: the changing part of the page, for its script.

use std::sync::Arc;

use axum::{body::Bytes, extract::State};
use http::{HeaderMap, Response, header};
use http_body_util::Full;

use super::WebState;

/// As `/`, plus `Age`: whole seconds since the database confirmed the list. A 304 has it as well, so
/// that the script can show the age of a list that does not change.
pub(super) fn answer(state: &WebState, request: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = state.published.latest().rows.answer(request);
    if let Some(age) = state.published.age(state.clock.now()) {
        response.headers_mut().insert(header::AGE, age.as_secs().into());
    }
    response
}

pub(super) async fn show_rows(
    State(state): State<Arc<WebState>>,
    headers: HeaderMap,
) -> Response<Full<Bytes>> {
    answer(&state, &headers)
}

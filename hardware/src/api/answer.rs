//! Answers from memory, and what they are made with.

use std::sync::Arc;

use availability::Wanted;
use axum::{body::Body, response::Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use service_kit::{negotiation::has_tag, prepared::content_hash};
use tokio::task::spawn_blocking;
use tracing::error;

use super::{ApiState, Refusal};
use crate::{
    pools::{View, time},
    snapshot::FRESHNESS,
};

/// The view of the latest tick. One that nobody asked for lately is made, one at a time.
pub(super) async fn find_view(state: &ApiState, wanted: Wanted) -> Result<Arc<View>, Refusal> {
    if let Some(view) = state.pools.view(wanted) {
        return Ok(view);
    }
    if state.pools.as_of().is_none() {
        return Err(starting());
    }
    let Ok(turn) = state.views.wait().await else {
        let detail = "many other numbers of units are asked for at once; try again";
        return Err(Refusal::too_many("too_many_numbers", detail));
    };
    let pools = state.pools.clone();
    // The turn ends with the work, also where the client has left.
    let made = run_blocking(move || {
        let _turn = turn;
        pools.make_view(wanted)
    });
    made.await?.ok_or_else(starting)
}

/// Runs what may take milliseconds where no other request waits for it.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    spawn_blocking(work).await.map_err(|error| internal(&error))
}

pub(super) fn starting() -> Refusal {
    Refusal::unavailable("starting", "nothing has been read from the database yet")
}

pub(super) fn as_of(view: &View) -> Result<DateTime<Utc>, Refusal> {
    time(view.as_of).ok_or_else(starting)
}

pub(super) fn internal(error: &dyn std::error::Error) -> Refusal {
    error!(%error, "failed to answer");
    let detail = "the answer could not be made; the log says why";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

/// An answer from memory, with a tag and with its age.
pub(super) fn respond(
    state: &ApiState,
    request: &HeaderMap,
    media_type: &'static str,
    body: Vec<u8>,
) -> Response {
    let etag =
        HeaderValue::try_from(format!("\"{}\"", content_hash(&body))).expect("hexadecimal digits");
    let age = state.published.age();
    let freshness = state.published.freshness(age);
    let is_known = has_tag(request, &etag);
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(body) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::AGE, age.as_secs().into());
    headers.insert(header::CACHE_CONTROL, state.published.cache_control().clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(&FRESHNESS, HeaderValue::from_static(freshness));
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

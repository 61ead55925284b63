//! `POST /v1/attempts`: what came of requests for hardware.

use std::sync::Arc;

use availability::Timestamp;
use axum::{Json, body::Body, extract::State};
use hardware_api::{AttemptBatch, AttemptSummary, Problem};
use http::HeaderMap;

use super::{
    ApiState, Refusal,
    body::read_body,
    ingest::{MAX_BODY_BYTES, finish, wait_for_turn, write},
    query::NoParameters,
};
use crate::{
    observation::{ReceivedAttempts, parse_attempts, summarize_attempts},
    store::{Arrival, StoreError},
};

/// Report attempts to get hardware
///
/// A failed attempt keeps the pool from being HIGH for a while. A batch is taken item by item: the answer lists
/// what was refused, and why. Sending a batch again changes nothing.
#[utoipa::path(
    post,
    path = "/v1/attempts",
    tag = "observations",
    request_body = AttemptBatch,
    responses(
        (status = OK, body = AttemptSummary,
            description = "The batch was processed, whatever became of its attempts"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "The batch as a whole is wrong: `invalid_json`, `invalid_field`, `unknown_parameter`"),
        (status = UNAUTHORIZED, body = Problem, content_type = "application/problem+json",
            description = "`unauthorized`: the bearer token is missing or wrong"),
        (status = FORBIDDEN, body = Problem, content_type = "application/problem+json",
            description = "`observations_disabled`: no token is configured; `wrong_source`: the token does not \
                open the source that the batch names"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json",
            description = "`body_too_slow`"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json",
            description = "`body_too_large`: more than 4 MiB"),
        (status = UNSUPPORTED_MEDIA_TYPE, body = Problem, content_type = "application/problem+json",
            description = "`unsupported_encoding`: a Content-Encoding other than gzip and identity"),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "`too_many_batches`: several batches of this source wait already"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`database_unavailable`: try again"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn add_attempts(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    _: NoParameters,
    body: Body,
) -> Result<Json<AttemptSummary>, Refusal> {
    let access = state.tokens.check(&headers)?;
    let body = read_body(&headers, body, MAX_BODY_BYTES).await?;
    let now = state.clock.now();
    let received = parse_attempts(&body, now)?;
    drop(body);
    access.check_source(&received.batch.source)?;
    let turn = wait_for_turn(&state, &received.batch.source).await?;
    let arrived = Timestamp::from_millis(now.timestamp_millis());
    let arrival = Arrival::new(arrived, state.history_retention);
    finish(&state, turn, take(Arc::clone(&state), received, arrival)).await
}

async fn take(
    state: Arc<ApiState>,
    received: ReceivedAttempts,
    arrival: Arrival,
) -> Result<AttemptSummary, StoreError> {
    let taken = write(|| state.db.record_attempts(&received.batch, arrival)).await?;
    state.wake.notify_one();
    Ok(summarize_attempts(received, &taken))
}

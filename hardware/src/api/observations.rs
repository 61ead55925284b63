//! `POST /v1/observations`: what sources report.

use std::sync::Arc;

use availability::Timestamp;
use axum::{Json, body::Body, extract::State};
use hardware_api::{ObservationBatch, ObservationSummary, Problem};
use http::HeaderMap;

use super::{
    ApiState, Refusal,
    body::read_body,
    ingest::{MAX_BODY_BYTES, finish, wait_for_turn, write},
    query::NoParameters,
};
use crate::{
    observation::{Received, parse_batch, summarize},
    store::{Arrival, StoreError},
};

/// Report what a source sees
///
/// A batch is taken item by item: the answer lists what was refused, and why. Sending a batch again
/// changes nothing if it says when its observations were made.
#[utoipa::path(
    post,
    path = "/v1/observations",
    tag = "observations",
    request_body = ObservationBatch,
    responses(
        (status = OK, body = ObservationSummary,
            description = "The batch was processed, whatever became of its observations"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "The batch as a whole is wrong: `invalid_json`, `invalid_field`, \
                `observed_in_future`, `unknown_parameter`"),
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
pub(super) async fn add_observations(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    _: NoParameters,
    body: Body,
) -> Result<Json<ObservationSummary>, Refusal> {
    let access = state.tokens.check(&headers)?;
    let body = read_body(&headers, body, MAX_BODY_BYTES).await?;
    let now = state.clock.now();
    let received = parse_batch(&body, now)?;
    drop(body);
    access.check_source(&received.batch.source)?;
    let turn = wait_for_turn(&state, &received.batch.source).await?;
    let arrived = Timestamp::from_millis(now.timestamp_millis());
    let arrival = Arrival::new(arrived, state.history_retention);
    finish(&state, turn, take(Arc::clone(&state), received, arrival)).await
}

async fn take(
    state: Arc<ApiState>,
    received: Received,
    arrival: Arrival,
) -> Result<ObservationSummary, StoreError> {
    let recorded = write(|| state.db.record(&received.batch, arrival)).await?;
    let latest = state.published.latest();
    let listed = latest.as_ref().map(|snapshot| &snapshot.listed);
    let summary = summarize(received, &recorded, arrival.at, listed);
    state.ingest_metrics.count(&summary);
    state.wake.notify_one();
    Ok(summary)
}

//! `POST /v1/observations`: what sources report.

use std::{sync::Arc, time::Duration};

use availability::Timestamp;
use axum::{Json, body::Body, extract::State};
use hardware_api::{ObservationBatch, ObservationSummary, Problem};
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;
use tracing::warn;

use super::{ApiState, Refusal, body::read_body, query::NoParameters};
use crate::{
    observation::{Batch, Received, Recorded, parse_batch, summarize},
    store::{Arrival, Db, StoreError},
};

/// Room for a full batch with every field set.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long a batch may take to be written, each time it is tried.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// A batch is tried again after a failure (a deadlock, a connection that was killed): repeating one
/// that was written after all changes nothing.
const ATTEMPTS: u32 = 3;

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
    let source = received.batch.source.clone();
    let Ok(turn) = state.queue.wait(&source).await else {
        let detail = format!("batches of {source:?} wait already; send fewer at once");
        return Err(Refusal::too_many("too_many_batches", &detail));
    };
    let arrived = Timestamp::from_millis(now.timestamp_millis());
    let arrival = Arrival::new(arrived, state.history_retention);
    // In a task of its own: the client may leave, the batch is written nevertheless.
    let taken = take(Arc::clone(&state), received, arrival);
    let taken = async move {
        let summary = taken.await;
        drop(turn);
        summary
    };
    match state.lifecycle.spawn_detached(taken).await {
        Ok(Ok(summary)) => Ok(Json(summary)),
        Ok(Err(error)) => {
            warn!(%error, "failed to write observations");
            let detail = "the database did not take the batch; send it again";
            Err(Refusal::unavailable("database_unavailable", detail))
        }
        Err(error) => {
            tracing::error!(%error, "the task that writes observations ended unexpectedly");
            let detail = "the batch may not have been written; send it again";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
        }
    }
}

async fn take(
    state: Arc<ApiState>,
    received: Received,
    arrival: Arrival,
) -> Result<ObservationSummary, StoreError> {
    let recorded = write(&state.db, &received.batch, arrival).await?;
    let latest = state.published.latest();
    let listed = latest.as_ref().map(|snapshot| &snapshot.listed);
    let summary = summarize(received, &recorded, arrival.at, listed);
    state.ingest_metrics.count(&summary);
    state.wake.notify_one();
    Ok(summary)
}

async fn write(db: &Db, batch: &Batch, arrival: Arrival) -> Result<Recorded, StoreError> {
    let mut attempt = 1;
    loop {
        let error = match timeout(WRITE_TIME, db.record(batch, arrival)).await {
            Ok(Ok(recorded)) => return Ok(recorded),
            Ok(Err(error)) => error,
            Err(_) => StoreError::TooSlow(WRITE_TIME),
        };
        if attempt == ATTEMPTS || !matches!(error, StoreError::Query(_)) {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "writing observations again");
        attempt += 1;
    }
}

//! How what sources send is written: in turn, again after a failure, and to its end.

use std::time::Duration;

use axum::Json;
use http::StatusCode;
use tokio::time::timeout;
use tracing::warn;

use super::{ApiState, Refusal, ingest_queue::Turn};
use crate::store::StoreError;

/// Room for a full batch with every field set.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How long a batch may take to be written, each time it is tried.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// A batch is tried again after a failure (a deadlock, a connection that was killed): repeating one
/// that was written after all changes nothing.
const ATTEMPTS: u32 = 3;

/// Waits for the turn of a batch of `source`.
pub(super) async fn wait_for_turn(state: &ApiState, source: &str) -> Result<Turn, Refusal> {
    state.queue.wait(source).await.map_err(|_| {
        let detail = format!("batches of {source:?} wait already; send fewer at once");
        Refusal::too_many("too_many_batches", &detail)
    })
}

/// Answers with what `taken` comes to, and keeps the turn until then. It is a task of its own: the client may leave,
/// the batch is written nevertheless.
pub(super) async fn finish<T: Send + 'static>(
    state: &ApiState,
    turn: Turn,
    taken: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    let taken = async move {
        let summary = taken.await;
        drop(turn);
        summary
    };
    match state.lifecycle.spawn_detached(taken).await {
        Ok(Ok(summary)) => Ok(Json(summary)),
        Ok(Err(error)) => {
            warn!(%error, "failed to write a batch");
            let detail = "the database did not take the batch; send it again";
            Err(Refusal::unavailable("database_unavailable", detail))
        }
        Err(error) => {
            tracing::error!(%error, "the task that writes a batch ended unexpectedly");
            let detail = "the batch may not have been written; send it again";
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
        }
    }
}

/// Writes a batch, again if need be.
pub(super) async fn write<T, F>(write_once: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut attempt = 1;
    loop {
        let error = match timeout(WRITE_TIME, write_once()).await {
            Ok(Ok(written)) => return Ok(written),
            Ok(Err(error)) => error,
            Err(_) => StoreError::TooSlow(WRITE_TIME),
        };
        if attempt == ATTEMPTS || !matches!(error, StoreError::Query(_)) {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "writing a batch again");
        attempt += 1;
    }
}

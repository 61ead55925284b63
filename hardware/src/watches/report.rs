//! What is said of watches to the operator, which writes it into their status.

use std::sync::Arc;

use availability::Wanted;
use chrono::{DateTime, Utc};
use hardware_api::filter::Filter;
use serde::Serialize;
use tokio::sync::watch;

use super::{WatchFile, standing::Standing};
use crate::{
    pools::time,
    store::{Db, StoreError},
};

/// Answers for `GET /watches` of the admin listener.
#[derive(Clone)]
pub struct WatchReports {
    pub(super) db: Arc<Db>,
    pub(super) latest: watch::Receiver<Arc<WatchFile>>,
}

/// One watch, as the process that answers has read it and as the database has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchReport {
    /// Name of the resource.
    pub name: String,
    /// Uid of the resource.
    pub uid: String,
    /// The generation that this process has read.
    pub generation: i64,
    /// Whether it may fire.
    pub armed: bool,
    /// Since when its level holds.
    pub holds_since: Option<DateTime<Utc>>,
    /// When it last fired.
    pub last_fired: Option<DateTime<Utc>>,
    /// When a receiver last took a message.
    pub last_delivered: Option<DateTime<Utc>>,
    /// Messages that are tried again.
    pub pending: u32,
    /// The latest failure of a receiver that has taken nothing since then.
    pub error: Option<TargetError>,
}

/// Why a receiver was not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetError {
    /// The receiver's place in the watch.
    pub target: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Why, without a secret.
    pub message: String,
    /// Whether it is not tried any more.
    pub given_up: bool,
    /// When it was last tried.
    pub at: Option<DateTime<Utc>>,
}

impl WatchReports {
    /// What each watch is about, and for how many units.
    #[must_use]
    pub fn filters(&self) -> Vec<(Filter, Wanted)> {
        let file = Arc::clone(&self.latest.borrow());
        file.watches.iter().map(|watch| (watch.filter(), watch.units)).collect()
    }

    /// Every watch of the file, in its order.
    pub async fn list(&self) -> Result<Vec<WatchReport>, StoreError> {
        let file = Arc::clone(&self.latest.borrow());
        if file.watches.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, mut deliveries) =
            (self.db.list_watches().await?, self.db.report_deliveries().await?);
        let reports = file.watches.iter().map(|watch| {
            let row = rows.get(&watch.uid);
            let Standing { armed, holds_since, fired } =
                row.map_or(Standing::NEW, |row| row.standing);
            let delivered = row.and_then(|row| row.delivered);
            let told = deliveries.remove(&watch.uid).unwrap_or_default();
            let error = told.failure.map(|failure| TargetError {
                target: failure.target,
                attempts: failure.attempts,
                message: failure.error,
                given_up: failure.is_given_up,
                at: time(failure.at),
            });
            WatchReport {
                name: watch.name.clone(),
                uid: watch.uid.clone(),
                generation: watch.generation,
                armed,
                holds_since: holds_since.and_then(time),
                last_fired: fired.and_then(time),
                last_delivered: delivered.and_then(time),
                pending: told.pending,
                error,
            }
        });
        Ok(reports.collect())
    }
}

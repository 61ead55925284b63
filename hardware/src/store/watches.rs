//! Where watches stand, and what is still to be told of those that fired.

use std::collections::HashMap;

use availability::Timestamp;
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Text},
};

use super::{
    Db, StoreError,
    connection::{Connection, Insert, OnConflict, Statement},
    lease::{Lease, Step},
    schema::{delivery, watch_state},
};
use crate::watches::Standing;

/// Where one watch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRow {
    /// Of its resource.
    pub uid: String,
    /// Of its resource, when it was last evaluated.
    pub generation: i64,
    /// Where it stands.
    pub standing: Standing,
    /// When a receiver last took a message; not written with the rest.
    pub delivered: Option<Timestamp>,
    /// When it was last evaluated, or some time before.
    pub seen: Timestamp,
}

/// What one receiver is still to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The same in every try.
    pub id: String,
    /// The watch.
    pub uid: String,
    /// The receiver's place in it.
    pub target: u32,
    /// When the watch fired.
    pub made: Timestamp,
    /// What is told, as JSON.
    pub firing: String,
    /// How often it was tried in vain.
    pub attempts: u32,
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The receiver has taken it.
    Delivered,
    /// It has not.
    Failed {
        /// Why, without a secret.
        error: String,
        /// When to try again; none to give it up.
        due: Option<Timestamp>,
    },
}

/// What is known of the deliveries of one watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Those that are tried again.
    pub pending: u32,
    /// The latest failure.
    pub failure: Option<DeliveryFailure>,
}

/// A delivery that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// The receiver's place in the watch.
    pub target: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// Why, without a secret.
    pub error: String,
    /// When it was last tried.
    pub at: Timestamp,
    /// Whether it is not tried any more.
    pub is_given_up: bool,
}

#[derive(QueryableByName)]
#[diesel(table_name = watch_state)]
struct StoredWatch {
    uid: String,
    generation: i64,
    armed: i32,
    holds_since: Option<i64>,
    fired: Option<i64>,
    delivered: Option<i64>,
    seen: i64,
}

#[derive(QueryableByName)]
#[diesel(table_name = delivery)]
struct StoredDelivery {
    id: String,
    uid: String,
    target: i32,
    made: i64,
    firing: String,
    attempts: i32,
}

#[derive(QueryableByName)]
#[diesel(table_name = delivery)]
struct StoredFailure {
    uid: String,
    target: i32,
    attempts: i32,
    error: Option<String>,
    failed: Option<i64>,
    given_up: Option<i64>,
}

#[derive(QueryableByName)]
struct Pending {
    #[diesel(sql_type = Text)]
    uid: String,
    #[diesel(sql_type = BigInt)]
    pending: i64,
}

impl From<StoredWatch> for WatchRow {
    fn from(row: StoredWatch) -> Self {
        let time = |at: Option<i64>| at.map(Timestamp::from_millis);
        Self {
            uid: row.uid,
            generation: row.generation,
            standing: Standing {
                armed: row.armed != 0,
                holds_since: time(row.holds_since),
                fired: time(row.fired),
            },
            delivered: time(row.delivered),
            seen: Timestamp::from_millis(row.seen),
        }
    }
}

impl From<StoredDelivery> for DeliveryRow {
    fn from(row: StoredDelivery) -> Self {
        Self {
            id: row.id,
            uid: row.uid,
            target: u32::try_from(row.target).unwrap_or(u32::MAX),
            made: Timestamp::from_millis(row.made),
            firing: row.firing,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
        }
    }
}

impl Db {
    /// Where each watch stands, by uid.
    pub async fn list_watches(&self) -> Result<HashMap<String, WatchRow>, StoreError> {
        let query = Statement::new(
            "SELECT uid, generation, armed, holds_since, fired, delivered, seen FROM watch_state",
        );
        let rows: Vec<StoredWatch> =
            self.read(async |connection| connection.load(query).await).await?;
        Ok(rows.into_iter().map(|row| (row.uid.clone(), row.into())).collect())
    }

    /// Stores where watches stand, and in the same transaction what is to be told.
    pub async fn record_watches(
        &self,
        lease: &Lease,
        watches: &[WatchRow],
        deliveries: &[DeliveryRow],
    ) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            write_watches(connection, watches).await?;
            write_deliveries(connection, deliveries).await?;
            Ok(Step::Did(deliveries.len()))
        })
        .await
    }

    /// At most `limit` deliveries that are due: those first that were not tried yet, so that a receiver that is
    /// away holds nobody else up.
    pub async fn list_due_deliveries(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let query = Statement::new(
            "SELECT id, uid, target, made, firing, attempts FROM delivery \
             WHERE given_up IS NULL AND due <= ? \
             ORDER BY CASE WHEN attempts = 0 THEN 0 ELSE 1 END, due LIMIT ?",
        );
        let query = query.bind(now.as_millis()).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<StoredDelivery> =
            self.read(async |connection| connection.load(query).await).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Stores what came of deliveries that were tried at `now`. It is true whoever has the lease by then.
    pub async fn record_tries(
        &self,
        tries: &[(DeliveryRow, Tried)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(async |connection| {
            for (delivery, tried) in tries {
                match tried {
                    Tried::Delivered => {
                        let told = Statement::new("DELETE FROM delivery WHERE id = ?");
                        connection.execute(told.bind(&delivery.id)).await?;
                        // What this receiver was not told before is no news any more.
                        let old = Statement::new(
                            "DELETE FROM delivery WHERE uid = ? AND target = ? AND given_up IS NOT NULL",
                        );
                        let old = old.bind(&delivery.uid).bind(i64::from(delivery.target));
                        connection.execute(old).await?;
                        let noted =
                            Statement::new("UPDATE watch_state SET delivered = ? WHERE uid = ?");
                        let noted = noted.bind(now.as_millis()).bind(&delivery.uid);
                        connection.execute(noted).await?;
                    }
                    Tried::Failed { error, due } => {
                        let failed = Statement::new(
                            "UPDATE delivery SET attempts = attempts + 1, error = ?, failed = ?, \
                             due = ?, given_up = ? WHERE id = ?",
                        );
                        let given_up = due.is_none().then_some(now.as_millis());
                        let failed = failed.bind(error).bind(now.as_millis());
                        let failed = failed.bind(due.unwrap_or(now).as_millis()).bind(given_up);
                        connection.execute(failed.bind(&delivery.id)).await?;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// What is pending and what failed, by the uid of the watch.
    pub async fn report_deliveries(&self) -> Result<HashMap<String, DeliveryReport>, StoreError> {
        let pending = Statement::new(
            "SELECT uid, COUNT(*) AS pending FROM delivery WHERE given_up IS NULL GROUP BY uid",
        );
        let failures = Statement::new(
            "SELECT uid, target, attempts, error, failed, given_up FROM delivery \
             WHERE error IS NOT NULL ORDER BY failed",
        );
        let (pending, failures) = self
            .read(async |connection| {
                let pending: Vec<Pending> = connection.load(pending).await?;
                let failures: Vec<StoredFailure> = connection.load(failures).await?;
                Ok((pending, failures))
            })
            .await?;
        let mut reports: HashMap<String, DeliveryReport> = HashMap::new();
        for Pending { uid, pending } in pending {
            reports.entry(uid).or_default().pending = u32::try_from(pending).unwrap_or(u32::MAX);
        }
        for row in failures {
            let (Some(error), Some(at)) = (row.error, row.failed) else { continue };
            let failure = DeliveryFailure {
                target: u32::try_from(row.target).unwrap_or(u32::MAX),
                attempts: u32::try_from(row.attempts).unwrap_or(0),
                error,
                at: Timestamp::from_millis(at),
                is_given_up: row.given_up.is_some(),
            };
            // They come in their order, so that the latest stays.
            reports.entry(row.uid).or_default().failure = Some(failure);
        }
        Ok(reports)
    }

    /// Deletes what is known of watches that nobody has evaluated since `before`, and deliveries that were made
    /// before then and are still not taken.
    pub async fn forget_watches(
        &self,
        lease: &Lease,
        before: Timestamp,
    ) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            let mut deleted = 0;
            for sql in
                ["DELETE FROM watch_state WHERE seen < ?", "DELETE FROM delivery WHERE made < ?"]
            {
                let delete = Statement::new(sql).bind(before.as_millis());
                deleted += connection.execute(delete).await?;
            }
            Ok(if deleted == 0 { Step::Done } else { Step::Did(deleted) })
        })
        .await
    }
}

async fn write_watches(connection: &mut Connection<'_>, watches: &[WatchRow]) -> QueryResult<()> {
    let into = Insert {
        table: "watch_state",
        columns: &["uid", "generation", "armed", "holds_since", "fired", "seen"],
        on_conflict: OnConflict::Overwrite { key: &["uid"] },
    };
    let rows = watches.iter().map(|watch| {
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let Standing { armed, holds_since, fired } = watch.standing;
        vec![
            (&watch.uid).into(),
            watch.generation.into(),
            i64::from(armed).into(),
            millis(holds_since).into(),
            millis(fired).into(),
            watch.seen.as_millis().into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await
}

async fn write_deliveries(
    connection: &mut Connection<'_>,
    deliveries: &[DeliveryRow],
) -> QueryResult<()> {
    let into = Insert {
        table: "delivery",
        columns: &["id", "uid", "target", "made", "firing", "attempts", "due"],
        on_conflict: OnConflict::Ignore,
    };
    let rows = deliveries.iter().map(|delivery| {
        vec![
            (&delivery.id).into(),
            (&delivery.uid).into(),
            i64::from(delivery.target).into(),
            delivery.made.as_millis().into(),
            (&delivery.firing).into(),
            i64::from(delivery.attempts).into(),
            delivery.made.as_millis().into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await
}

//! Levels when changes were last looked for, and the changes themselves.

use availability::{Level, Timestamp};
use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Binary, Integer, Nullable, Text},
};

use super::{
    Db, StoreError,
    connection::{Connection, Insert, OnConflict, Statement},
    lease::{Lease, Step},
    schema::level_change,
};
use crate::{
    levels::{Buckets, KEPT_CHANGES, LevelChange},
    observation::PoolName,
};

/// Buckets in one statement: of a million supplies each has 40 kB.
const BUCKETS_PER_STATEMENT: usize = 32;

/// What was known when changes were last looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLevels {
    /// Grows with each look that wrote.
    pub revision: i64,
    /// The levels.
    pub buckets: Buckets,
}

/// What the feed of changes is made from, and which changes there are.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct FeedState {
    /// No other database has the same.
    #[diesel(sql_type = Text)]
    pub seed: String,
    /// When an empty feed was last updated, in milliseconds.
    #[diesel(sql_type = BigInt)]
    pub created: i64,
    /// The id of the first change that is kept.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub oldest: Option<i64>,
    /// The id of the last change.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub newest: Option<i64>,
}

/// A change as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRow {
    /// Grows with each change.
    pub id: i64,
    /// The change.
    pub change: LevelChange,
}

#[derive(QueryableByName)]
struct BucketRow {
    #[diesel(sql_type = Integer)]
    bucket: i32,
    #[diesel(sql_type = Binary)]
    levels: Vec<u8>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
#[diesel(table_name = level_change)]
struct StoredChange {
    id: i64,
    at: i64,
    provider: String,
    name: String,
    region: String,
    zone: String,
    tier: String,
    unit: String,
    source: String,
    from_level: String,
    to_level: String,
    probability: Option<f64>,
    sentence: String,
}

impl StoredChange {
    /// None for a row that another version or somebody by hand wrote.
    fn read(self) -> Option<ChangeRow> {
        let level = |word: &str| Level::ALL.into_iter().find(|level| level.as_str() == word);
        let (from, to) = (level(&self.from_level)?, level(&self.to_level)?);
        let Self { id, at, provider, name, region, zone, tier, unit, source, .. } = self;
        let change = LevelChange {
            at: Timestamp::from_millis(at),
            pool: PoolName { provider, name, region, zone, tier, unit },
            source,
            from,
            to,
            probability: self.probability,
            sentence: self.sentence,
        };
        Some(ChangeRow { id, change })
    }
}

impl Db {
    /// The levels when changes were last looked for.
    pub async fn known_levels(&self) -> Result<KnownLevels, StoreError> {
        self.read(async |connection| {
            // First: what is written meanwhile has another revision.
            let revision = "SELECT revision AS value FROM level_feed WHERE id = 1";
            let revision = connection.number(Statement::new(revision)).await?;
            let revision = revision.ok_or(Error::NotFound)?;
            let buckets = Statement::new("SELECT bucket, levels FROM known_level");
            let buckets: Vec<BucketRow> = connection.load(buckets).await?;
            let buckets = buckets.into_iter().filter_map(|BucketRow { bucket, levels }| {
                Some((u8::try_from(bucket).ok()?, levels))
            });
            Ok(KnownLevels { revision, buckets: buckets.collect() })
        })
        .await
    }

    /// Stores what a look has found that began with the levels of `revision`. [`Step::Done`] means that what it
    /// began with is outdated and nothing was stored, as where an earlier look was cut off while the database
    /// committed it.
    pub async fn record_levels(
        &self,
        lease: &Lease,
        revision: i64,
        buckets: Buckets,
        changes: &[LevelChange],
    ) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            let next = Statement::new(
                "UPDATE level_feed SET revision = revision + 1 WHERE id = 1 AND revision = ?",
            );
            if connection.execute(next.bind(revision)).await? == 0 {
                return Ok(Step::Done);
            }
            write_buckets(connection, buckets).await?;
            write_changes(connection, changes).await?;
            Ok(Step::Did(changes.len()))
        })
        .await
    }

    /// What the feed is made from; none if somebody deleted it.
    pub async fn feed_state(&self) -> Result<Option<FeedState>, StoreError> {
        let query = Statement::new(
            "SELECT seed, created, (SELECT MIN(id) FROM level_change) AS oldest, \
             (SELECT MAX(id) FROM level_change) AS newest FROM level_feed WHERE id = 1",
        );
        self.read(async |connection| connection.first(query).await).await
    }

    /// The changes after the one with the id `after`, the oldest first.
    pub async fn list_level_changes(&self, after: i64) -> Result<Vec<ChangeRow>, StoreError> {
        let query = Statement::new(
            "SELECT id, at, provider, name, region, zone, tier, unit, source, from_level, to_level, \
             probability, sentence FROM level_change WHERE id > ? ORDER BY id",
        );
        let query = query.bind(after);
        let rows: Vec<StoredChange> =
            self.read(async |connection| connection.load(query).await).await?;
        Ok(rows.into_iter().filter_map(StoredChange::read).collect())
    }
}

async fn write_buckets(connection: &mut Connection<'_>, buckets: Buckets) -> QueryResult<()> {
    let on_conflict = OnConflict::Overwrite { key: &["bucket"] };
    let into = Insert { table: "known_level", columns: &["bucket", "levels"], on_conflict };
    let mut rows = buckets
        .into_iter()
        .map(|(bucket, levels)| vec![i32::from(bucket).into(), levels.into()])
        .peekable();
    while rows.peek().is_some() {
        connection.insert(&into, rows.by_ref().take(BUCKETS_PER_STATEMENT)).await?;
    }
    Ok(())
}

/// Adds changes, and deletes what is then too much.
async fn write_changes(
    connection: &mut Connection<'_>,
    changes: &[LevelChange],
) -> QueryResult<()> {
    let columns = [
        "at",
        "provider",
        "name",
        "region",
        "zone",
        "tier",
        "unit",
        "source",
        "from_level",
        "to_level",
        "probability",
        "sentence",
    ];
    // No row has the key of another one: the database gives it.
    let into = Insert { table: "level_change", columns: &columns, on_conflict: OnConflict::Ignore };
    let rows = changes.iter().map(|change| {
        let LevelChange { at, pool, source, from, to, probability, sentence } = change;
        let PoolName { provider, name, region, zone, tier, unit } = pool;
        vec![
            at.as_millis().into(),
            provider.into(),
            name.into(),
            region.into(),
            zone.into(),
            tier.into(),
            unit.into(),
            source.into(),
            from.as_str().into(),
            to.as_str().into(),
            (*probability).into(),
            sentence.into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await?;
    let too_old = Statement::new("SELECT id FROM level_change ORDER BY id DESC LIMIT 1 OFFSET ?");
    let kept = i64::try_from(KEPT_CHANGES).unwrap_or(i64::MAX);
    let too_old: Option<Id> = connection.first(too_old.bind(kept)).await?;
    if let Some(Id { id }) = too_old {
        let delete = Statement::new("DELETE FROM level_change WHERE id <= ?");
        connection.execute(delete.bind(id)).await?;
    }
    Ok(())
}

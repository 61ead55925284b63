//! What is written can be read, by however many at once.

use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDateTime};
use futures::future::join_all;
use hardware::{
    observation::{Batch, Observation, Outcome, PoolName, Recorded, Supply},
    store::{CatalogEntry, Db, StoreError},
};

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    rows_keep_the_order_of_the_table,
    many_that_add_the_catalog_at_once_add_it_once,
    a_batch_is_recorded_once_however_often_it_is_sent,
    readers_find_what_changed_since_the_revision_they_know,
    outcomes_come_in_the_order_of_the_batch,
    a_run_that_ends_is_kept,
    a_batch_that_fails_leaves_nothing,
    eight_writers_on_eight_connections_never_fail,
    new_pools_of_many_sources_at_once_never_fail,
    a_full_batch_of_new_pools_is_recorded_within_seconds,
);

fn at(second: i64) -> NaiveDateTime {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("in range").naive_utc()
}

fn seen(name: &str, second: i64, free: i32) -> Observation {
    let pool = PoolName {
        provider: "Amazon".to_owned(),
        name: name.to_owned(),
        region: "us-east-1".to_owned(),
        zone: String::new(),
        tier: "on-demand".to_owned(),
        unit: "unit".to_owned(),
    };
    Observation {
        index: 0,
        pool,
        observed_at: at(second),
        supply: Supply::Counts { total: 8, free },
    }
}

fn batch(source: &str, observations: Vec<Observation>) -> Batch {
    Batch { source: source.to_owned(), expected_interval_s: 60, observations }
}

async fn record(db: &Db, batch: &Batch) -> Recorded {
    db.record(batch, at(0)).await.expect("recorded")
}

fn count(recorded: &Recorded, expected: &Outcome) -> usize {
    recorded.outcomes.iter().filter(|outcome| *outcome == expected).count()
}

async fn rows_keep_the_order_of_the_table(database: TestDatabase) {
    let db = database.migrated().await;
    execute(&db, "INSERT INTO hardware (provider, name) VALUES ('Azure', 'H16mr')").await;
    execute(&db, "INSERT INTO hardware (provider, name) VALUES ('Amazon', 'c5 \u{1F680}')").await;
    let rows = db.list_hardware().await.expect("rows").rows;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["H16mr", "c5 \u{1F680}"]);
}

async fn many_that_add_the_catalog_at_once_add_it_once(database: TestDatabase) {
    drop(database.migrated().await);
    let entries: Vec<CatalogEntry> = (0..5)
        .map(|number| CatalogEntry { provider: "p".to_owned(), name: format!("n{number}") })
        .collect();
    let processes: Vec<Db> = (0..8).map(|_| database.connect()).collect();
    let added = join_all(processes.iter().map(|db| db.add_missing_hardware(&entries))).await;
    let added: usize = added.into_iter().map(|added| added.expect("added").added).sum();
    assert_eq!(added, 5);
    assert_eq!(processes[0].list_hardware().await.expect("rows").rows.len(), 5);
}

async fn a_batch_is_recorded_once_however_often_it_is_sent(database: TestDatabase) {
    use Outcome::{Accepted, Duplicate, Unchanged};
    let db = database.migrated().await;
    let reports = vec![seen("c5", 0, 2), seen("c5", 60, 2), seen("c5", 120, 1), seen("m5", 0, 0)];
    let batch = batch("lab", reports);
    let first = record(&db, &batch).await;
    assert_eq!(first.outcomes, [Accepted, Unchanged, Accepted, Accepted]);
    let again = record(&db, &batch).await;
    assert_eq!(again.outcomes, [Duplicate, Duplicate, Duplicate, Duplicate]);
}

async fn readers_find_what_changed_since_the_revision_they_know(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2), seen("m5", 0, 2)])).await;
    let source = db.list_sources().await.expect("sources").remove(0);
    assert_eq!((source.name.as_str(), source.revision, source.expected_interval_s), ("lab", 1, 60));
    let all = db.list_pools_changed_since(source.id, 0).await.expect("pools");
    assert_eq!(all.len(), 2);

    record(&db, &batch("lab", vec![seen("m5", 60, 2)])).await;
    let changed = db.list_pools_changed_since(source.id, source.revision).await.expect("pools");
    assert_eq!(changed.len(), 1, "only the pool that was seen again");
    let pool = &changed[0];
    assert_eq!((pool.name.as_str(), pool.region.as_str()), ("m5", "us-east-1"));
    assert_eq!((pool.started_at, pool.last_seen_at), (at(0), at(60)));
    assert_eq!((pool.total, pool.free), (Some(8), 2));
}

/// New pools, pools with a gap, and observations in no order of time or name.
async fn outcomes_come_in_the_order_of_the_batch(database: TestDatabase) {
    use Outcome::{Accepted, Unchanged};
    let db = database.migrated().await;
    let mixed = vec![seen("m5", 60, 2), seen("c5", 0, 2), seen("m5", 0, 2), seen("c5", 60, 1)];
    let recorded = record(&db, &batch("lab", mixed)).await;
    assert_eq!(recorded.outcomes, [Unchanged, Accepted, Accepted, Accepted]);
    assert_eq!(recorded.pools_with_gap, 0);
    let later = vec![seen("m5", 181, 2), seen("c5", 180, 1), seen("r5", 900, 1), seen("m5", 0, 9)];
    let recorded = record(&db, &batch("lab", later)).await;
    assert_eq!(recorded.outcomes, [Accepted, Unchanged, Accepted, Outcome::Duplicate]);
    assert_eq!(recorded.pools_with_gap, 1, "the first report of a pool ends no gap");
}

async fn a_run_that_ends_is_kept(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2), seen("c5", 60, 2)])).await;
    let mut yes = seen("c5", 90, 1);
    yes.supply = Supply::Available(true);
    record(&db, &batch("lab", vec![yes])).await;
    let source = db.list_sources().await.expect("sources").remove(0);
    let pool = db.list_pools_changed_since(source.id, 0).await.expect("pools").remove(0);
    assert_eq!((pool.total, pool.free), (None, 1));
    let ended = db.list_segments(&[pool.id], at(0)).await.expect("segments");
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].started_at, ended[0].last_seen_at), (at(0), at(60)));
    assert_eq!((ended[0].total, ended[0].free), (Some(8), 2));
    let recent = db.list_segments(&[pool.id], at(61)).await.expect("segments");
    assert_eq!(recent, [], "what ended before the window is not read");
}

async fn a_batch_that_fails_leaves_nothing(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2)])).await;
    execute(&db, "DROP TABLE segment").await;
    let change = batch("lab", vec![seen("m5", 60, 1), seen("c5", 60, 1)]);
    let failed = db.record(&change, at(0)).await;
    assert!(matches!(failed, Err(StoreError::Query(_))), "{failed:?}");
    let source = db.list_sources().await.expect("sources").remove(0);
    assert_eq!(source.revision, 1);
    let pools = db.list_pools_changed_since(source.id, 0).await.expect("pools");
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].free, 2);
}

/// SQLite with diesel's defaults fails 374 of 400 such writes.
async fn eight_writers_on_eight_connections_never_fail(database: TestDatabase) {
    drop(database.migrated().await);
    let processes: Vec<Db> = (0..8).map(|_| database.connect()).collect();
    let writers = processes.iter().enumerate().map(async |(writer, db)| {
        for turn in 0..50 {
            let source = format!("source-{writer}");
            let report = seen("c5", turn * 10, i32::try_from(turn % 3).expect("small"));
            record(db, &batch(&source, vec![report])).await;
        }
    });
    join_all(writers).await;
    let sources = processes[0].list_sources().await.expect("sources");
    let revisions: Vec<i64> = sources.iter().map(|source| source.revision).collect();
    assert_eq!(revisions, [50; 8]);
}

async fn new_pools_of_many_sources_at_once_never_fail(database: TestDatabase) {
    let db = database.migrated().await;
    let batches: Vec<Batch> = (0..16)
        .map(|source| {
            let pools = (0..40).map(|pool| seen(&format!("c{}", (pool * 7 + source) % 40), 0, 1));
            batch(&format!("source-{}", source % 8), pools.collect())
        })
        .collect();
    let all = join_all(batches.iter().map(|batch| record(&db, batch))).await;
    let accepted: usize = all.iter().map(|recorded| count(recorded, &Outcome::Accepted)).sum();
    assert_eq!(accepted, 8 * 40, "each source has each pool once");
}

/// 10 000 pools that nobody has seen before: the most work that one batch can make.
async fn a_full_batch_of_new_pools_is_recorded_within_seconds(database: TestDatabase) {
    let db = database.migrated().await;
    let reports = |second| (0..10_000).map(|pool| seen(&format!("c{pool}"), second, 1)).collect();
    let started = Instant::now();
    let first = record(&db, &batch("lab", reports(0))).await;
    assert_eq!(count(&first, &Outcome::Accepted), 10_000);
    let second = record(&db, &batch("lab", reports(60))).await;
    assert_eq!(count(&second, &Outcome::Unchanged), 10_000);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

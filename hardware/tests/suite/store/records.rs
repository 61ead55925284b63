//! What is written can be read, by however many at once.

use std::time::{Duration, Instant};

use availability::{ExpectedInterval, Observation, Segment, Timestamp};
use futures::future::join_all;
use hardware::{
    observation::{Batch, Item, Outcome, PoolName, Recorded, Unlisted},
    store::{Arrival, CatalogEntry, Db, PoolRow, StoreError},
};

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    rows_keep_the_order_of_the_table,
    many_that_add_the_catalog_at_once_add_it_once,
    a_batch_is_recorded_once_however_often_it_is_sent,
    readers_find_what_changed_since_the_revision_they_know,
    outcomes_come_in_the_order_of_the_batch,
    a_segment_that_closes_is_kept,
    a_segment_may_last_for_days,
    late_observations_are_merged,
    other_spellings_are_one_pool,
    a_batch_speaks_of_what_it_does_not_list,
    what_is_listed_goes_before_what_was_said_of_all,
    old_news_change_nothing,
    an_unreadable_state_is_folded_from_history,
    a_batch_that_fails_leaves_nothing,
    eight_writers_on_eight_connections_never_fail,
    new_pools_of_many_sources_at_once_never_fail,
    a_full_batch_of_new_pools_is_recorded_within_seconds,
);

/// A midnight.
const START: i64 = 19_676 * 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis((START + second) * 1000)
}

fn seen(name: &str, second: i64, free: u32) -> Item {
    let pool = PoolName {
        provider: "Amazon".to_owned(),
        name: name.to_owned(),
        region: "us-east-1".to_owned(),
        zone: String::new(),
        tier: "on-demand".to_owned(),
        unit: "unit".to_owned(),
    };
    Item { index: 0, pool, at: at(second), observation: Observation::counts(8, 8 - free) }
}

fn batch(source: &str, items: Vec<Item>) -> Batch {
    let interval = ExpectedInterval::default();
    Batch {
        source: source.to_owned(),
        interval,
        unlisted: None,
        problem: None,
        items,
        is_whole: true,
    }
}

fn arrival() -> Arrival {
    Arrival { at: at(0), oldest_kept: at(-30 * 86_400) }
}

async fn record(db: &Db, batch: &Batch) -> Recorded {
    db.record(batch, arrival()).await.expect("recorded")
}

/// The pools of the only source that changed after a revision.
async fn pools_since(db: &Db, revision: i64) -> Vec<PoolRow> {
    let source = db.list_sources().await.expect("sources").remove(0);
    db.list_changed_pools(source.id, revision, i32::MIN, 100).await.expect("pools")
}

async fn history(db: &Db, pool_id: i32) -> Vec<Segment> {
    db.list_history(pool_id).await.expect("history")
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
    assert_eq!(pools_since(&db, 0).await.len(), 2);

    record(&db, &batch("lab", vec![seen("m5", 60, 2)])).await;
    let changed = pools_since(&db, source.revision).await;
    assert_eq!(changed.len(), 1, "only the pool that was seen again");
    let PoolRow { pool, state } = &changed[0];
    assert_eq!((pool.name.as_str(), pool.region.as_str(), pool.retired), ("m5", "us-east-1", None));
    let expected =
        Segment { started: at(0), last_seen: at(60), observation: Observation::counts(8, 6) };
    assert_eq!(state.open_segment(), expected);

    let by_one = |after| db.list_changed_pools(source.id, -1, after, 1);
    let first = by_one(i32::MIN).await.expect("pools");
    let second = by_one(first[0].pool.id).await.expect("pools");
    let mut names = [&first, &second].map(|page| page[0].pool.name.as_str());
    names.sort_unstable();
    assert_eq!(names, ["c5", "m5"]);
    assert!(by_one(second[0].pool.id).await.expect("pools").is_empty());
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

async fn a_segment_that_closes_is_kept(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2), seen("c5", 60, 2)])).await;
    let mut yes = seen("c5", 90, 1);
    yes.observation = Observation::Available(true);
    record(&db, &batch("lab", vec![yes])).await;
    let pool = pools_since(&db, 0).await.remove(0);
    assert_eq!(pool.state.open_segment(), Segment::once(at(90), Observation::Available(true)));
    let expected =
        Segment { started: at(0), last_seen: at(60), observation: Observation::counts(8, 6) };
    assert_eq!(history(&db, pool.pool.id).await, [expected]);
}

/// The rows are cut at midnight, and put together again.
async fn a_segment_may_last_for_days(database: TestDatabase) {
    const DAY: i64 = 86_400;
    let db = database.migrated().await;
    let mut days =
        batch("lab", vec![seen("c5", 60, 2), seen("c5", DAY, 2), seen("c5", 2 * DAY + 5, 2)]);
    days.interval = ExpectedInterval::new(Duration::from_hours(24)).expect("in range");
    record(&db, &days).await;
    days.items = vec![seen("c5", 3 * DAY, 0)];
    record(&db, &days).await;
    let pool = pools_since(&db, 0).await.remove(0);
    let observation = Observation::counts(8, 6);
    let expected = Segment { started: at(60), last_seen: at(2 * DAY + 5), observation };
    let closed = history(&db, pool.pool.id).await;
    assert_eq!(closed, [expected]);
    let stored = closed.into_iter().chain([pool.state.open_segment()]).collect();
    let folded = hardware::observation::refold(stored, Vec::new(), days.interval);
    assert_eq!(folded.expect("history").1, pool.state.decode().expect("readable"));
    // What is too old is not written, however long it lasted.
    let kept = Arrival { at: at(5 * DAY), oldest_kept: at(4 * DAY) };
    days.items = vec![seen("c5", 4 * DAY + 10, 0), seen("c5", 4 * DAY + 20, 1)];
    db.record(&days, kept).await.expect("recorded");
    let last = history(&db, pool.pool.id).await.pop().expect("closed");
    assert_eq!((last.started, last.last_seen), (at(4 * DAY), at(4 * DAY + 10)));
}

/// What comes late gives the states that it would have given in time.
async fn late_observations_are_merged(database: TestDatabase) {
    let db = database.migrated().await;
    let all = [
        seen("c5", -90_000, 1),
        seen("c5", 0, 2),
        seen("c5", 60, 2),
        seen("c5", 300, 0),
        seen("c5", 360, 0),
        seen("c5", 5000, 3),
        seen("c5", 5060, 3),
    ];
    let is_late = [true, false, true, true, false, true, false];
    let pick = |late: bool| {
        let picked = all.iter().zip(is_late).filter(|(_, is_late)| *is_late == late);
        picked.map(|(item, _)| item.clone()).collect::<Vec<_>>()
    };
    record(&db, &batch("in order", all.to_vec())).await;
    record(&db, &batch("late", pick(false))).await;
    let late = record(&db, &batch("late", pick(true))).await;
    assert_eq!(late.outcomes, vec![Outcome::Late; 4]);
    let mut pools = Vec::new();
    for source in db.list_sources().await.expect("sources") {
        pools.extend(db.list_changed_pools(source.id, -1, i32::MIN, 10).await.expect("pools"));
    }
    let [one, other] = pools.as_slice() else { panic!("two pools, found {pools:?}") };
    assert_eq!(one.state.decode().expect("readable"), other.state.decode().expect("readable"));
    assert_eq!(history(&db, one.pool.id).await, history(&db, other.pool.id).await);
    let again = record(&db, &batch("late", pick(true))).await;
    assert_eq!(again.outcomes, vec![Outcome::Duplicate; 4]);
    let wrong = batch("late", vec![seen("c5", -31 * 86_400, 1), seen("c5", 30, 0)]);
    let refused = record(&db, &wrong).await.outcomes;
    assert!(matches!(refused[..], [Outcome::TooOld, Outcome::Contradicts(_)]), "{refused:?}");
}

async fn other_spellings_are_one_pool(database: TestDatabase) {
    let db = database.migrated().await;
    let mut other = seen(" C5", 60, 2);
    "AWS".clone_into(&mut other.pool.provider);
    "On Demand".clone_into(&mut other.pool.tier);
    let recorded = record(&db, &batch("lab", vec![seen("c5", 0, 2), other])).await;
    assert_eq!(recorded.outcomes, [Outcome::Accepted, Outcome::Unchanged]);
    assert_eq!(pools_since(&db, 0).await.remove(0).pool.provider, "Amazon", "as it was first");
}

/// A batch may confirm all that it does not list, or say that it is gone.
async fn a_batch_speaks_of_what_it_does_not_list(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2), seen("m5", 0, 1)])).await;
    let unchanged = |second: i64, items: Vec<Item>| Batch {
        unlisted: Some(Unlisted::Unchanged(at(second))),
        ..batch("lab", items)
    };
    for second in [60, 120, 120, 180] {
        record(&db, &unchanged(second, Vec::new())).await;
    }
    let source = db.list_sources().await.expect("sources").remove(0);
    let spans = async || db.list_coverage(source.id, 0).await.expect("spans");
    let ends: Vec<_> = spans().await.iter().map(|span| (span.started, span.last_seen)).collect();
    assert_eq!(ends, [(at(60).as_millis(), at(180).as_millis())]);
    assert!(pools_since(&db, 1).await.is_empty(), "no row of a pool was written");

    // The change closes a segment that lasted as long as the source said so.
    record(&db, &batch("lab", vec![seen("c5", 200, 0)])).await;
    let pools = pools_since(&db, 0).await;
    let c5 = pools.iter().find(|row| row.pool.name == "c5").expect("listed");
    let lasted = history(&db, c5.pool.id).await.remove(0);
    assert_eq!((lasted.started, lasted.last_seen), (at(0), at(180)));

    // Something was refused, so nothing is concluded.
    let mut broken = unchanged(220, Vec::new());
    broken.is_whole = false;
    assert!(record(&db, &broken).await.is_incomplete);
    assert_eq!(spans().await.remove(0).last_seen, at(180).as_millis());

    let gone =
        Batch { unlisted: Some(Unlisted::Gone(at(240))), ..batch("lab", vec![seen("c5", 240, 0)]) };
    assert_eq!(record(&db, &gone).await.retired, 1);
    assert_eq!(record(&db, &gone).await.retired, 0, "it is gone already");
    let m5 = pools.iter().find(|row| row.pool.name == "m5").expect("listed").pool.id;
    let retired = |pools: Vec<PoolRow>| {
        pools.into_iter().find(|row| row.pool.id == m5).expect("noticed").pool.retired
    };
    assert_eq!(retired(pools_since(&db, 0).await), Some(at(240).as_millis()));
    record(&db, &batch("lab", vec![seen("m5", 600, 1)])).await;
    assert_eq!(retired(pools_since(&db, 0).await), None, "it is back");
    let lasted = history(&db, m5).await.remove(0);
    assert_eq!((lasted.started, lasted.last_seen), (at(0), at(180)), "as long as it was there");
}

/// A batch of all changes is more than one may hold: the others of the same time go before what the first
/// said of all that it did not list, and so does what was on its way for long.
async fn what_is_listed_goes_before_what_was_said_of_all(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2), seen("m5", 0, 2)])).await;
    let unchanged = |second: i64, items: Vec<Item>| Batch {
        unlisted: Some(Unlisted::Unchanged(at(second))),
        ..batch("lab", items)
    };
    record(&db, &unchanged(60, vec![seen("c5", 60, 0)])).await;
    record(&db, &unchanged(120, Vec::new())).await;
    let late = batch("lab", vec![seen("m5", 60, 1), seen("c5", 60, 0)]);
    assert_eq!(record(&db, &late).await.outcomes, [Outcome::Accepted, Outcome::Duplicate]);
    assert_eq!(record(&db, &late).await.outcomes, vec![Outcome::Duplicate; 2]);
    let m5 = pools_since(&db, 0).await.into_iter().find(|row| row.pool.name == "m5");
    let m5 = m5.expect("listed");
    assert_eq!(m5.state.open_segment(), Segment::once(at(60), Observation::counts(8, 7)));
}

/// Neither a batch that is sent again nor one that was late brings a pool back that is gone, or changes how
/// often its source reports.
async fn old_news_change_nothing(database: TestDatabase) {
    let db = database.migrated().await;
    let first = batch("lab", vec![seen("c5", 0, 2), seen("m5", 0, 2)]);
    record(&db, &first).await;
    let unlisted = Some(Unlisted::Gone(at(240)));
    record(&db, &Batch { unlisted, ..batch("lab", vec![seen("c5", 240, 2)]) }).await;
    let mut slow = first.clone();
    slow.interval = ExpectedInterval::new(Duration::from_hours(1)).expect("in range");
    record(&db, &slow).await;
    let late = batch("lab", vec![seen("m5", 60, 2)]);
    assert_eq!(record(&db, &late).await.outcomes, [Outcome::Unchanged]);
    let pools = pools_since(&db, 0).await;
    let m5 = pools.iter().find(|row| row.pool.name == "m5").expect("listed");
    assert_eq!(m5.pool.retired, Some(at(240).as_millis()));
    assert!(pools.iter().all(|row| row.state.interval_s == 60), "{pools:?}");
}

/// An unreadable state, as a newer version may have written it, is folded anew and written, also where all
/// that a batch says is that nothing has changed.
async fn an_unreadable_state_is_folded_from_history(database: TestDatabase) {
    let db = database.migrated().await;
    let names: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    let all = |second: i64, free: u32| names.iter().map(move |name| seen(name, second, free));
    record(&db, &batch("lab", all(0, 2).chain(all(60, 0)).collect())).await;
    let before = pools_since(&db, 0).await.remove(0).state.decode().expect("readable");
    execute(&db, "UPDATE pool_state SET states = 'x'").await;
    assert!(pools_since(&db, 0).await.remove(0).state.decode().is_err());
    record(&db, &batch("lab", all(90, 0).collect())).await;
    for row in pools_since(&db, 0).await {
        let after = row.state.decode().expect("readable again");
        assert_eq!(after.open_segment().last_seen, at(90));
        assert_eq!(after.encode_states(), before.encode_states());
    }
}

async fn a_batch_that_fails_leaves_nothing(database: TestDatabase) {
    let db = database.migrated().await;
    record(&db, &batch("lab", vec![seen("c5", 0, 2)])).await;
    execute(&db, "DROP TABLE segment").await;
    let change = batch("lab", vec![seen("m5", 60, 1), seen("c5", 60, 1)]);
    let failed = db.record(&change, arrival()).await;
    assert!(matches!(failed, Err(StoreError::Query(_))), "{failed:?}");
    let source = db.list_sources().await.expect("sources").remove(0);
    assert_eq!(source.revision, 1);
    let pools = pools_since(&db, 0).await;
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].state.free, 2);
}

/// SQLite with diesel's defaults fails 374 of 400 such writes.
async fn eight_writers_on_eight_connections_never_fail(database: TestDatabase) {
    drop(database.migrated().await);
    let processes: Vec<Db> = (0..8).map(|_| database.connect()).collect();
    let writers = processes.iter().enumerate().map(async |(writer, db)| {
        for turn in 0..50 {
            let source = format!("source-{writer}");
            let report = seen("c5", turn * 10, u32::try_from(turn % 3).expect("small"));
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

//! Changes of levels are recorded once, by one process at a time.

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    ops::RangeInclusive,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use availability::{ExpectedInterval, Level, Observation, Timestamp};
use chrono::DateTime;
use hardware::{
    jobs::Jobs,
    levels::{Buckets, KEPT_CHANGES, LevelChange},
    observation::{Batch, Item, PoolName},
    pools::SharedPools,
    snapshot::Published,
    store::{Arrival, Db, Step},
};
use service_kit::Clock;

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    a_look_that_begins_with_what_is_outdated_stores_nothing,
    only_the_latest_changes_are_kept,
    any_name_is_told_as_it_was_shown,
    a_change_is_recorded_once_whoever_looks,
    what_a_process_shows_without_its_database_is_not_recorded,
    looks_that_are_cut_off_anywhere_lose_and_repeat_nothing,
);

/// A midnight.
const START: i64 = 20_000 * 86_400_000;

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(START + minute * 60_000)
}

fn pool(name: &str) -> PoolName {
    PoolName {
        provider: "lab".to_owned(),
        name: name.to_owned(),
        region: String::new(),
        zone: String::new(),
        tier: "owned".to_owned(),
        unit: "gpu".to_owned(),
    }
}

fn change(name: &str, at: Timestamp) -> LevelChange {
    LevelChange {
        at,
        pool: pool(name),
        source: "lab".to_owned(),
        from: Level::Low,
        to: Level::High,
        probability: Some(0.9132),
        sentence: "It is so.".to_owned(),
    }
}

async fn changes(db: &Db) -> Vec<LevelChange> {
    let rows = db.list_level_changes(0).await.expect("changes");
    assert!(rows.is_sorted_by(|one, next| one.id < next.id));
    rows.into_iter().map(|row| row.change).collect()
}

async fn a_look_that_begins_with_what_is_outdated_stores_nothing(database: TestDatabase) {
    let db = database.migrated().await;
    let lease = db.claim("jobs", "one", 60).await.expect("asked").expect("nobody has it");
    let known = db.known_levels().await.expect("read");
    assert_eq!((known.revision, known.buckets), (0, Buckets::new()));
    let buckets = |level: u8| Buckets::from([(0, vec![1, level]), (255, vec![1])]);
    let record = async |lease, revision, level, changes: &[LevelChange]| {
        db.record_levels(lease, revision, buckets(level), changes).await.expect("asked")
    };
    let silent = LevelChange { probability: None, to: Level::Unknown, ..change("b", minute(1)) };
    let found = [change("a", minute(1)), silent];
    assert_eq!(record(&lease, 0, 7, &found).await, Step::Did(2));
    assert_eq!(record(&lease, 0, 8, &found).await, Step::Done, "the same look again");
    execute(&db, "UPDATE job_lease SET until = 1").await;
    db.claim("jobs", "other", 60).await.expect("asked").expect("it is free");
    assert_eq!(record(&lease, 1, 9, &found).await, Step::LostLease);
    let known = db.known_levels().await.expect("read");
    assert_eq!((known.revision, known.buckets), (1, buckets(7)));
    assert_eq!(changes(&db).await, found);

    let state = db.feed_state().await.expect("read").expect("the row of the migration");
    assert!(!state.seed.is_empty() && state.created > 0, "{state:?}");
    let newest = state.newest.expect("two rows");
    assert!(state.oldest.is_some_and(|oldest| oldest < newest), "{state:?}");
    let last = db.list_level_changes(newest - 1).await.expect("changes");
    assert_eq!(last.len(), 1, "those that follow");
}

async fn only_the_latest_changes_are_kept(database: TestDatabase) {
    let db = database.migrated().await;
    let lease = db.claim("jobs", "one", 60).await.expect("asked").expect("nobody has it");
    let many = |count: usize, at: i64| {
        (0..count).map(|number| change(&number.to_string(), minute(at))).collect::<Vec<_>>()
    };
    for (revision, count) in [(0, KEPT_CHANGES - 1), (1, 3)] {
        let found = many(count, revision);
        let done = db.record_levels(&lease, revision, Buckets::new(), &found).await;
        assert_eq!(done.expect("recorded"), Step::Did(count));
    }
    let kept = changes(&db).await;
    assert_eq!(kept.len(), KEPT_CHANGES);
    assert_eq!(kept[0].pool.name, "2", "the first two are gone");
    let state = db.feed_state().await.expect("read").expect("a row");
    // By age as well, with what else is too old.
    assert_eq!(db.delete_old_history(&lease, minute(1)).await.expect("done"), Step::Did(9997));
    assert_eq!(changes(&db).await, many(3, 1));
    assert_eq!(db.delete_old_history(&lease, minute(2)).await.expect("done"), Step::Did(3));
    let empty = db.feed_state().await.expect("read").expect("a row");
    assert_eq!((empty.oldest, empty.newest, &empty.seed), (None, None, &state.seed));
    db.record_levels(&lease, 2, Buckets::new(), &many(1, 3)).await.expect("recorded");
    let again = db.feed_state().await.expect("read").expect("a row");
    assert!(again.newest > state.newest, "no id is given twice");
}

async fn any_name_is_told_as_it_was_shown(database: TestDatabase) {
    let db = database.migrated().await;
    let lease = db.claim("jobs", "one", 60).await.expect("asked").expect("nobody has it");
    let mut odd = change("<&\"'> 🚀 \u{202E}\u{1}?", minute(1));
    (odd.pool.zone, odd.sentence) = ("ß".repeat(64), "”".repeat(255));
    let found = [odd];
    db.record_levels(&lease, 0, Buckets::new(), &found).await.expect("recorded");
    assert_eq!(changes(&db).await, found);
}

/// A process with some pools that it reads from the database.
struct World {
    db: Arc<Db>,
    pools: SharedPools,
    now: Arc<AtomicI64>,
}

impl World {
    async fn new(database: &TestDatabase) -> Self {
        let db = Arc::new(database.migrated().await);
        Self { db, pools: SharedPools::default(), now: Arc::default() }
    }

    /// Jobs of a process that has read the same.
    fn jobs(&self, db: &Arc<Db>, published: Published) -> Jobs {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || {
            DateTime::from_timestamp_millis(now.load(Ordering::Relaxed)).expect("in range")
        });
        let kept = Duration::from_hours(24);
        Jobs::new(Arc::clone(db), self.pools.clone(), Arc::new(published), clock, kept)
    }

    /// Reports some pools of one unit each minute, and reads them.
    async fn report(&self, names: &[String], minutes: RangeInclusive<i64>, in_use: u32) {
        let last = minute(*minutes.end());
        let items = minutes.flat_map(|at| {
            names.iter().map(move |name| Item {
                index: 0,
                pool: pool(name),
                at: minute(at),
                observation: Observation::counts(1, in_use),
            })
        });
        let batch = Batch {
            source: "lab".to_owned(),
            interval: ExpectedInterval::default(),
            unlisted: None,
            problem: None,
            items: items.collect(),
            is_whole: true,
        };
        let arrival = Arrival { at: last, oldest_kept: minute(0) };
        self.db.record(&batch, arrival).await.expect("recorded");
        let source = self.db.list_sources().await.expect("sources").remove(0);
        let rows = self.db.list_changed_pools(source.id, -1, i32::MIN, 1000).await.expect("pools");
        for row in rows {
            self.pools.write().update(&row, &source, &[]);
        }
        self.tick(last);
    }

    fn tick(&self, now: Timestamp) {
        self.now.store(now.as_millis(), Ordering::Relaxed);
        assert!(self.pools.tick(&[], now).is_empty());
    }

    async fn found(&self) -> Vec<(String, Level, Level)> {
        let found = changes(&self.db).await.into_iter();
        found.map(|change| (change.pool.name, change.from, change.to)).collect()
    }
}

fn confirmed() -> Published {
    Published::new(Duration::from_hours(1))
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("g{number}")).collect()
}

async fn a_change_is_recorded_once_whoever_looks(database: TestDatabase) {
    let world = World::new(&database).await;
    let other_db = Arc::new(database.connect());
    let mut one = world.jobs(&world.db, confirmed());
    let mut other = world.jobs(&other_db, confirmed());
    assert!(one.run_due().await.expect("done"), "before anything was read");
    let (all, first) = (names(2), names(1));
    world.report(&all, 0..=240, 0).await;
    assert!(one.run_due().await.expect("done"));
    assert_eq!(world.found().await, [], "what was never seen has not changed");

    world.report(&first, 241..=242, 1).await;
    for _ in 0..2 {
        assert!(one.run_due().await.expect("done"));
        assert!(!other.run_due().await.expect("asked"), "it has not got the lease");
    }
    let fell = [("g0".to_owned(), Level::High, Level::Low)];
    assert_eq!(world.found().await, fell);
    let told = changes(&world.db).await.remove(0);
    assert_eq!((told.at, told.source.as_str()), (minute(242), "lab"));
    assert_eq!(told.sentence, "Fewer units are free than are wanted, as last seen.");
    assert!(told.probability.is_some_and(|p| p < 0.4), "{told:?}");

    // The lease passes on, with nothing new and then with something.
    execute(&world.db, "UPDATE job_lease SET until = 1").await;
    assert!(other.run_due().await.expect("done"));
    assert_eq!(world.found().await, fell);
    world.report(&first, 243..=244, 0).await;
    assert!(other.run_due().await.expect("done"));
    let found = world.found().await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[1].0.as_str(), found[1].1), ("g0", Level::Low));

    // All processes end, and something changes before the next one looks.
    drop((one, other));
    world.report(&all, 245..=246, 1).await;
    execute(&world.db, "UPDATE job_lease SET until = 1").await;
    let mut next = world.jobs(&other_db, confirmed());
    for _ in 0..2 {
        assert!(next.run_due().await.expect("done"));
    }
    let found = world.found().await;
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(found[2].1, found[1].2, "from what was told last");
    assert_eq!(found[3], ("g1".to_owned(), Level::High, Level::Low));

    // Nobody reports any longer, and then the pools are gone: both say nothing of hardware. What is too old is
    // deleted, as other history.
    world.tick(minute(246 + 24 * 60));
    assert!(next.run_due().await.expect("done"));
    world.pools.write().keep_sources(|_| false);
    world.tick(minute(247 + 24 * 60));
    assert!(next.run_due().await.expect("done"));
    assert_eq!(world.found().await, found[2..]);
}

async fn what_a_process_shows_without_its_database_is_not_recorded(database: TestDatabase) {
    let world = World::new(&database).await;
    let mut jobs = world.jobs(&world.db, Published::new(Duration::ZERO));
    world.report(&names(2), 0..=240, 0).await;
    assert!(jobs.run_due().await.expect("done"));
    assert_eq!(world.db.known_levels().await.expect("read").buckets, Buckets::new());
}

/// What comes of work that is dropped when it has waited so often.
async fn within_polls<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn looks_that_are_cut_off_anywhere_lose_and_repeat_nothing(database: TestDatabase) {
    let world = World::new(&database).await;
    let all = names(300);
    world.report(&all, 0..=130, 0).await;
    let mut jobs = world.jobs(&world.db, confirmed());
    assert!(jobs.run_due().await.expect("done"));
    let mut cut_off = 0;
    for round in 0..40 {
        world.report(&all, 131 + round..=131 + round, u32::from(round % 4 < 2)).await;
        match within_polls(usize::try_from(round / 2).expect("small"), jobs.run_due()).await {
            Some(done) => assert!(done.expect("done")),
            None => cut_off += 1,
        }
    }
    assert!(cut_off > 3, "{cut_off} were cut off");
    assert!(jobs.run_due().await.expect("done"));
    let found = world.found().await;
    let mut told: HashMap<&str, Vec<(Level, Level)>> = HashMap::new();
    for (name, from, to) in &found {
        told.entry(name).or_default().push((*from, *to));
    }
    assert_eq!(told.len(), all.len());
    let mut ends = BTreeMap::new();
    for (name, told) in &told {
        assert_eq!(told[0].0, Level::High, "{name}: {told:?}");
        assert!(told.iter().all(|(from, to)| from != to), "{name}: {told:?}");
        assert!(told.windows(2).all(|pair| pair[0].1 == pair[1].0), "{name}: {told:?}");
        *ends.entry(told.clone()).or_insert(0) += 1;
    }
    assert_eq!(ends.len(), 1, "all pools had the same course: {ends:?}");
    // The last look was not cut off: a later one has nothing to add.
    assert!(jobs.run_due().await.expect("done"));
    assert_eq!(world.found().await.len(), found.len());
}

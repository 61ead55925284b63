//! What one process does for all of them, and history that is no longer kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use availability::{ExpectedInterval, Observation, SourceKind, Timestamp, Wanted};
use chrono::{DateTime, Utc};
use hardware::{
    jobs::Jobs,
    observation::{Batch, Item, PoolName},
    pools::SharedPools,
    snapshot::Published,
    store::{Arrival, Db, Step},
};
use service_kit::Clock;

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    one_process_has_the_lease_until_it_ends,
    history_is_deleted_day_by_day_and_no_more_than_that,
    jobs_run_in_one_process,
    a_forecast_is_scored_once,
    jobs_that_are_cut_off_anywhere_count_once,
);

const DAY_MS: i64 = 86_400_000;

/// A midnight.
const START: i64 = 20_000 * DAY_MS;

async fn one_process_has_the_lease_until_it_ends(database: TestDatabase) {
    let one = database.migrated().await;
    let other = database.connect();
    let claimed = one.claim("jobs", "one", 60).await.expect("asked").expect("nobody has it");
    assert_eq!(other.claim("jobs", "other", 60).await.expect("asked"), None);
    let kept = one.claim("jobs", "one", 60).await.expect("asked").expect("it has it");
    assert_eq!(kept, claimed, "it is the same lease");
    assert!(other.claim("another job", "other", 60).await.expect("asked").is_some());
    // The holder is gone, and its time is over.
    execute(&one, "UPDATE job_lease SET until = 1").await;
    let taken = other.claim("jobs", "other", 60).await.expect("asked").expect("it is free");
    assert_ne!(taken, claimed);
    let late = one.delete_old_history(&claimed, Timestamp::from_millis(START)).await;
    assert_eq!(late.expect("asked"), Step::LostLease, "whoever was slow notices");
}

/// What says that the pools were read just now.
fn published() -> Arc<Published> {
    Arc::new(Published::new(Duration::from_mins(1)))
}

/// A change each hour for some days.
async fn fill(db: &Db, days: i64) {
    let pool = |name: &str| PoolName {
        provider: "lab".to_owned(),
        name: name.to_owned(),
        region: String::new(),
        zone: String::new(),
        tier: "owned".to_owned(),
        unit: "gpu".to_owned(),
    };
    let items = (0..days * 24).flat_map(|hour| {
        ["a100", "h100"].map(|name| Item {
            index: 0,
            pool: pool(name),
            at: Timestamp::from_millis(START + hour * 3_600_000),
            observation: Observation::counts(8, u32::try_from(hour % 2).expect("0 or 1")),
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
    let at = Timestamp::from_millis(START);
    db.record(&batch, Arrival { at, oldest_kept: at }).await.expect("recorded");
}

async fn days_of_history(db: &Db) -> Vec<i64> {
    let source = db.list_sources().await.expect("sources").remove(0);
    let pools = db.list_changed_pools(source.id, -1, i32::MIN, 10).await.expect("pools");
    let mut days = Vec::new();
    for row in pools {
        let history = db.list_history(row.pool.id).await.expect("history");
        days.extend(history.iter().map(|part| (part.started.as_millis() - START) / DAY_MS));
    }
    days.sort_unstable();
    days.dedup();
    days
}

async fn history_is_deleted_day_by_day_and_no_more_than_that(database: TestDatabase) {
    let db = database.migrated().await;
    fill(&db, 5).await;
    assert_eq!(days_of_history(&db).await, [0, 1, 2, 3, 4]);
    let lease = db.claim("jobs", "one", 60).await.expect("asked").expect("nobody has it");
    // In the middle of the third day: of that day all is kept.
    let oldest_kept = Timestamp::from_millis(START + 2 * DAY_MS + DAY_MS / 2);
    let delete = || db.delete_old_history(&lease, oldest_kept);
    assert_eq!(delete().await.expect("deleted"), Step::Did(48));
    assert_eq!(delete().await.expect("deleted"), Step::Did(48));
    assert_eq!(delete().await.expect("deleted"), Step::Done);
    assert_eq!(days_of_history(&db).await, [2, 3, 4]);
}

async fn jobs_run_in_one_process(database: TestDatabase) {
    let db = Arc::new(database.migrated().await);
    fill(&db, 3).await;
    let now = DateTime::<Utc>::from_timestamp_millis(START + 10 * DAY_MS).expect("in range");
    let jobs = |db: &Arc<Db>| {
        let kept = Duration::from_hours(9 * 24);
        let (pools, published) = (SharedPools::default(), published());
        Jobs::new(Arc::clone(db), pools, published, Clock::new(move || now), kept)
    };
    let (mut one, mut other) = (jobs(&db), jobs(&Arc::new(database.connect())));
    assert!(one.run_due().await.expect("done"));
    assert_eq!(days_of_history(&db).await, [1, 2]);
    assert!(!other.run_due().await.expect("asked"), "the other one has the lease");
    execute(&db, "UPDATE job_lease SET until = 1").await;
    assert!(other.run_due().await.expect("done"), "its holder is gone");
    assert!(!one.run_due().await.expect("asked"));
}

/// One GPU that was free for four hours, and is taken for the hour after that.
async fn a_forecast_is_scored_once(database: TestDatabase) {
    let db = Arc::new(database.migrated().await);
    let minute = |minute: i64| Timestamp::from_millis(START + minute * 60_000);
    let report = async |minutes: std::ops::Range<i64>, in_use: u32| {
        let pool = PoolName {
            provider: "lab".to_owned(),
            name: "a100".to_owned(),
            region: String::new(),
            zone: String::new(),
            tier: "owned".to_owned(),
            unit: "gpu".to_owned(),
        };
        let items = minutes.map(|at| Item {
            index: 0,
            pool: pool.clone(),
            at: minute(at),
            observation: Observation::counts(1, in_use),
        });
        let batch = Batch {
            source: "lab".to_owned(),
            interval: ExpectedInterval::default(),
            unlisted: None,
            problem: None,
            items: items.collect(),
            is_whole: true,
        };
        let arrival = Arrival { at: minute(240), oldest_kept: minute(0) };
        db.record(&batch, arrival).await.expect("recorded");
    };
    report(0..240, 0).await;
    let source = db.list_sources().await.expect("sources").remove(0);
    let row = db.list_changed_pools(source.id, -1, i32::MIN, 10).await.expect("pools").remove(0);
    let pools = SharedPools::default();
    pools.write().update(&row, &source, &[]);
    let said = pools.read().sample(5, minute(240)).remove(0).uncorrected;
    assert!(said > 0.8, "{said}");

    let time = Arc::new(AtomicI64::new(minute(240).as_millis()));
    let shown = Arc::clone(&time);
    let clock = Clock::new(move || {
        DateTime::from_timestamp_millis(shown.load(Ordering::Relaxed)).expect("in range")
    });
    let kept = Duration::from_hours(24);
    let mut jobs = Jobs::new(Arc::clone(&db), pools, published(), clock, kept);
    assert!(jobs.run_due().await.expect("sampled"));
    report(240..320, 1).await;
    // Its hour has passed, but what is late may still come.
    time.store(minute(309).as_millis(), Ordering::Relaxed);
    assert!(jobs.run_due().await.expect("asked"));
    let day = i32::try_from(START / DAY_MS).expect("a day");
    assert_eq!(db.list_quality(day).await.expect("read"), []);
    for _ in 0..3 {
        time.store(minute(310).as_millis(), Ordering::Relaxed);
        assert!(jobs.run_due().await.expect("scored"));
    }
    let record = db.list_quality(day).await.expect("read");
    let bands: Vec<_> =
        record.iter().map(|row| (row.curve.as_str(), row.band, row.forecasts)).collect();
    let band = record[0].band;
    assert_eq!(bands, [("corrected", band, 1), ("level", 0, 1), ("uncorrected", band, 1)]);
    assert!((record[0].predicted - said).abs() < 1e-9, "{record:?}");
    assert!(record[0].observed < 0.05, "two minutes were spoken for: {record:?}");
    let learned = db.list_corrections().await.expect("read");
    let table = &learned[&SourceKind::Counts];
    let record: f64 = table.records().map(|(_, record)| record.forecasts).sum();
    assert!((record - 1.0).abs() < 1e-9, "one forecast was scored once: {record}");
    assert!(table.records().any(|(_, record)| record.correction() < -0.03));
}

/// Scoring and deletion, dropped after a moment, again and again: each forecast is scored once, and what is
/// kept stays.
async fn jobs_that_are_cut_off_anywhere_count_once(database: TestDatabase) {
    const FORECASTS: i64 = 40;
    let db = Arc::new(database.migrated().await);
    fill(&db, 8).await;
    let source = db.list_sources().await.expect("sources").remove(0);
    let row = db.list_changed_pools(source.id, -1, i32::MIN, 10).await.expect("pools").remove(0);
    let lease = db.claim("jobs", "test", 60).await.expect("asked").expect("nobody has it");
    let pools = SharedPools::default();
    pools.write().update(&row, &source, &[]);
    for number in 0..FORECASTS {
        // In hours that are known whole: the last report speaks for two minutes only.
        let made = Timestamp::from_millis(START + DAY_MS + number * 60_000);
        let mut forecast = pools.read().sample(1, row.state.open_segment().last_seen).remove(0);
        forecast.wanted = Wanted::ONE;
        db.add_forecasts(&lease, made, &[forecast]).await.expect("kept");
    }
    execute(&db, "UPDATE job_lease SET until = 1").await;
    execute(&db, "UPDATE pool_state SET interval_s = 3600").await;

    let now = DateTime::<Utc>::from_timestamp_millis(START + 9 * DAY_MS).expect("in range");
    let kept = Duration::from_hours(7 * 24);
    let (pools, clock) = (SharedPools::default(), Clock::new(move || now));
    let mut jobs = Jobs::new(Arc::clone(&db), pools, published(), clock, kept);
    let mut cut_off = 0;
    for round in 0..200 {
        let soon = Duration::from_millis(1 + round / 4);
        match tokio::time::timeout(soon, jobs.run_due()).await {
            Ok(done) => {
                if done.expect("done") {
                    break;
                }
            }
            Err(_) => cut_off += 1,
        }
    }
    assert!(cut_off > 3, "{cut_off} were cut off");
    let day = i32::try_from(START / DAY_MS).expect("a day");
    let record = db.list_quality(day).await.expect("read");
    for curve in ["uncorrected", "corrected", "level"] {
        let of_curve = record.iter().filter(|row| row.curve == curve);
        assert_eq!(
            of_curve.map(|row| row.forecasts).sum::<i64>(),
            FORECASTS,
            "{curve}: {record:?}"
        );
    }
    assert_eq!(days_of_history(&db).await, [2, 3, 4, 5, 6, 7]);
}

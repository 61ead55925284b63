//! Whatever ends the process, or fills its disk: what was acknowledged is there, once.

use std::{path::Path, time::Duration};

use availability::{Observation, Segment, Timestamp};
use chrono::{DateTime, TimeDelta, Utc};
use hardware::store::{Db, PoolRow, StoreConfig};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::program::Program;

/// Pools that a batch lists.
const POOLS: usize = 5;

fn open(folder: &Path) -> Db {
    Db::new(&StoreConfig::Sqlite { path: folder.join("hardware.db") }).expect("a pool")
}

async fn pools(db: &Db) -> Vec<PoolRow> {
    let source = db.list_sources().await.expect("sources").remove(0);
    db.list_changed_pools(source.id, -1, i32::MIN, 100_000).await.expect("pools")
}

/// A change of all pools in that second.
fn change(start: DateTime<Utc>, second: u32) -> Value {
    let observations: Vec<Value> = (0..POOLS)
        .map(|pool| {
            json!({"provider": "lab", "name": format!("p{pool}"), "total": 8, "in_use": second % 8})
        })
        .collect();
    let observed_at = start + TimeDelta::seconds(second.into());
    json!({"source": "lab", "observed_at": observed_at, "observations": observations})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_counts_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = Utc::now() - TimeDelta::hours(2);
    let start = DateTime::from_timestamp_millis(start.timestamp_millis()).expect("in range");
    let (mut second, mut acknowledged) = (0_u32, Vec::new());
    for round in 0..8 {
        let service = Program::start(folder.path(), "").await;
        let report = async {
            loop {
                second += 1;
                let answer = service.observe(&change(start, second)).await;
                let Some((StatusCode::OK, _)) = answer else { panic!("{answer:?}") };
                acknowledged.push(second);
            }
        };
        // In the middle of a batch, somewhere.
        let soon = Duration::from_millis(60 + 37 * round);
        assert!(
            tokio::time::timeout(soon, report).await.is_err(),
            "it goes on until it is cut off"
        );
        service.kill();
    }
    assert!(acknowledged.len() > 20, "{} batches were acknowledged", acknowledged.len());

    let service = Program::start(folder.path(), "").await;
    for second in &acknowledged {
        let (status, answer) = service.observe(&change(start, *second)).await.expect("an answer");
        assert_eq!((status, &answer["duplicates"]), (StatusCode::OK, &json!(POOLS)), "{answer}");
    }
    service.kill();
    let db = open(folder.path());
    let rows = pools(&db).await;
    assert_eq!(rows.len(), POOLS);
    for row in rows {
        let mut segments = db.list_history(row.pool.id).await.expect("history");
        segments.push(row.state.open_segment());
        assert!(segments.is_sorted_by(|one, next| one.last_seen < next.started), "{segments:?}");
        assert!(segments.len() <= usize::try_from(second).expect("small"), "more than was sent");
        for second in &acknowledged {
            let at = start + TimeDelta::seconds((*second).into());
            let at = Timestamp::from_millis(at.timestamp_millis());
            let seen = segments.iter().find(|segment| segment.contains(at)).copied();
            let seen = seen.map(|Segment { observation, .. }| observation);
            assert_eq!(seen, Some(Observation::counts(8, second % 8)), "second {second}");
        }
    }
}

/// A file that may not grow is what a full disk is to the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_batches_whole_and_keeps_the_list() {
    const POOLS_IN_BATCH: usize = 500;
    let folder = tempfile::tempdir().expect("a folder");
    drop(Program::start(folder.path(), "").await);
    // In blocks of 512 bytes; the signal that comes with it would end the program.
    let service = Program::start(folder.path(), "trap '' XFSZ; ulimit -f 2000;").await;
    let batch = |number: usize| {
        let observations: Vec<Value> = (0..POOLS_IN_BATCH)
            .map(|pool| json!({"provider": "lab", "name": format!("{number}-{pool}"), "available": true}))
            .collect();
        json!({"source": "lab", "observed_at": Utc::now(), "observations": observations})
    };
    let mut taken = 0;
    let refusal = loop {
        let (status, answer) = service.observe(&batch(taken)).await.expect("an answer");
        if status != StatusCode::OK {
            break (status, answer);
        }
        taken += 1;
        assert!(taken < 100, "the disk is never full");
    };
    assert_eq!(refusal.0, StatusCode::SERVICE_UNAVAILABLE, "{}", refusal.1);
    assert_eq!(refusal.1["code"], "database_unavailable");
    assert!(taken > 0, "some were taken before");
    let list = service.client.get(format!("{}/hardware/", service.url)).send().await;
    assert_eq!(list.expect("an answer").status(), StatusCode::OK);
    service.kill();
    assert_eq!(pools(&open(folder.path())).await.len(), taken * POOLS_IN_BATCH);

    // There is room again.
    let service = Program::start(folder.path(), "").await;
    let (status, answer) = service.observe(&batch(taken)).await.expect("an answer");
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(POOLS_IN_BATCH)));
    service.kill();
}

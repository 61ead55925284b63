//! The schema comes to be, whoever was there before and however many start at once.

use availability::{ExpectedInterval, Observation, PoolState, Segment, Timestamp};
use futures::future::join_all;
use hardware::store::{CatalogEntry, Db, PoolRow};

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    many_that_migrate_at_once_do_it_once,
    the_table_of_the_original_is_accepted_with_its_rows,
    a_table_that_a_migration_made_gets_default_rows_once,
    a_migration_can_be_repeated,
    migrations_of_a_newer_version_are_tolerated,
    data_of_the_first_schema_are_carried_over,
);

async fn many_that_migrate_at_once_do_it_once(database: TestDatabase) {
    let processes: Vec<_> = (0..4).map(|_| database.connect()).collect();
    let pending = processes[0].pending_migrations().await.expect("a list");
    assert_eq!(
        pending,
        [
            "0000", "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010",
            "0011", "0012", "0013", "0014", "0015", "0016", "0017", "0018", "0019", "0020", "0021",
            "0022", "0023",
        ]
    );
    let tasks = processes.into_iter().map(|db| tokio::spawn(async move { db.migrate().await }));
    let applied: usize = join_all(tasks)
        .await
        .into_iter()
        .map(|task| task.expect("no panic").expect("migrated").len())
        .sum();
    assert_eq!(
        applied,
        pending.len() + 1,
        "each was applied by one of them, and data carried over"
    );
    assert!(database.connect().pending_migrations().await.expect("a list").is_empty());
}

async fn the_table_of_the_original_is_accepted_with_its_rows(database: TestDatabase) {
    let db = database.connect();
    let auto_increment = if database.mysql.is_some() { "AUTO_INCREMENT" } else { "" };
    execute(
        &db,
        &format!(
            "CREATE TABLE hardware (id integer NOT NULL PRIMARY KEY {auto_increment}, \
             provider text NOT NULL, name text NOT NULL)"
        ),
    )
    .await;
    execute(&db, "INSERT INTO hardware (provider, name) VALUES ('Amazon', 'c5')").await;
    db.migrate().await.expect("migrated");
    assert_eq!(db.add_default_hardware(&[entry("p", "n")]).await.expect("none are due"), 0);
    let rows = db.list_hardware().await.expect("rows").rows;
    assert_eq!((rows[0].id.as_str(), rows[0].name.as_str(), rows.len()), ("1", "c5", 1));
}

fn entry(provider: &str, name: &str) -> CatalogEntry {
    CatalogEntry { provider: provider.to_owned(), name: name.to_owned() }
}

async fn a_table_that_a_migration_made_gets_default_rows_once(database: TestDatabase) {
    drop(database.migrated().await);
    let defaults = [entry("Amazon", "c5"), entry("Azure", "H16mr")];
    let processes: Vec<Db> = (0..4).map(|_| database.connect()).collect();
    let added = join_all(processes.iter().map(|db| db.add_default_hardware(&defaults))).await;
    assert_eq!(added.into_iter().map(|added| added.expect("added")).sum::<usize>(), 2);
    execute(&processes[0], "DELETE FROM hardware").await;
    assert_eq!(processes[0].add_default_hardware(&defaults).await.expect("no more"), 0);
}

/// MySQL cannot undo a statement that changes tables, so a migration may be found half done.
async fn a_migration_can_be_repeated(database: TestDatabase) {
    if database.mysql.is_none() {
        // Here all of them are one transaction.
        return;
    }
    let db = database.migrated().await;
    execute(&db, "DELETE FROM __diesel_schema_migrations").await;
    assert_eq!(db.migrate().await.expect("migrated again").len(), 24);
}

/// An image that is rolled back meets the schema of its successor.
async fn migrations_of_a_newer_version_are_tolerated(database: TestDatabase) {
    let db = database.migrated().await;
    execute(&db, "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')").await;
    assert!(db.pending_migrations().await.expect("a list").is_empty());
    assert!(db.migrate().await.expect("nothing to do").is_empty());
}

/// The tables as version 0.1 made them, with two spellings of one supply.
const FIRST_DATA: [&str; 6] = [
    "INSERT INTO hardware_key (id, key_hash, provider, name) VALUES \
     (1, 'a', 'Amazon', 'c5'), (2, 'b', 'AWS', 'C5'), (3, 'c', 'Azure', 'H16mr')",
    "INSERT INTO source (id, name, expected_interval_s, revision, last_seen_at) VALUES \
     (4, 'lab', 60, 17, '2026-01-02 00:02:00.250')",
    "INSERT INTO pool (id, hardware_key_id, region, zone, tier, unit, source_id) VALUES \
     (5, 1, '', '', 'on-demand', 'unit', 4), (6, 2, '', '', 'on-demand', 'unit', 4), \
     (7, 3, '', '', 'on-demand', 'unit', 4)",
    "INSERT INTO segment (pool_id, started_at, last_seen_at, total, free) VALUES \
     (5, '2026-01-01 23:58:00', '2026-01-02 00:00:30.5', 8, 2), \
     (6, '2026-01-01 12:00:00', '2026-01-01 12:00:00', 8, 0)",
    "INSERT INTO pool_current \
     (pool_id, source_id, revision, started_at, last_seen_at, total, free) VALUES \
     (5, 4, 16, '2026-01-02 00:01:00', '2026-01-02 00:02:00', 8, 3), \
     (6, 4, 3, '2026-01-01 12:01:00', '2026-01-01 12:01:00', 8, 1)",
    "INSERT INTO pool_current \
     (pool_id, source_id, revision, started_at, last_seen_at, total, free) VALUES \
     (7, 4, 17, '2026-01-02 00:00:00', '2026-01-02 00:02:00.250', NULL, 1)",
];

async fn data_of_the_first_schema_are_carried_over(database: TestDatabase) {
    let db = database.connect();
    let folder = if database.mysql.is_some() { "mysql" } else { "sqlite" };
    let names = [
        "0000_default_rows",
        "0001_hardware",
        "0002_hardware_key",
        "0003_source",
        "0004_pool",
        "0005_pool_current",
        "0006_segment",
    ];
    for name in names {
        let path = format!("../migrations/{folder}/{name}/up.sql");
        execute(&db, &std::fs::read_to_string(path).expect("a migration")).await;
    }
    for statement in FIRST_DATA {
        execute(&db, statement).await;
    }
    let applied = db.migrate().await.expect("migrated");
    assert_eq!(applied.last().map(String::as_str), Some("carry over"));
    assert!(db.pending_migrations().await.expect("a list").is_empty());
    assert!(db.migrate().await.expect("nothing to do").is_empty());

    let source = db.list_sources().await.expect("sources").remove(0);
    assert_eq!((source.name.as_str(), source.revision), ("lab", 17));
    let pools = db.list_changed_pools(source.id, 0, i32::MIN, 100).await.expect("pools");
    let [PoolRow { pool: c5, state: c5_state }, PoolRow { pool: h16, state: h16_state }] =
        pools.as_slice()
    else {
        panic!("two supplies, found {pools:?}");
    };
    assert_eq!((c5.id, c5.provider.as_str(), h16.name.as_str()), (5, "Amazon", "H16mr"));
    let at = |time: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(time).expect("a time");
        Timestamp::from_millis(time.timestamp_millis())
    };
    let segment = |started: &str, last_seen: &str, free: u32| Segment {
        started: at(started),
        last_seen: at(last_seen),
        observation: Observation::counts(8, 8 - free),
    };
    let segments = [
        segment("2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", 0),
        segment("2026-01-01T12:01:00Z", "2026-01-01T12:01:00Z", 1),
        segment("2026-01-01T23:58:00Z", "2026-01-02T00:00:30.5Z", 2),
        segment("2026-01-02T00:01:00Z", "2026-01-02T00:02:00Z", 3),
    ];
    let expected = PoolState::fold(segments, ExpectedInterval::default()).expect("a past");
    assert_eq!(c5_state.decode().expect("readable"), expected);
    assert_eq!(db.list_history(5).await.expect("history").len(), 3, "what was cut is put together");
    assert_eq!(h16_state.open_segment().observation, Observation::Available(true));
    assert_eq!(h16_state.open_segment().last_seen, at("2026-01-02T00:02:00.250Z"));
}

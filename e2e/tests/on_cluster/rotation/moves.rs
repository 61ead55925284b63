//! The source names another schema, or another server, while a load goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crds::{RotationCause, RotationOutcome};
use e2e::{
    Namespace,
    database::Database,
    rotation::{
        ROTATED, last_rotation, prefix, published, published_place, start_portal, stored_state,
        wait_for_rotation,
    },
    source,
    store_load::StoreLoad,
    wait::{eventually, throughout},
};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// The accounts that were left are locked once no pod has a connection there.
const LOCKED: Duration = Duration::from_mins(1);

fn spec() -> Value {
    let mut spec = source::rotating("AlternatingUsers");
    // A row that no migration makes.
    spec["catalog"] =
        json!([{"provider": "Amazon", "name": "c5"}, {"provider": "Moved", "name": "along"}]);
    spec
}

#[tokio::test]
async fn a_move_to_another_schema_fails_no_request_and_locks_the_account_of_the_old_one()
-> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-schema").await?, Database::from_settings()?);
    let password = start_portal(&namespace, &database, "moving", "e2e_schema", spec()).await?;
    let last = last_rotation(&namespace, "moving").await?;
    let (_, before) = published(&namespace, "moving").await?;
    let schema = "e2e_schema_next";
    database.execute(&format!("DROP DATABASE IF EXISTS {schema}")).await?;
    database.execute(&format!("CREATE DATABASE {schema}")).await?;

    let load = StoreLoad::start(&namespace, "moving", &database).await?;
    let started = Instant::now();
    let data = source::data(&database, schema, "e2e_schema", &password)?;
    namespace.apply_secret("db", source::allow("moving"), data).await?;
    let after =
        finish_move(&namespace, &database, load, started, &format!("/{schema}"), last.generation)
            .await?;

    ensure!(prefix(&after.0) == prefix(&before[0].0), "the accounts are the portal's own");
    let accounts = database.accounts(&prefix(&after.0)).await?;
    assert_eq!(accounts.get(&before[0].0), Some(&true), "that of the old schema is locked");
    assert_eq!(accounts.get(&after.0), Some(&false), "that of the new one is open");
    let mut session = database.connect(&after.0, &after.1).await?;
    ensure!(session.query_drop("USE e2e_schema").await.is_err(), "it enters the old schema");
    session.disconnect().await?;
    namespace.delete_portal("moving").await
}

#[tokio::test]
async fn a_move_to_another_server_fails_no_request_and_locks_the_accounts_on_the_old_one()
-> Result<()> {
    let (namespace, old) = (Namespace::open("e2e-server").await?, Database::from_settings()?);
    let new = Database::of_mysql()?;
    let password = old.create_root("e2e_server").await?;
    source::offer(&namespace, &old, "e2e_server", &password, source::allow("moving")).await?;
    source::trust(&namespace, &[&old, &new]).await?;
    namespace.apply_portal("moving", spec()).await?;
    namespace.wait_until_ready("moving").await?;
    let last = last_rotation(&namespace, "moving").await?;
    let (_, before) = published(&namespace, "moving").await?;

    let password = new.create_root("e2e_server").await?;
    let load = StoreLoad::start(&namespace, "moving", &old).await?;
    let started = Instant::now();
    let data = source::data(&new, "e2e_server", "e2e_server", &password)?;
    namespace.apply_secret("db", source::allow("moving"), data).await?;
    let place = format!("{}/e2e_server", new.address()?);
    let after = finish_move(&namespace, &old, load, started, &place, last.generation).await?;

    new.connect(&after.0, &after.1).await?.disconnect().await?;
    old.wait_until_locked(&prefix(&before[0].0), LOCKED).await?;
    let state = stored_state(&namespace, "moving").await?;
    ensure!(
        state["left"].is_null(),
        "a server that was left is still remembered: {}",
        state["left"]
    );
    println!(
        "accounts on the old server locked {:.1} s after the edit",
        started.elapsed().as_secs_f64()
    );
    namespace.delete_portal("moving").await
}

/// Waits until the pods use another place, and gives their login there. `place` ends what they are told.
async fn finish_move(
    namespace: &Namespace,
    counting: &Database,
    load: StoreLoad,
    started: Instant,
    place: &str,
    last: i64,
) -> Result<(String, String)> {
    let ended = wait_for_rotation(namespace, "moving", last).await?;
    let took = started.elapsed();
    // The load goes on for a while at the new place.
    throughout("the pods are told of the new place", Duration::from_secs(3), async || {
        let found = published_place(namespace, "moving").await?;
        ensure!(found.ends_with(place), "the pods are told of {found}");
        Ok(())
    })
    .await?;
    let figures = load.stop(counting).await?;
    println!("to {place}: after {:.1} s; {figures}", took.as_secs_f64());
    figures.expect_no_failure()?;
    assert_eq!(
        (ended.reason, ended.outcome),
        (RotationCause::SpecChanged, RotationOutcome::Completed)
    );
    // Data need not move along, but what the spec asks for is at the new place.
    eventually("the catalog at the new place", ROTATED, async || {
        let rows = namespace.hardware_rows("moving").await?;
        let names: Vec<String> =
            rows.into_iter().map(|(provider, name, _)| format!("{provider} {name}")).collect();
        ensure!(names == ["Amazon c5", "Moved along"], "found {names:?}");
        Ok(())
    })
    .await?;
    namespace.wait_until_ready("moving").await?;
    let (_, logins) = published(namespace, "moving").await?;
    assert_eq!(logins.len(), 1, "the new login alone");
    Ok(logins[0].clone())
}

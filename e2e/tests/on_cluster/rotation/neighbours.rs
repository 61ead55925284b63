//! Two portals on one database server, under one root.

use anyhow::{Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    rotation::{last_rotation, published, rotate_in_a_row, start_portal, wait_for_rotation},
    source,
    store_load::StoreLoad,
};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// What the server answers to `USE` of a schema that the account has no rights on:
/// `ER_DBACCESS_DENIED_ERROR`.
const MAY_NOT_ENTER: u16 = 1044;

/// One pod of each, for the sake of a small machine.
fn small(source: &str) -> Value {
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    spec["database"]["mysql"]["source"]["secret"]["name"] = json!(source);
    spec["database"]["mysql"]["deletionPolicy"] = json!("DropAccounts");
    spec
}

#[tokio::test]
async fn two_portals_that_rotate_at_the_same_time_never_touch_each_other() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-neighbours").await?, Database::from_settings()?);
    let root = "e2e_neighbours";
    let password = start_portal(&namespace, &database, "left", root, small("db")).await?;
    for statement in
        ["DROP DATABASE IF EXISTS e2e_neighbours_right", "CREATE DATABASE e2e_neighbours_right"]
    {
        database.execute(statement).await?;
    }
    let data = source::data(&database, "e2e_neighbours_right", root, &password)?;
    namespace.apply_secret("db-right", source::allow("right"), data).await?;
    namespace.apply_portal("right", small("db-right")).await?;
    namespace.wait_until_ready("right").await?;

    let loads = (
        StoreLoad::start(&namespace, "left", &database).await?,
        StoreLoad::start(&namespace, "right", &database).await?,
    );
    let rotated = tokio::join!(
        rotate_in_a_row(&namespace, "left", 3),
        rotate_in_a_row(&namespace, "right", 3)
    );
    for (side, load, rotated) in [("left", loads.0, rotated.0), ("right", loads.1, rotated.1)] {
        let figures = load.stop(&database).await?;
        let (adopted, revoked) = rotated?;
        println!(
            "two at the same time, {side}, 3 rotations: {figures}; slowest: adopted after {:.1} s, revoked after {:.1} s",
            adopted.as_secs_f64(),
            revoked.as_secs_f64()
        );
        figures.expect_no_failure()?;
        ensure!(figures.denied == 0, "{} logins were denied", figures.denied);
    }

    // One that rotates alone leaves the other's accounts as they are.
    let left = published(&namespace, "left").await?;
    let last = last_rotation(&namespace, "right").await?;
    namespace.ask_for_rotation("right").await?;
    wait_for_rotation(&namespace, "right", last.generation).await?;
    assert_eq!(published(&namespace, "left").await?, left, "the other portal's login");
    let right = published(&namespace, "right").await?;
    let prefix = |logins: &[(String, String)]| logins[0].0.trim_end_matches(['a', 'b']).to_owned();
    let (of_left, of_right) = (prefix(&left.1), prefix(&right.1));
    ensure!(of_left != of_right, "both portals have accounts called {of_left}…");
    for (logins, schema) in [(&left.1, "e2e_neighbours_right"), (&right.1, root)] {
        let mut session = database.connect(&logins[0].0, &logins[0].1).await?;
        let entered = session.query_drop(format!("USE {schema}")).await;
        let is_refused = matches!(
            &entered,
            Err(mysql_async::Error::Server(answer)) if answer.code == MAY_NOT_ENTER
        );
        ensure!(is_refused, "{} enters {schema}: {entered:?}", logins[0].0);
        session.disconnect().await?;
    }

    namespace.delete_portal("right").await?;
    ensure!(database.accounts(&of_right).await?.is_empty(), "accounts of a portal that is gone");
    let accounts = database.accounts(&of_left).await?;
    assert_eq!(accounts.len(), 2, "{accounts:?}");
    database.connect(&left.1[0].0, &left.1[0].1).await?.disconnect().await?;
    namespace.delete_portal("left").await
}

//! Portals on a MySQL server that refuses whatever is not TLS.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Namespace, database::Database, source, wait::eventually};
use k8s_openapi::api::core::v1::Secret;
use mysql_async::prelude::Queryable;
use serde_json::json;

#[tokio::test]
async fn a_portal_on_mysql_serves_the_catalog_and_rows_that_plain_sql_adds() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-mysql").await?, Database::from_settings()?);
    let password = database.create_schema("e2e_mysql").await?;
    source::offer(&namespace, &database, "e2e_mysql", &password, source::allow("sql")).await?;
    namespace.apply_portal("sql", source::spec()).await?;
    namespace.wait_until_ready("sql").await?;
    let names = async || -> Result<Vec<String>> {
        let rows = namespace.hardware_rows("sql").await?;
        Ok(rows.into_iter().map(|(provider, name, _)| format!("{provider} {name}")).collect())
    };
    assert_eq!(names().await?, ["Amazon c5", "Azure H16mr"]);

    database
        .execute("INSERT INTO e2e_mysql.hardware (provider, name) VALUES ('Google', 'a3-highgpu')")
        .await?;
    eventually("the row in /hardware/", Duration::from_secs(10), async || {
        let names = names().await?;
        ensure!(names.last().is_some_and(|name| name == "Google a3-highgpu"), "{names:?}");
        Ok(())
    })
    .await?;
    namespace.delete_portal("sql").await
}

#[tokio::test]
async fn a_credential_replaced_in_the_secret_is_in_use_within_seconds_without_a_restart()
-> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-credentials").await?, Database::from_settings()?);
    let old_password = database.create_schema("e2e_old").await?;
    source::offer(&namespace, &database, "e2e_old", &old_password, source::allow("rotated"))
        .await?;
    let mut spec = source::spec();
    spec["database"]["mysql"]["rotation"] = json!({"mode": "Follow", "pollInterval": "5s"});
    namespace.apply_portal("rotated", spec).await?;
    namespace.wait_until_ready("rotated").await?;
    let pods_before = namespace.hardware_restarts("rotated").await?;

    let new_password = e2e::database::random_password()?;
    database.execute("DROP USER IF EXISTS 'e2e_new'@'%'").await?;
    database
        .execute(&format!("CREATE USER 'e2e_new'@'%' IDENTIFIED BY '{new_password}' REQUIRE SSL"))
        .await?;
    database
        .execute("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON e2e_old.* TO 'e2e_new'@'%'")
        .await?;
    let mut data = source::data(&database, "e2e_old", "e2e_old", &old_password)?;
    data["MYSQL_USER"] = json!("e2e_new");
    data["MYSQL_PASSWORD"] = json!(new_password);
    namespace.apply_secret("db", source::allow("rotated"), data).await?;

    eventually("every session as the new account", Duration::from_mins(2), async || {
        let mut admin = database.connect_as_admin().await?;
        let users: Vec<String> =
            admin.query("SELECT user FROM information_schema.processlist").await?;
        admin.disconnect().await?;
        ensure!(users.iter().any(|user| user == "e2e_new"), "sessions: {users:?}");
        ensure!(!users.iter().any(|user| user == "e2e_old"), "sessions: {users:?}");
        Ok(())
    })
    .await?;
    assert_eq!(namespace.hardware_restarts("rotated").await?, pods_before, "no pod was replaced");
    namespace.delete_portal("rotated").await
}

#[tokio::test]
async fn a_source_secret_that_does_not_allow_the_portal_is_not_read() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-trust").await?, Database::from_settings()?);
    source::offer(&namespace, &database, "stolen", "a password", json!({})).await?;
    namespace.apply_portal("curious", source::spec()).await?;
    let condition = namespace.wait_for_condition("curious", "CredentialsReady", "False").await?;
    ensure!(
        condition.message.contains("gill-hicks.dev/allow-portal"),
        "the message should say which label is missing: {}",
        condition.message
    );
    let copied = namespace.api::<Secret>().get_opt("curious-database").await?;
    ensure!(copied.is_none(), "a Secret was made from a source that was not allowed");

    // Allowing it heals the portal without any other change.
    let password = database.create_schema("e2e_trust").await?;
    source::offer(&namespace, &database, "e2e_trust", &password, source::allow("curious")).await?;
    namespace.wait_until_ready("curious").await?;
    namespace.delete_portal("curious").await
}

#[tokio::test]
async fn a_portal_moves_from_the_embedded_database_to_mysql_when_told_to() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-switch").await?, Database::from_settings()?);
    namespace.apply_portal("grown", json!({})).await?;
    namespace.wait_until_ready("grown").await?;
    let password = database.create_schema("e2e_switch").await?;
    source::offer(&namespace, &database, "e2e_switch", &password, source::allow("grown")).await?;

    let abandon = json!({"gill-hicks.dev/abandon-embedded-data": "true"});
    namespace.apply_annotated_portal("grown", abandon, source::spec()).await?;
    namespace.wait_until_ready("grown").await?;
    // Ready says that the portal serves, which the old pod did until the new one was there.
    eventually("the catalog in MySQL", Duration::from_mins(1), async || {
        let mut admin = database.connect_as_admin().await?;
        let rows: Option<u64> =
            admin.query_first("SELECT count(*) FROM e2e_switch.hardware").await?;
        admin.disconnect().await?;
        ensure!(rows == Some(2), "rows in MySQL: {rows:?}");
        assert_eq!(namespace.hardware_rows("grown").await?.len(), 2);
        Ok(())
    })
    .await?;
    namespace.delete_portal("grown").await
}

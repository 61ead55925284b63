//! Where the root comes from: a Secret that is wrong, gone or another one, and Secrets Manager.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crds::RotationCause;
use e2e::{
    Namespace,
    database::{Database, random_password},
    rotation::{
        ROTATED, last_rotation, published, start_portal, wait_for_reason, wait_for_rotation,
    },
    secrets_manager, source,
    store_load::StoreLoad,
    wait::{eventually, throughout},
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::{Value, json};

#[tokio::test]
async fn a_source_that_is_wrong_or_gone_leaves_the_pods_alone_and_is_explained() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-badroot").await?, Database::from_settings()?);
    let password = start_portal(
        &namespace,
        &database,
        "steady",
        "e2e_badroot",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let before = published(&namespace, "steady").await?;
    let load = StoreLoad::start(&namespace, "steady", &database).await?;
    let right = source::data(&database, "e2e_badroot", "e2e_badroot", &password)?;
    let mut wrong = right.clone();
    wrong["MYSQL_PASSWORD"] = json!("not the password");
    let mut incomplete = right.clone();
    incomplete["MYSQL_USER"] = json!("");

    for (data, labels, reason, words) in [
        (&incomplete, source::allow("steady"), "SourceInvalid", "MYSQL_USER"),
        (&right, json!({}), "SourceNotAllowed", "gill-hicks.dev/allow-portal"),
    ] {
        namespace.apply_secret("db", labels, data.clone()).await?;
        wait_for_reason(&namespace, "steady", reason, words).await?;
    }
    let secrets = namespace.api::<Secret>();
    secrets.delete("db", &DeleteParams::default()).await?;
    wait_for_reason(&namespace, "steady", "SourceNotFound", "db").await?;
    assert_eq!(published(&namespace, "steady").await?, before, "the pods' file was not touched");

    // A wrong password: the last one that worked goes on working until it does not.
    database
        .execute("ALTER USER 'e2e_badroot'@'%' IDENTIFIED BY 'changed by somebody else'")
        .await?;
    namespace.apply_secret("db", source::allow("steady"), wrong).await?;
    wait_for_reason(&namespace, "steady", "RootRejected", "source").await?;
    assert_eq!(published(&namespace, "steady").await?, before, "the pods' file was not touched");

    let mut healed = right;
    healed["MYSQL_PASSWORD"] = json!("changed by somebody else");
    namespace.apply_secret("db", source::allow("steady"), healed).await?;
    wait_for_rotation(&namespace, "steady", i64::try_from(before.0)?).await?;
    let figures = load.stop(&database).await?;
    println!("a source that is wrong, gone and healed: {figures}");
    figures.expect_no_failure()?;
    namespace.delete_portal("steady").await
}

/// From a hand-made account to accounts of the operator's own, without a failed request.
#[tokio::test]
async fn a_portal_on_a_hand_made_account_moves_to_accounts_of_its_own() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-adopted").await?, Database::from_settings()?);
    let root = database.create_root("e2e_adopted").await?;
    let by_hand = make_by_hand(&database, "e2e_by_hand", "e2e_adopted").await?;
    source::offer(&namespace, &database, "e2e_adopted", &root, source::allow("moved")).await?;
    let data = source::data(&database, "e2e_adopted", "e2e_by_hand", &by_hand)?;
    namespace.apply_secret("db", source::allow("moved"), data).await?;
    namespace.apply_portal("moved", source::rotating("Follow")).await?;
    namespace.wait_until_ready("moved").await?;

    let started = Instant::now();
    let load = StoreLoad::start(&namespace, "moved", &database).await?;
    let data = source::data(&database, "e2e_adopted", "e2e_adopted", &root)?;
    namespace.apply_secret("db", source::allow("moved"), data).await?;
    namespace.apply_portal("moved", source::rotating("AlternatingUsers")).await?;
    eventually("a login of the operator's own", ROTATED, async || {
        let (_, logins) = published(&namespace, "moved").await?;
        ensure!(logins.len() == 1 && logins[0].0.starts_with("hw_"), "{} logins", logins.len());
        Ok(())
    })
    .await?;
    last_rotation(&namespace, "moved").await?;
    let figures = load.stop(&database).await?;
    println!("from a hand-made account to its own after {:?}: {figures}", started.elapsed());
    figures.expect_no_failure()?;
    // Somebody else's account is theirs to end.
    database.connect("e2e_by_hand", &by_hand).await?.disconnect().await?;
    namespace.delete_portal("moved").await
}

/// And back, to an account that others rotate and that may change no other.
#[tokio::test]
async fn an_account_that_is_left_for_a_hand_made_one_is_locked() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-left").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "left", "e2e_left", spec).await?;
    let (_, before) = published(&namespace, "left").await?;
    let (user, password) = &before[0];
    let last = last_rotation(&namespace, "left").await?;

    let load = StoreLoad::start(&namespace, "left", &database).await?;
    let by_hand = make_by_hand(&database, "e2e_by_others", "e2e_left").await?;
    let data = source::data(&database, "e2e_left", "e2e_by_others", &by_hand)?;
    namespace.apply_secret("db-by-others", source::allow("left"), data).await?;
    // Both at once: as a root this account would be of no use.
    let mut spec = source::rotating("Follow");
    spec["database"]["mysql"]["source"]["secret"]["name"] = json!("db-by-others");
    namespace.apply_portal("left", spec).await?;
    wait_for_rotation(&namespace, "left", last.generation).await?;
    // The whole takes a second or two, in which a load proves little.
    throughout("the pods have the new login", Duration::from_secs(3), async || {
        let (_, logins) = published(&namespace, "left").await?;
        ensure!(logins[0].0 == "e2e_by_others", "they have {}", logins[0].0);
        Ok(())
    })
    .await?;
    let figures = load.stop(&database).await?;
    println!("from its own account to a hand-made one: {figures}");
    figures.expect_no_failure()?;
    let (_, after) = published(&namespace, "left").await?;
    assert_eq!(after, [("e2e_by_others".to_owned(), by_hand)]);
    database.expect_denied(user, password).await?;
    assert_eq!(database.accounts(user).await?.get(user), Some(&true), "it is locked");
    namespace.delete_portal("left").await
}

/// An account with rights on one schema, as a person makes it for a portal; gives its password.
async fn make_by_hand(database: &Database, user: &str, schema: &str) -> Result<String> {
    let password = random_password()?;
    for statement in [
        format!("DROP USER IF EXISTS '{user}'@'%'"),
        format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON {schema}.* TO '{user}'@'%'"
        ),
    ] {
        database.execute(&statement).await?;
    }
    Ok(password)
}

/// The root's password is changed on the server and then in Secrets Manager.
#[tokio::test]
async fn a_root_that_secrets_manager_changes_reaches_the_pods_without_a_failed_request()
-> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-managed").await?, Database::from_settings()?);
    let password = database.create_root("e2e_managed").await?;
    // For the certificate authority; without the label this Secret is not a source.
    source::offer(&namespace, &database, "e2e_managed", &password, json!({})).await?;
    let secret = |password: &str| -> Result<Value> {
        Ok(json!({
            "username": "e2e_managed", "password": password, "dbname": "e2e_managed",
            "host": database.get("MYSQL_HOST")?,
            "port": database.get("MYSQL_PORT")?.parse::<u16>()?,
        }))
    };
    // Another name in each run, as the server of an earlier one may still be there.
    let name = format!("rds-{}", &random_password()?[..8]);
    secrets_manager::create(&name, namespace.name(), "managed", &secret(&password)?)?;
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["source"] =
        json!({"secretsManager": {"secretId": name, "region": "eu-west-1"}});
    namespace.apply_portal("managed", spec).await?;
    namespace.wait_until_ready("managed").await?;
    let last = last_rotation(&namespace, "managed").await?;

    let load = StoreLoad::start(&namespace, "managed", &database).await?;
    let started = Instant::now();
    let changed = random_password()?;
    database.execute(&format!("ALTER USER 'e2e_managed'@'%' IDENTIFIED BY '{changed}'")).await?;
    secrets_manager::change(&name, &secret(&changed)?)?;
    let ended = wait_for_rotation(&namespace, "managed", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!("Secrets Manager: {figures}; revoked after {:.1} s", started.elapsed().as_secs_f64());
    figures.expect_no_failure()?;
    assert_eq!(ended.reason, RotationCause::SourceChanged);
    namespace.delete_portal("managed").await
}

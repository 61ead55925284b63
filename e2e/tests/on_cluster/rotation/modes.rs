//! Rotations back to back in each mode, and the negative control: what a load through the store sees.

use anyhow::{Context, Result, ensure};
use crds::RotationCause;
use e2e::{
    Namespace,
    database::{Database, random_password},
    rotation::{last_rotation, published, rotate_in_a_row, start_portal, wait_for_rotation},
    source,
    store_load::StoreLoad,
};
use mysql_async::{Conn, prelude::Queryable};

/// What `KILL` answers of a session that is not there: `ER_NO_SUCH_THREAD`.
const NO_SUCH_SESSION: u16 = 1094;

async fn rotate_under_load(
    database: Database,
    mode: &str,
    namespace: &str,
    root: &str,
    times: usize,
    denied_by_us: Option<u64>,
) -> Result<()> {
    let namespace = Namespace::open(namespace).await?;
    start_portal(&namespace, &database, "turning", root, source::rotating(mode)).await?;
    let (_, before) = published(&namespace, "turning").await?;
    let load = StoreLoad::start(&namespace, "turning", &database).await?;
    let rotated = rotate_in_a_row(&namespace, "turning", times).await;
    let figures = load.stop(&database).await?;
    let (adopted, revoked) = rotated?;
    println!(
        "{mode}, {times} rotations: {figures}; slowest: adopted after {:.1} s, revoked after {:.1} s",
        adopted.as_secs_f64(),
        revoked.as_secs_f64()
    );
    figures.expect_no_failure()?;
    if let Some(by_us) = denied_by_us {
        let denied = figures.denied;
        ensure!(
            denied == by_us,
            "{denied} logins were denied, {by_us} are the operator's own proofs"
        );
    }

    let (_, after) = published(&namespace, "turning").await?;
    assert_eq!(after.len(), 1, "the new login alone is published");
    ensure!(before != after, "the login did not change");
    let (user, password) = &before[0];
    database.expect_denied(user, password).await?;
    let (user, password) = &after[0];
    database.connect(user, password).await?.disconnect().await?;
    namespace.delete_portal("turning").await
}

#[tokio::test]
async fn twenty_rotations_between_two_accounts_fail_no_operation() -> Result<()> {
    // The server does not count logins to a locked account, which is what the proof is.
    let database = Database::from_settings()?;
    rotate_under_load(
        database,
        "AlternatingUsers",
        "e2e-alternating",
        "e2e_alternating",
        20,
        Some(0),
    )
    .await
}

#[tokio::test]
async fn five_rotations_between_two_passwords_fail_no_operation() -> Result<()> {
    // Each rotation tries the new password before it is added, and the old one after it was dropped.
    let database = Database::from_settings()?;
    rotate_under_load(database, "DualPassword", "e2e-dual", "e2e_dual", 5, Some(10)).await
}

#[tokio::test]
async fn five_rotations_between_two_accounts_of_mysql_fail_no_operation() -> Result<()> {
    // MySQL counts denied logins together with connections that never came to a login.
    let (database, name) = (Database::of_mysql()?, "e2e_mysql_alternating");
    rotate_under_load(database, "AlternatingUsers", "e2e-mysql-alternating", name, 5, None).await
}

#[tokio::test]
async fn five_rotations_between_two_passwords_of_mysql_fail_no_operation() -> Result<()> {
    let (database, name) = (Database::of_mysql()?, "e2e_mysql_dual");
    rotate_under_load(database, "DualPassword", "e2e-mysql-dual", name, 5, None).await
}

/// Somebody else changes the account: the resting one of two gets a new password, then the Secret says
/// so. The operator only follows, and tells when nobody uses the other one any more.
#[tokio::test]
async fn five_changes_by_somebody_else_are_followed_without_a_failed_operation() -> Result<()> {
    follow_under_load(Database::from_settings()?, "e2e-follow").await
}

#[tokio::test]
async fn five_changes_by_somebody_else_on_mysql_are_followed_without_a_failed_operation()
-> Result<()> {
    follow_under_load(Database::of_mysql()?, "e2e-mysql-follow").await
}

async fn follow_under_load(database: Database, namespace: &str) -> Result<()> {
    let namespace = Namespace::open(namespace).await?;
    let accounts = ["e2e_follow_one", "e2e_follow_two"];
    let mut password = database.create_schema("e2e_follow").await?;
    for account in accounts {
        for statement in [
            format!("DROP USER IF EXISTS '{account}'@'%'"),
            format!("CREATE USER '{account}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON e2e_follow.* TO '{account}'@'%'"
            ),
        ] {
            database.execute(&statement).await?;
        }
    }
    source::offer(&namespace, &database, "e2e_follow", &password, source::allow("led")).await?;
    namespace.apply_portal("led", source::rotating("Follow")).await?;
    namespace.wait_until_ready("led").await?;
    let mut last = last_rotation(&namespace, "led").await?;

    let load = StoreLoad::start(&namespace, "led", &database).await?;
    for account in accounts.iter().cycle().take(5) {
        password = random_password()?;
        let statement = format!("ALTER USER '{account}'@'%' IDENTIFIED BY '{password}'");
        database.execute(&statement).await?;
        let data = source::data(&database, "e2e_follow", account, &password)?;
        namespace.apply_secret("db", source::allow("led"), data).await?;
        last = wait_for_rotation(&namespace, "led", last.generation).await?;
        assert_eq!(last.reason, RotationCause::SourceChanged);
        let (_, logins) = published(&namespace, "led").await?;
        assert_eq!(logins[0], ((*account).to_owned(), password.clone()), "the source's leads");
    }
    let figures = load.stop(&database).await?;
    println!("Follow, 5 changes by somebody else: {figures}");
    figures.expect_no_failure()?;
    namespace.delete_portal("led").await
}

/// The negative control: a login that is revoked while the pods use it must turn the figures red, or
/// they prove nothing. The operator then finds out by itself and gives the pods another login.
#[tokio::test]
async fn revoking_before_adoption_is_seen_in_the_figures_and_healed() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-control").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "cut", "e2e_control", spec).await?;
    let (_, before) = published(&namespace, "cut").await?;
    let last = last_rotation(&namespace, "cut").await?;
    let load = StoreLoad::start(&namespace, "cut", &database).await?;
    let (user, password) = &before[0];
    // The administrator may not end other accounts' sessions, as on RDS; each account may end its own.
    let killer = database.connect(user, password).await?;
    database.execute(&format!("ALTER USER '{user}'@'%' ACCOUNT LOCK")).await?;
    end_other_sessions(killer).await?;
    let healed = wait_for_rotation(&namespace, "cut", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!("negative control, the login revoked first: {figures}");
    ensure!(figures.store_failed > 0, "nothing failed, so these figures prove nothing: {figures}");
    ensure!(figures.expect_no_failure().is_err(), "the check does not see it: {figures}");
    assert_eq!(healed.reason, RotationCause::Drift);
    namespace.delete_portal("cut").await
}

/// Ends the sessions of this one's account, which would outlive its login, and then this one.
async fn end_other_sessions(mut session: Conn) -> Result<()> {
    let others: Vec<u64> = session
        .query("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
        .await?;
    ensure!(!others.is_empty(), "the pods have no session");
    for id in others {
        match session.query_drop(format!("KILL {id}")).await {
            // It has ended meanwhile.
            Err(mysql_async::Error::Server(error)) if error.code == NO_SUCH_SESSION => {}
            killed => killed?,
        }
    }
    session.disconnect().await.context("failed to log out")
}

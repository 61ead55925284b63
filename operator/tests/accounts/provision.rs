//! Accounts as they are made, changed, locked and removed.

use std::time::Duration;

use futures::FutureExt;
use mysql_async::prelude::Queryable;
use operator::rotation::mysql::{
    Flavour, Password, Rights, SqlError, denied_logins, discard_old_password, drop_account,
    ensure_application_account, ensure_migration_account, grants_are_as_issued, is_refused,
    lock_account, login, login_as_root, may_create_users, retain_password, sessions_of, verify,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::{Portal, candidate, is_alive, quoted};

#[tokio::test]
async fn an_account_is_made_with_its_rights_and_no_others() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let mut session = login(&portal.server, &candidate(&name, &password)).await.expect("let in");
    let difference = grants_are_as_issued(&mut session, Rights::Application).await;
    assert_eq!(difference.expect("its rights"), None);
    assert!(!may_create_users(&mut session).await.expect("its rights"));
    session.close().await;
}

#[tokio::test]
async fn making_an_account_again_changes_nothing() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    for _ in 0..3 {
        ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    }
    let verified =
        verify(&portal.server, &candidate(&name, &password), Some(Rights::Application)).await;
    verified.expect("verified");
}

#[tokio::test]
async fn an_account_can_be_used_again_after_it_was_locked() {
    let mut portal = Portal::new().await;
    let name = portal.b.clone();
    let (first, second) = (portal.password(), portal.password());
    ensure_application_account(&mut portal.root, &name, &first).await.expect("made");
    lock_account(&mut portal.root, &name).await.expect("locked");
    lock_account(&mut portal.root, &name).await.expect("locked already");
    assert!(is_refused(&portal.server, &candidate(&name, &first)).await.expect("an answer"));
    ensure_application_account(&mut portal.root, &name, &second).await.expect("made again");
    assert!(!is_refused(&portal.server, &candidate(&name, &second)).await.expect("an answer"));
    assert!(is_refused(&portal.server, &candidate(&name, &first)).await.expect("an answer"));
}

#[tokio::test]
async fn an_account_that_does_not_exist_can_be_locked_and_dropped() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    lock_account(&mut portal.root, &name).await.expect("nothing to lock");
    drop_account(&mut portal.root, &name).await.expect("nothing to drop");
}

#[tokio::test]
async fn a_dropped_account_is_refused() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.migration.clone(), portal.password());
    ensure_migration_account(&mut portal.root, &name, &password).await.expect("made");
    drop_account(&mut portal.root, &name).await.expect("dropped");
    assert!(is_refused(&portal.server, &candidate(&name, &password)).await.expect("an answer"));
}

#[tokio::test]
async fn drifted_rights_are_named_and_put_right() {
    let mut portal = Portal::with_schema(|number| format!("rot_{number}_x")).await;
    let (name, password) = (portal.a.clone(), portal.password());
    let other = format!("{}_other", portal.server.schema.as_str());
    let schema = portal.server.schema.as_str();
    let pattern = portal.schema_in_grants().await;
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    for statement in [
        format!("REVOKE DELETE ON {pattern}.* FROM '{name}'@'%'"),
        format!("GRANT CREATE, DROP ON {pattern}.* TO '{name}'@'%'"),
        format!("GRANT SELECT ON {}.* TO '{name}'@'%' WITH GRANT OPTION", quoted(schema)),
        format!("GRANT SELECT, INSERT ON {}.* TO '{name}'@'%'", quoted(&other)),
        format!("GRANT PROCESS ON *.* TO '{name}'@'%'"),
    ] {
        portal.administer(&statement).await;
    }

    let error = verify(&portal.server, &candidate(&name, &password), Some(Rights::Application))
        .await
        .expect_err("drift");
    let words = error.to_string();
    for expected in [
        format!("lacks DELETE on {pattern}.*"),
        format!("has CREATE, DROP on {pattern}.*, which was not issued"),
        format!("may pass on its rights on {}.*", quoted(schema)),
        format!("has SELECT, INSERT on {}.*, which was not issued", quoted(&other)),
        "has PROCESS on *.*, which was not issued".to_owned(),
    ] {
        assert!(words.contains(&expected), "{expected}: {words}");
    }
    assert!(!words.contains("IDENTIFIED"), "{words}");

    ensure_application_account(&mut portal.root, &name, &password).await.expect("put right");
    let verified =
        verify(&portal.server, &candidate(&name, &password), Some(Rights::Application)).await;
    verified.expect("verified");
}

#[tokio::test]
async fn the_migration_account_changes_tables_and_that_of_the_application_does_not() {
    let mut portal = Portal::new().await;
    let (migration, application) = (portal.migration.clone(), portal.a.clone());
    let (of_migration, of_application) = (portal.password(), portal.password());
    ensure_migration_account(&mut portal.root, &migration, &of_migration).await.expect("made");
    ensure_application_account(&mut portal.root, &application, &of_application)
        .await
        .expect("made");
    let schema = quoted(portal.server.schema.as_str());

    let mut job = portal.pod(&migration, &of_migration).await;
    for statement in [
        "CREATE TABLE IF NOT EXISTS t (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, a INTEGER)",
        "ALTER TABLE t ADD COLUMN b INTEGER",
        "CREATE INDEX t_b ON t (b)",
        "CREATE TABLE u (t INTEGER, FOREIGN KEY (t) REFERENCES t (id))",
        "INSERT INTO t (a) VALUES (1)",
        "UPDATE t SET b = 2",
        "DROP TABLE u",
    ] {
        job.query_drop(format!("USE {schema}")).await.expect("its schema");
        let done = job.query_drop(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    let mut pod = portal.pod(&application, &of_application).await;
    pod.query_drop(format!("DELETE FROM {schema}.t")).await.expect("it may delete rows");
    pod.query_drop(format!("DROP TABLE {schema}.t")).await.expect_err("it may not drop tables");
}

#[tokio::test]
async fn a_running_session_survives_a_lock_a_new_password_and_a_drop() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    let (first, second) = (portal.password(), portal.password());
    ensure_application_account(&mut portal.root, &name, &first).await.expect("made");
    let mut pod = portal.pod(&name, &first).await;
    ensure_application_account(&mut portal.root, &name, &second).await.expect("a new password");
    assert!(is_alive(&mut pod).await, "after a new password");
    lock_account(&mut portal.root, &name).await.expect("locked");
    assert!(is_alive(&mut pod).await, "after a lock");
    drop_account(&mut portal.root, &name).await.expect("dropped");
    assert!(is_alive(&mut pod).await, "after a drop");
}

/// The order of repairs: an account in use never lacks a right that it should have.
#[tokio::test]
async fn rights_in_use_are_there_while_others_are_taken_back() {
    let mut portal = Portal::new().await;
    portal.migrate().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let pattern = portal.schema_in_grants().await;

    let (server, login_as) = (portal.server.clone(), candidate(&name, &password));
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let reader = tokio::spawn(async move {
        let mut reads = 0;
        while !stopped.is_cancelled() {
            let verified = verify(&server, &login_as, None).await;
            verified.unwrap_or_else(|error| panic!("after {reads} reads: {error}"));
            reads += 1;
        }
        reads
    });
    for _ in 0..50 {
        portal.administer(&format!("GRANT CREATE, ALTER ON {pattern}.* TO '{name}'@'%'")).await;
        ensure_application_account(&mut portal.root, &name, &password).await.expect("put right");
    }
    stop.cancel();
    let reads = reader.await.expect("no read failed");
    assert!(reads > 10, "only {reads} reads beside 50 repairs");
}

#[tokio::test]
async fn sessions_are_counted_by_account() {
    let mut portal = Portal::new().await;
    let (a, b) = (portal.a.clone(), portal.b.clone());
    let password = portal.password();
    ensure_application_account(&mut portal.root, &a, &password).await.expect("made");
    let pods = [portal.pod(&a, &password).await, portal.pod(&a, &password).await];

    let asked = [a.as_str(), b.as_str()];
    let sessions = sessions_of(&mut portal.root, &asked).await.expect("a process list");
    let mut found: Vec<u64> =
        sessions.by_user[a.as_str()].iter().map(|session| session.id).collect();
    let mut expected: Vec<u64> = pods.iter().map(|pod| u64::from(pod.id())).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(sessions.by_user[a.as_str()][0].host.contains(':'), "{sessions:?}");
    assert!(sessions.by_user[b.as_str()].is_empty());

    for pod in pods {
        pod.disconnect().await.expect("disconnected");
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !sessions_of(&mut portal.root, &asked).await.expect("a list").by_user[a.as_str()]
        .is_empty()
    {
        assert!(tokio::time::Instant::now() < deadline, "sessions that ended are still listed");
    }
}

/// MySQL's own table of sessions cannot be read meanwhile.
#[tokio::test]
async fn sessions_are_counted_whatever_characters_somebody_uses() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let mut pod = portal.pod(&name, &password).await;
    let saying = tokio::spawn(async move { pod.query_drop("SELECT SLEEP(2), '\u{1f600}'").await });
    let asked = [name.as_str()];
    while !saying.is_finished() {
        let sessions = sessions_of(&mut portal.root, &asked).await.expect("a process list");
        assert!(saying.is_finished() || sessions.by_user[name.as_str()].len() == 1, "{sessions:?}");
    }
    saying.await.expect("no panic").expect("said");
}

/// A connection that has not said who it is may be a pod's login under way.
#[tokio::test]
async fn a_connection_that_has_not_said_who_it_is_is_listed_apart() {
    let mut portal = Portal::new().await;
    let mut silent = TcpStream::connect((portal.server.host.as_str(), portal.server.port))
        .await
        .expect("connected");
    // The server has greeted, and waits for a name and a password.
    silent.read_u8().await.expect("a greeting");
    let host = silent.local_addr().expect("its address").to_string();
    let asked = [portal.a.as_str()];
    let sessions = sessions_of(&mut portal.root, &asked).await.expect("a process list");
    assert!(sessions.unauthenticated.iter().any(|one| one.host == host), "{host}: {sessions:?}");
    assert_eq!(sessions.by_user.keys().map(String::as_str).collect::<Vec<_>>(), asked);

    drop(silent);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let sessions = sessions_of(&mut portal.root, &[]).await.expect("a process list");
        if sessions.unauthenticated.iter().all(|one| one.host != host) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is still listed: {sessions:?}");
    }
}

#[tokio::test]
async fn no_account_is_changed_by_an_operator_that_is_no_longer_the_leader() {
    let mut portal = Portal::new().await;
    let (a, b, password) = (portal.a.clone(), portal.b.clone(), portal.password());
    ensure_application_account(&mut portal.root, &a, &password).await.expect("made");
    portal.fence.close();
    let (root, another) = (&mut portal.root, Password::from_secret("another".into()));
    for outcome in [
        ensure_application_account(root, &b, &password).await,
        ensure_migration_account(root, &b, &password).await,
        ensure_application_account(root, &a, &another).await,
        retain_password(root, &a, &another, &password).await,
        discard_old_password(root, &a, &another).await,
        lock_account(root, &a).await,
        drop_account(root, &a).await,
    ] {
        assert!(matches!(outcome, Err(SqlError::NotLeader)), "{outcome:?}");
    }
    verify(&portal.server, &candidate(&a, &password), Some(Rights::Application))
        .await
        .expect("it is as it was");
    assert!(is_refused(&portal.server, &candidate(&b, &password)).await.expect("an answer"));
}

#[tokio::test]
async fn a_root_that_sees_only_itself_lists_no_sessions() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let mut weak = login(&portal.server, &candidate(&name, &password)).await.expect("let in");
    let error = sessions_of(&mut weak, &[portal.b.as_str()]).await.expect_err("no PROCESS");
    assert!(matches!(error, SqlError::SessionsHidden), "{error:?}");
    assert!(may_create_users(&mut portal.root).await.expect("its rights"));
}

#[tokio::test]
async fn an_account_that_may_not_make_accounts_says_so_without_a_password() {
    use secrecy::ExposeSecret;
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let login = candidate(&name, &password);
    let mut weak = login_as_root(&portal.server, &login, &portal.fence).await.expect("let in");
    let new = portal.password();
    let error = ensure_application_account(&mut weak, &portal.b, &new).await.expect_err("no right");
    assert!(matches!(error, SqlError::Refused { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(new.secret().expose_secret()), "{error:?}");
}

#[tokio::test]
async fn two_operators_on_one_portal_wait_for_each_other() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let digits = name.as_str().trim_start_matches("hw_").trim_end_matches("_a");
    let mut holder = {
        use secrecy::ExposeSecret;
        let admin = &portal.environment.admin;
        portal.environment.connect(&admin.username, admin.password.expose_secret()).await
    };
    let lock = format!("SELECT GET_LOCK('gill-hicks.accounts.{digits}', 0)");
    assert_eq!(holder.query_first::<u8, _>(lock).await.expect("a lock"), Some(1));
    let error = ensure_application_account(&mut portal.root, &name, &password).await;
    assert!(matches!(error, Err(SqlError::Busy { .. })), "{error:?}");
    // The lock ends with the session that has it, as when an operator crashes.
    holder.disconnect().await.expect("disconnected");
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let mut another = portal.another_root().await;
    lock_account(&mut another, &name).await.expect("the lock was given back");
    another.close().await;
}

#[tokio::test]
async fn denied_logins_can_be_counted_where_the_server_does() {
    let mut portal = Portal::new().await;
    let count = denied_logins(&mut portal.root).await.expect("a status");
    let is_mariadb = portal.root.flavour() == Flavour::MariaDb;
    assert_eq!(count.is_some(), is_mariadb, "MariaDB counts them, MySQL does not");
}

/// A caller that goes away in the middle of an operation must not leave an answer behind that the
/// next operation reads as its own.
#[tokio::test]
async fn a_session_whose_operation_was_abandoned_is_not_used_again() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let operation = ensure_application_account(&mut portal.root, &name, &password);
    assert!(operation.now_or_never().is_none(), "no server answers at once");
    let error = lock_account(&mut portal.root, &name).await.expect_err("given up");
    assert!(matches!(error, SqlError::Connection { .. }), "{error:?}");
    portal.root = portal.another_root().await;
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
}

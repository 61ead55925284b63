//! Credentials change while the store works. The loops below run through the whole rotation, and
//! nothing in them may fail. MySQL only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hardware::store::{Db, StoreConfig, Tls};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{
    database::{PASSWORD, TestDatabase, candidate},
    eventually,
};

const NEXT_PASSWORD: &str = "next-password";

/// Eight tasks that query without a pause.
struct Load {
    db: Arc<Db>,
    tasks: JoinSet<()>,
    closing: CancellationToken,
    done: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl Load {
    fn start(db: Db) -> Self {
        let (db, closing) = (Arc::new(db), CancellationToken::new());
        let mut load = Self {
            db,
            tasks: JoinSet::new(),
            closing,
            done: Arc::default(),
            failed: Arc::default(),
        };
        for _ in 0..8 {
            let (db, closing) = (Arc::clone(&load.db), load.closing.clone());
            let (done, failed) = (Arc::clone(&load.done), Arc::clone(&load.failed));
            load.tasks.spawn(async move {
                while !closing.is_cancelled() {
                    if let Err(error) = db.list_hardware().await {
                        eprintln!("a query failed: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (db, closing) = (Arc::clone(&load.db), load.closing.clone());
        load.tasks.spawn(async move {
            closing.run_until_cancelled(db.retire_old_connections()).await;
        });
        load
    }

    /// Waits for a few hundred more queries.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("queries go on", async || {
            (self.done.load(Ordering::Relaxed) > before + 400).then_some(())
        })
        .await;
    }

    /// Only connections of this generation are left.
    async fn uses_only(&self, generation: u64) {
        eventually("the connections of older credentials are closed", async || {
            let report = self.db.session_report().expect("MySQL");
            // A login under way counts as a connection, but no candidate has been let in before it ends.
            let only = report.connections.keys().eq([&generation]);
            (only && report.candidate.is_some()).then_some(())
        })
        .await;
    }

    /// Ends the load and returns how many queries failed.
    async fn finish(mut self) -> usize {
        self.goes_on().await;
        self.closing.cancel();
        while let Some(task) = self.tasks.join_next().await {
            task.expect("no panic");
        }
        self.failed.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_announced_before_it_changes_fails_no_query() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let load = Load::start(database.migrated().await);
    load.goes_on().await;

    let user = &mysql.user;
    mysql.announce(2, vec![candidate(user, PASSWORD), candidate(user, NEXT_PASSWORD)]);
    load.uses_only(2).await;
    let change = format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{NEXT_PASSWORD}' REQUIRE SSL");
    mysql.server.administer(&[change]).await;
    load.goes_on().await;
    mysql.announce(3, vec![candidate(user, NEXT_PASSWORD)]);
    load.uses_only(3).await;
    assert_eq!(load.db.session_report().expect("MySQL").candidate, Some(0));
    assert_eq!(load.finish().await, 0, "queries that failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_accounts_fail_no_query_and_no_login() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let load = Load::start(database.migrated().await);
    load.goes_on().await;

    let (old, new) = (mysql.user.clone(), mysql.other_user());
    mysql.create_account(&new, NEXT_PASSWORD).await;
    mysql.announce(2, vec![candidate(&new, NEXT_PASSWORD), candidate(&old, PASSWORD)]);
    load.uses_only(2).await;
    eventually("the server has no session of the old account", async || {
        (mysql.sessions_of(&old).await == 0).then_some(())
    })
    .await;
    mysql.server.administer(&[format!("ALTER USER '{old}'@'%' ACCOUNT LOCK")]).await;
    load.goes_on().await;
    let report = load.db.session_report().expect("MySQL");
    assert_eq!(report.candidate, Some(0), "no login had to fall back");
    assert_eq!(load.finish().await, 0, "queries that failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_makes_the_next_candidate_log_in() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let (locked, good) = (mysql.user.clone(), mysql.other_user());
    mysql.create_account(&good, NEXT_PASSWORD).await;
    mysql.server.administer(&[format!("ALTER USER '{locked}'@'%' ACCOUNT LOCK")]).await;
    mysql.announce(2, vec![candidate(&locked, PASSWORD), candidate(&good, NEXT_PASSWORD)]);
    let db = database.connect();
    db.ping().await.expect("the second account is let in");
    assert_eq!(db.session_report().expect("MySQL").candidate, Some(1));
}

/// Whoever rotates waits for the sessions of the second one to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_candidate_that_is_let_in_again_is_used_again() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let (first, second) = (mysql.user.clone(), mysql.other_user());
    mysql.create_account(&second, NEXT_PASSWORD).await;
    mysql.server.administer(&[format!("ALTER USER '{first}'@'%' ACCOUNT LOCK")]).await;
    mysql.announce(2, vec![candidate(&first, PASSWORD), candidate(&second, NEXT_PASSWORD)]);
    let db = database.connect();
    db.ping().await.expect("the second account is let in");
    assert_eq!(mysql.sessions_of(&second).await, 1);
    mysql.server.administer(&[format!("ALTER USER '{first}'@'%' ACCOUNT UNLOCK")]).await;
    eventually("the session of the second account ends", async || {
        db.ping().await.expect("one of them is let in");
        (mysql.sessions_of(&second).await == 0).then_some(())
    })
    .await;
    assert_eq!(db.session_report().expect("MySQL").candidate, Some(0));
}

/// It may be a long time until an idle connection is needed again.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_of_the_second_candidate_is_closed() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    mysql.announce(2, vec![candidate("nobody", "wrong"), candidate(&mysql.user, PASSWORD)]);
    let db = Arc::new(database.connect());
    db.ping().await.expect("the second account is let in");
    let for_retirement = Arc::clone(&db);
    let retirement = tokio::spawn(async move { for_retirement.retire_old_connections().await });
    eventually("the session of the second account ends", async || {
        (mysql.sessions_of(&mysql.user).await == 0).then_some(())
    })
    .await;
    assert_eq!(db.session_report().expect("MySQL").connections, [].into());
    retirement.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_everybody_is_denied_says_so_without_names() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    mysql.announce(2, vec![candidate("nobody", "wrong-1"), candidate(&mysql.user, "wrong-2")]);
    let db = database.connect();
    let message = db.ping().await.expect_err("denied").to_string();
    assert_eq!(
        message,
        "failed to log in to the database: all 2 accounts were denied (error 1045); check user \
         and password"
    );
    assert_eq!(db.session_report().expect("MySQL").connections, [].into(), "none is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_server_kills_fail_only_what_is_in_flight() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let db = database.migrated().await;
    futures::future::join_all((0..8).map(|_| db.list_hardware())).await;
    // At rest nothing is in flight, so nothing at all may fail.
    mysql.kill_sessions().await;
    eventually("the sessions end", async || {
        (mysql.sessions_of(&mysql.user).await == 0).then_some(())
    })
    .await;
    for query in 0..400 {
        let rows = db.list_hardware().await;
        assert!(rows.is_ok(), "query {query} after the sessions were killed: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_is_not_from_the_given_authority_is_refused() {
    let database = TestDatabase::mysql().await;
    let StoreConfig::Mysql { credentials, .. } = &database.config else { panic!("MySQL") };
    // The roots of RDS are good roots, but not of this server.
    let ca_file = "../deploy/docker/rds-ca.pem".into();
    let config =
        StoreConfig::Mysql { credentials: credentials.clone(), tls: Tls::Required { ca_file } };
    let error = Db::new(&config).expect("a pool").ping().await.expect_err("not trusted");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_connections_retire_one_after_the_other() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let db = Arc::new(database.migrated().await);
    // Four at the same time, each with a connection of its own, which then idle.
    let gate = Arc::new(tokio::sync::Barrier::new(4));
    let hold = |_| async {
        let Db::Mysql(connections) = &*db else { panic!("MySQL") };
        let held = connections.writing.run(async |_| {
            gate.wait().await;
            Ok(())
        });
        held.await.expect("a connection");
    };
    futures::future::join_all((0..4).map(hold)).await;
    // The fifth one looked what there was to migrate.
    assert_eq!(db.session_report().expect("MySQL").connections, [(1, 5)].into());

    let watch = async {
        let started = Instant::now();
        mysql.announce(2, vec![candidate(&mysql.user, PASSWORD)]);
        eventually("idle connections of the old credential are closed", async || {
            db.session_report().expect("MySQL").connections.is_empty().then_some(())
        })
        .await;
        assert!(started.elapsed() > Duration::from_millis(500), "not all at once");
    };
    tokio::select! {
        biased;
        () = db.retire_old_connections() => panic!("it goes on for ever"),
        () = watch => {}
    }
}

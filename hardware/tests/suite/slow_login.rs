//! A login takes so long that credentials change before it ends. MySQL only.

use std::sync::Arc;

use hardware::store::{Db, HardwareRow, SessionReport, StoreError};
use tokio::task::JoinHandle;

use crate::support::{
    database::{Mysql, PASSWORD, TestDatabase, candidate},
    held_login::{At, HeldLogin, HoldingProxy},
};

const NEXT_PASSWORD: &str = "next-password";

/// Connections that are opened through a proxy, and the account that takes over.
struct World {
    db: Arc<Db>,
    proxy: HoldingProxy,
    new: String,
    database: TestDatabase,
}

type Query = JoinHandle<Result<Vec<HardwareRow>, StoreError>>;

impl World {
    async fn start() -> Self {
        let database = TestDatabase::mysql().await;
        database.migrated().await;
        let mysql = database.mysql_details();
        let new = mysql.other_user();
        mysql.create_account(&new, NEXT_PASSWORD).await;
        let proxy = HoldingProxy::start(&mysql.server.host, mysql.server.port).await;
        mysql.go_through(proxy.port);
        Self { db: Arc::new(database.connect()), proxy, new, database }
    }

    fn mysql(&self) -> &Mysql {
        self.database.mysql_details()
    }

    fn report(&self) -> SessionReport {
        self.db.session_report().expect("MySQL")
    }

    /// A query that needs a connection of its own, once its login is held.
    async fn hold_query(&self, at: At) -> (HeldLogin, Query) {
        let held = self.proxy.hold_next(at);
        let db = Arc::clone(&self.db);
        let query = tokio::spawn(async move { db.list_hardware().await });
        held.is_held().await;
        (held, query)
    }
}

async fn succeeds(query: Query) {
    query.await.expect("no panic").expect("no query fails because of a rotation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_account_is_locked_meanwhile_is_repeated_as_the_new_one() {
    let world = World::start().await;
    let (held, query) = world.hold_query(At::Password).await;
    assert_eq!(world.report().connections, [(1, 1)].into(), "a login counts while it is under way");

    let mysql = world.mysql();
    mysql.announce(2, vec![candidate(&world.new, NEXT_PASSWORD)]);
    let report = SessionReport { generation: 2, candidate: None, connections: [(1, 1)].into() };
    assert_eq!(world.report(), report, "it counts as what it logs in with");
    mysql.server.administer(&[format!("ALTER USER '{}'@'%' ACCOUNT LOCK", mysql.user)]).await;
    held.release();
    succeeds(query).await;
    let report = SessionReport { generation: 2, candidate: Some(0), connections: [(2, 1)].into() };
    assert_eq!(world.report(), report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_a_server_that_is_left_meanwhile_is_repeated_at_the_new_one() {
    let world = World::start().await;
    let (held, query) = world.hold_query(At::Password).await;
    let mysql = world.mysql();
    mysql.credentials.send_modify(|set| {
        let set = Arc::make_mut(set);
        (set.host, set.port) = (mysql.server.host.clone(), mysql.server.port);
        set.generation = 2;
    });
    held.cut();
    succeeds(query).await;
    assert_eq!(world.report().connections, [(2, 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_counts_no_more_once_its_caller_has_left() {
    let world = World::start().await;
    let (_held, query) = world.hold_query(At::Password).await;
    assert_eq!(world.report().connections, [(1, 1)].into());
    query.abort();
    assert!(query.await.expect_err("it cannot have ended").is_cancelled());
    assert_eq!(world.report().connections, [].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_ends_late_does_not_hide_the_latest() {
    let world = World::start().await;
    let (held, query) = world.hold_query(At::Answer).await;
    let mysql = world.mysql();
    mysql.announce(2, vec![candidate(&world.new, NEXT_PASSWORD), candidate(&mysql.user, PASSWORD)]);
    world.db.ping().await.expect("the new account is let in");
    held.release();
    succeeds(query).await;
    let connections = [(1, 1), (2, 1)].into();
    let report = SessionReport { generation: 2, candidate: Some(0), connections };
    assert_eq!(world.report(), report);
}

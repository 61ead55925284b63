//! A login takes so long that credentials change before it ends. MySQL only.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use hardware::store::{Db, HardwareRows, SessionReport, StoreError};
use test_kit::held_login::{At, HeldLogin, HoldingProxy};
use tokio::{sync::Notify, task::JoinHandle};

use crate::support::{
    database::{Mysql, PASSWORD, TestDatabase, candidate},
    eventually,
};

const NEXT_PASSWORD: &str = "next-password";
/// How long a login may take to get to where it is held.
const DEADLINE: Duration = Duration::from_secs(20);

/// Connections that are opened through a proxy, and the account that takes over.
struct World {
    db: Arc<Db>,
    proxy: HoldingProxy,
    new: String,
    database: TestDatabase,
}

type Query = JoinHandle<Result<HardwareRows, StoreError>>;

impl World {
    async fn start() -> Self {
        let database = TestDatabase::mysql().await;
        database.migrated().await;
        let mysql = database.mysql_details();
        let new = mysql.other_user();
        mysql.create_account(&new, NEXT_PASSWORD).await;
        let server = format!("{}:{}", mysql.server.host, mysql.server.port);
        let proxy = HoldingProxy::start(Ipv4Addr::LOCALHOST.into(), &server).await;
        let proxy = proxy.expect("a free port");
        mysql.go_through(proxy.address().port());
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
        let held = self.proxy.hold_next(at, Vec::new());
        let db = Arc::clone(&self.db);
        let query = tokio::spawn(async move { db.list_hardware().await });
        held.is_held(DEADLINE).await.expect("a login should have sent its password");
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

/// Neither a login that ends late nor a connection that comes back late is there when idle connections are
/// retired because of the change, and nothing else needs a connection afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn no_connection_of_an_older_credential_stays_idle() {
    let world = World::start().await;
    let (opened, come_back) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (db, has_opened, may_return) =
        (Arc::clone(&world.db), Arc::clone(&opened), Arc::clone(&come_back));
    let busy = tokio::spawn(async move {
        let Db::Mysql(connections) = &*db else { panic!("MySQL") };
        let used = connections.writing.run(async |_| {
            has_opened.notify_one();
            may_return.notified().await;
            Ok(())
        });
        used.await
    });
    opened.notified().await;
    let (held, query) = world.hold_query(At::Answer).await;
    assert_eq!(world.report().connections, [(1, 2)].into());
    let mysql = world.mysql();
    eventually("the server lets the login in", async || {
        (mysql.sessions_of(&mysql.user).await == 2).then_some(())
    })
    .await;

    let db = Arc::clone(&world.db);
    let retirement = tokio::spawn(async move { db.retire_old_connections().await });
    mysql.announce(2, vec![candidate(&world.new, NEXT_PASSWORD), candidate(&mysql.user, PASSWORD)]);
    world.db.ping().await.expect("the new account is let in");
    let changed = Instant::now();
    eventually("the idle connections of that time have been looked at", async || {
        (changed.elapsed() > Duration::from_millis(600)).then_some(())
    })
    .await;
    let report = |connections| SessionReport { generation: 2, candidate: Some(0), connections };
    assert_eq!(world.report(), report([(1, 2), (2, 1)].into()));

    held.release();
    succeeds(query).await;
    come_back.notify_one();
    busy.await.expect("no panic").expect("used");
    eventually("the connections of the older credential are closed", async || {
        world.report().connections.keys().eq([&2]).then_some(())
    })
    .await;
    assert_eq!(world.report(), report([(2, 1)].into()), "the late login is not the latest");
    eventually("the server has no session of the old account", async || {
        (mysql.sessions_of(&mysql.user).await == 0).then_some(())
    })
    .await;
    retirement.abort();
}

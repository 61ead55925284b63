//! A database of its own for each test.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use diesel_async::SimpleAsyncConnection;
use hardware::store::{Db, StoreConfig, Tls};
use mysql_async::{Conn, OptsBuilder, Row, SslOpts, prelude::Queryable};
use service_kit::credentials::{Candidate, CredentialSet};
use tempfile::TempDir;
use tokio::sync::watch;

/// A database that exists as long as this value.
pub(crate) struct TestDatabase {
    pub(crate) config: StoreConfig,
    pub(crate) mysql: Option<Mysql>,
    _folder: TempDir,
}

impl TestDatabase {
    /// A file in a folder of its own.
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = StoreConfig::Sqlite { path: folder.path().join("hardware.db") };
        Self { config, mysql: None, _folder: folder }
    }

    /// A schema and an account of its own on the MariaDB of `TEST_MYSQL_ENV`.
    pub(crate) async fn mysql() -> Self {
        let mysql = Mysql::create().await;
        let config = StoreConfig::Mysql {
            credentials: mysql.credentials.subscribe(),
            tls: mysql.server.tls(),
        };
        Self { config, mysql: Some(mysql), _folder: TempDir::new().expect("a folder") }
    }

    /// Another set of connections, as another process would have.
    pub(crate) fn connect(&self) -> Db {
        Db::new(&self.config).expect("a pool")
    }

    /// Connections to a database whose schema is up to date.
    pub(crate) async fn migrated(&self) -> Db {
        let db = self.connect();
        db.migrate().await.expect("migrated");
        db
    }

    pub(crate) fn mysql_details(&self) -> &Mysql {
        self.mysql.as_ref().expect("a test on MySQL")
    }
}

/// Runs SQL as any other tool would.
pub(crate) async fn execute(db: &Db, sql: &str) {
    let done = match db {
        Db::Sqlite(connections) => {
            connections.writing.run(async |connection| connection.batch_execute(sql).await).await
        }
        Db::Mysql(connections) => {
            connections.writing.run(async |connection| connection.batch_execute(sql).await).await
        }
    };
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The server for tests, and its administrator.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca_file: PathBuf,
    admin: String,
    admin_password: String,
}

impl Server {
    /// Fails rather than skips: a test that did not run has proven nothing.
    fn from_environment() -> Self {
        let path = std::env::var_os("TEST_MYSQL_ENV").expect(
            "TEST_MYSQL_ENV is not set. Tests on MySQL need a MariaDB: run `make unit`, or \
             `e2e/cluster/cluster mariadb-up` and set TEST_MYSQL_ENV to the file it names",
        );
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("TEST_MYSQL_ENV={}: {error}", path.display()));
        let settings: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        let setting = |name: &str| {
            let value = settings.get(name).unwrap_or_else(|| panic!("{name} is not in the file"));
            (*value).to_owned()
        };
        Self {
            host: setting("MYSQL_HOST"),
            port: setting("MYSQL_PORT").parse().expect("a port"),
            ca_file: setting("MYSQL_TLS_CA_FILE").into(),
            admin: setting("MARIADB_ADMIN_USER"),
            admin_password: setting("MARIADB_ADMIN_PASSWORD"),
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::Required { ca_file: self.ca_file.clone() }
    }

    /// Runs statements as the administrator, one after the other.
    pub(crate) async fn administer(&self, statements: &[String]) {
        let mut connection = self.connect_as_admin().await;
        for statement in statements {
            let done = connection.query_drop(statement).await;
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        connection.disconnect().await.expect("disconnected");
    }

    /// For a login whose account is to be added.
    fn options(&self) -> OptsBuilder {
        let tls = SslOpts::default()
            .with_root_certs(vec![self.ca_file.clone().into()])
            .with_disable_built_in_roots(true);
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .prefer_socket(false)
            .ssl_opts(tls)
    }

    pub(crate) async fn connect_as_admin(&self) -> Conn {
        let options = self.options();
        let options =
            options.user(Some(self.admin.clone())).pass(Some(self.admin_password.clone()));
        Conn::new(options).await.expect("the administrator of TEST_MYSQL_ENV can log in")
    }
}

/// A schema and its account.
pub(crate) struct Mysql {
    pub(crate) server: Server,
    pub(crate) schema: String,
    pub(crate) user: String,
    /// Announces credentials as a rotation would.
    pub(crate) credentials: watch::Sender<Arc<CredentialSet>>,
}

pub(crate) const PASSWORD: &str = "first-password";

impl Mysql {
    async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Tests may be built without main, which does this first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let server = Server::from_environment();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{number}", std::process::id());
        let user = format!("{schema}_a");
        server
            .administer(&[
                format!("DROP DATABASE IF EXISTS {schema}"),
                format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"),
            ])
            .await;
        let first = CredentialSet {
            generation: 1,
            host: server.host.clone(),
            port: server.port,
            database: schema.clone(),
            candidates: vec![candidate(&user, PASSWORD)],
        };
        let (credentials, _) = watch::channel(Arc::new(first));
        let mysql = Self { server, schema, user, credentials };
        mysql.create_account(&mysql.user, PASSWORD).await;
        mysql
    }

    /// Adds an account with all rights on the schema.
    pub(crate) async fn create_account(&self, user: &str, password: &str) {
        let Self { server, schema, .. } = self;
        server
            .administer(&[
                format!("DROP USER IF EXISTS '{user}'@'%'"),
                format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
                // What the administrator has to give: not ALL, as on RDS.
                format!(
                    "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER \
                     ON {schema}.* TO '{user}'@'%'"
                ),
            ])
            .await;
    }

    /// Connections that are opened from now on go to this port of `localhost`, a name for which the
    /// server's certificate is good.
    pub(crate) fn go_through(&self, port: u16) {
        self.credentials.send_modify(|set| {
            let set = Arc::make_mut(set);
            (set.host, set.port) = ("localhost".to_owned(), port);
        });
    }

    /// The credentials with other candidates, in a new generation.
    pub(crate) fn announce(&self, generation: u64, candidates: Vec<Candidate>) {
        let current = Arc::clone(&self.credentials.borrow());
        let next = CredentialSet { generation, candidates, ..CredentialSet::clone(&current) };
        self.credentials.send_replace(Arc::new(next));
    }

    /// The name of the account that takes over in a rotation.
    pub(crate) fn other_user(&self) -> String {
        format!("{}_b", self.schema)
    }

    /// How many sessions the server has of an account.
    pub(crate) async fn sessions_of(&self, user: &str) -> usize {
        self.session_ids(user).await.len()
    }

    /// Ends the sessions that the account has, as the account itself, which may do so.
    pub(crate) async fn kill_sessions(&self) {
        let ids = self.session_ids(&self.user).await;
        assert!(!ids.is_empty(), "there should be sessions to kill");
        let options = self.server.options().user(Some(self.user.clone())).pass(Some(PASSWORD));
        let mut killer = Conn::new(options).await.expect("logged in");
        for id in ids {
            match killer.query_drop(format!("KILL {id}")).await {
                // It has ended by itself.
                Err(mysql_async::Error::Server(error)) if error.code == 1094 => {}
                ended => ended.expect("killed"),
            }
        }
        killer.disconnect().await.expect("disconnected");
    }

    /// Their numbers. MySQL's table of them cannot be read while any test says what others quote.
    pub(crate) async fn session_ids(&self, user: &str) -> Vec<u64> {
        let mut connection = self.server.connect_as_admin().await;
        let sessions: Vec<Row> = connection.query("SHOW PROCESSLIST").await.expect("a list");
        connection.disconnect().await.expect("disconnected");
        let of_user = |row: &&Row| row.get::<String, _>("User").is_some_and(|it| it == user);
        sessions.iter().filter(of_user).map(|row| row.get("Id").expect("a number")).collect()
    }
}

pub(crate) fn candidate(user: &str, password: &str) -> Candidate {
    Candidate { username: user.to_owned(), password: password.into() }
}

impl Drop for Mysql {
    /// On a thread of its own, as a test's runtime may be ending.
    fn drop(&mut self) {
        let (server, schema) = (self.server.clone(), self.schema.clone());
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(server.administer(&[
                format!("DROP DATABASE IF EXISTS {schema}"),
                format!("DROP USER IF EXISTS '{schema}_a'@'%', '{schema}_b'@'%'"),
            ]));
        });
        if cleaned.join().is_err() {
            eprintln!("failed to remove the schema {}", self.schema);
        }
    }
}

/// Makes two tests of each function that takes a [`TestDatabase`], one for each database.
macro_rules! on_both_databases {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::support::database::TestDatabase::sqlite()).await;
            })+
        }
        mod on_mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test($crate::support::database::TestDatabase::mysql().await).await;
            })+
        }
    };
}
pub(crate) use on_both_databases;

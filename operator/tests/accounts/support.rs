//! A portal of its own for each test: a schema, and the accounts of a uid that nobody else has.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use mysql_async::{Conn, OptsBuilder, SslOpts, prelude::Queryable};
use operator::{
    cluster::client::Fence,
    rotation::mysql::{
        AccountName, Authorities, Password, SchemaName, Server, Session, Slot, Tls, login_as_root,
    },
};
use rand::{SeedableRng, rngs::StdRng};
use service_kit::credentials::Candidate;

/// What `e2e/cluster` wrote about the MariaDB that it started.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca_file: PathBuf,
    pub(crate) admin: Candidate,
    /// Where MariaDB's own root is let in, who may set what an administrator of RDS sets elsewhere.
    root_socket: Option<String>,
}

impl Environment {
    /// Fails rather than skips: a test that did not run has proven nothing.
    pub(crate) fn read() -> Self {
        // Tests are built without main, which does this first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
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
            admin: Candidate {
                username: setting("MARIADB_ADMIN_USER"),
                password: setting("MARIADB_ADMIN_PASSWORD").into(),
            },
            root_socket: settings.get("MARIADB_ROOT_SOCKET").map(|path| (*path).to_owned()),
        }
    }

    pub(crate) fn server(&self, schema: &str) -> Server {
        Server {
            host: self.host.clone(),
            port: self.port,
            schema: SchemaName::new(schema).expect("a name"),
            tls: Tls::Required(Authorities::from_pem(
                &std::fs::read(&self.ca_file).expect("the server's root"),
            )),
        }
    }

    /// A connection that the operator's code had no part in.
    pub(crate) async fn connect(&self, username: &str, password: &str) -> Conn {
        let tls = SslOpts::default()
            .with_root_certs(vec![self.ca_file.clone().into()])
            .with_disable_built_in_roots(true);
        let options = OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(self.port)
            .user(Some(username))
            .pass(Some(password))
            .prefer_socket(false)
            .ssl_opts(tls);
        Conn::new(options).await.unwrap_or_else(|error| panic!("login as {username}: {error}"))
    }

    /// Runs a statement as MariaDB's own root.
    pub(crate) fn administer_as_root(&self, statement: &str) {
        let socket = self.root_socket.as_ref().expect("MARIADB_ROOT_SOCKET is in the file");
        let socket = format!("--socket={socket}");
        let done = std::process::Command::new("mariadb")
            .args(["--no-defaults", &socket, "--user=root", "--execute", statement])
            .output()
            .expect("the program mariadb");
        assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Runs statements as the administrator, one after the other.
    pub(crate) async fn administer(&self, statements: &[String]) {
        use secrecy::ExposeSecret;
        let mut connection =
            self.connect(&self.admin.username, self.admin.password.expose_secret()).await;
        for statement in statements {
            let done = connection.query_drop(statement).await;
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        connection.disconnect().await.expect("disconnected");
    }
}

/// A portal with an empty schema and no accounts yet. Both are removed with this value.
pub(crate) struct Portal {
    pub(crate) environment: Environment,
    pub(crate) server: Server,
    pub(crate) root: Session,
    /// Of the root's sessions.
    pub(crate) fence: Fence,
    /// The two accounts of pods, and that of migrations.
    pub(crate) a: AccountName,
    pub(crate) b: AccountName,
    pub(crate) migration: AccountName,
    random: StdRng,
}

impl Portal {
    pub(crate) async fn new() -> Self {
        Self::with_schema(|number| format!("rot_{number}")).await
    }

    /// A portal whose schema is named by its number, which no other test has.
    pub(crate) async fn with_schema(name: impl FnOnce(&str) -> String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let number = format!("{:08x}{count:02x}", std::process::id());
        let environment = Environment::read();
        let server = environment.server(&name(&number));
        let schema = quoted(server.schema.as_str());
        environment
            .administer(&[
                format!("DROP DATABASE IF EXISTS {schema}"),
                format!("CREATE DATABASE {schema}"),
            ])
            .await;
        let fence = Fence::always_open();
        let root =
            login_as_root(&server, &environment.admin, &fence).await.expect("the administrator");
        let uid = number.repeat(2);
        let [a, b, migration] = [Slot::A, Slot::B, Slot::Migration]
            .map(|slot| AccountName::for_portal(&uid, slot).expect("hexadecimal digits"));
        let random = StdRng::from_rng(&mut rand::rng());
        Self { environment, server, root, fence, a, b, migration, random }
    }

    pub(crate) fn password(&mut self) -> Password {
        Password::generate(&mut self.random)
    }

    /// Runs a statement as the administrator.
    pub(crate) async fn administer(&self, statement: &str) {
        self.environment.administer(&[statement.to_owned()]).await;
    }

    /// A variable of the server, none if it has none of that name.
    pub(crate) async fn variable(&self, name: &str) -> Option<String> {
        use secrecy::ExposeSecret;
        let admin = &self.environment.admin;
        let password = admin.password.expose_secret();
        let mut connection = self.environment.connect(&admin.username, password).await;
        let sql = format!("SHOW GLOBAL VARIABLES LIKE '{name}'");
        let row: Option<(String, String)> = connection.query_first(sql).await.expect("an answer");
        connection.disconnect().await.expect("disconnected");
        row.map(|(_, value)| value)
    }

    /// The schema as `GRANT` names it: a pattern, but on MySQL with `partial_revokes`.
    pub(crate) async fn schema_in_grants(&self) -> String {
        let schema = self.server.schema.as_str();
        if self.variable("partial_revokes").await.is_some_and(|value| value == "ON") {
            return quoted(schema);
        }
        quoted(&schema.replace('_', "\\_"))
    }

    /// Makes the table of the first migration, with a row.
    pub(crate) async fn migrate(&self) {
        let schema = quoted(self.server.schema.as_str());
        self.environment
            .administer(&[
                format!(
                    "CREATE TABLE {schema}.hardware (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY \
                     KEY, provider TEXT NOT NULL, name TEXT NOT NULL)"
                ),
                format!("INSERT INTO {schema}.hardware (provider, name) VALUES ('Amazon', 'c5')"),
            ])
            .await;
    }

    /// Another login as the administrator, as another operator would have.
    pub(crate) async fn another_root(&self) -> Session {
        login_as_root(&self.server, &self.environment.admin, &self.fence)
            .await
            .expect("the administrator")
    }

    /// A session that goes on, as a pod would have.
    pub(crate) async fn pod(&self, name: &AccountName, password: &Password) -> Conn {
        use secrecy::ExposeSecret;
        self.environment.connect(name.as_str(), password.secret().expose_secret()).await
    }
}

impl Drop for Portal {
    /// On a thread of its own, as a test's runtime may be ending.
    fn drop(&mut self) {
        let environment = self.environment.clone();
        let statements = [
            format!("DROP DATABASE IF EXISTS {}", quoted(self.server.schema.as_str())),
            format!(
                "DROP USER IF EXISTS '{}'@'%', '{}'@'%', '{}'@'%'",
                self.a, self.b, self.migration
            ),
        ];
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(environment.administer(&statements));
        });
        if cleaned.join().is_err() {
            eprintln!("failed to remove the schema {}", self.server.schema.as_str());
        }
    }
}

/// Not the code under test.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(crate) fn candidate(name: &AccountName, password: &Password) -> Candidate {
    Candidate { username: name.as_str().to_owned(), password: password.secret().clone() }
}

/// A read that a pod's session does.
pub(crate) async fn is_alive(connection: &mut Conn) -> bool {
    connection.query_first::<u8, _>("SELECT 1").await.is_ok_and(|row| row == Some(1))
}

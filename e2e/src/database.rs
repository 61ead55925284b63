//! The real MariaDB and MySQL servers, which speak TLS only.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use mysql_async::{Conn, OptsBuilder, SslOpts, prelude::Queryable};
use mysql_login::find_denial;

use crate::{setting, wait::eventually};

/// How a server is reached and as whom; read from the file that its script writes.
#[derive(Clone, Debug)]
pub struct Database {
    settings: BTreeMap<String, String>,
}

impl Database {
    /// The MariaDB of `cluster mariadb-up`, on which most is tested.
    pub fn from_settings() -> Result<Self> {
        Self::read("TEST_MYSQL_ENV")
    }

    /// The MySQL of `with-mysql`.
    pub fn of_mysql() -> Result<Self> {
        Self::read("TEST_REAL_MYSQL_ENV")
    }

    /// Reads the file that a variable names.
    fn read(variable: &str) -> Result<Self> {
        let path = setting(variable)?;
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let settings = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Self { settings })
    }

    /// One of its settings, such as `MYSQL_HOST`.
    pub fn get(&self, name: &str) -> Result<&str> {
        let value = self.settings.get(name).map(String::as_str);
        value.with_context(|| format!("the database's settings lack {name}"))
    }

    /// Where it listens, as `HOST:PORT`.
    pub fn address(&self) -> Result<String> {
        Ok(format!("{}:{}", self.get("MYSQL_HOST")?, self.get("MYSQL_PORT")?))
    }

    /// The same server at the address of a proxy in front of it.
    #[must_use]
    pub fn behind(&self, proxy: SocketAddr) -> Self {
        let mut settings = self.settings.clone();
        settings.insert("MYSQL_HOST".to_owned(), proxy.ip().to_string());
        settings.insert("MYSQL_PORT".to_owned(), proxy.port().to_string());
        Self { settings }
    }

    /// The certificate authority of the server, as PEM text.
    pub fn authority(&self) -> Result<String> {
        let path = self.get("MYSQL_TLS_CA_FILE")?;
        fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
    }

    /// Logs in as the administrator that the tests may use, over TLS.
    pub async fn connect_as_admin(&self) -> Result<Conn> {
        self.connect(self.get("MARIADB_ADMIN_USER")?, self.get("MARIADB_ADMIN_PASSWORD")?).await
    }

    /// Logs in over TLS.
    pub async fn connect(&self, user: &str, password: &str) -> Result<Conn> {
        let tls = SslOpts::default()
            .with_root_certs(vec![PathBuf::from(self.get("MYSQL_TLS_CA_FILE")?).into()])
            .with_disable_built_in_roots(true);
        let options = OptsBuilder::default()
            .ip_or_hostname(self.get("MYSQL_HOST")?)
            .tcp_port(self.get("MYSQL_PORT")?.parse()?)
            .user(Some(user))
            .pass(Some(password))
            .ssl_opts(tls);
        Conn::new(options).await.with_context(|| format!("failed to log in as {user}"))
    }

    /// Fails unless the server refuses a login for who it is.
    pub async fn expect_denied(&self, user: &str, password: &str) -> Result<()> {
        let Err(error) = self.connect(user, password).await else {
            bail!("{user} is still let in")
        };
        match error.downcast_ref().and_then(find_denial) {
            Some(_) => Ok(()),
            None => Err(error),
        }
    }

    /// Creates an empty schema with an account of its own (rights on that schema only), both named
    /// `name`, and gives the account's password. What an earlier run left is replaced.
    pub async fn create_schema(&self, name: &str) -> Result<String> {
        let password = random_password()?;
        let mut admin = self.connect_as_admin().await?;
        for statement in [
            format!("DROP DATABASE IF EXISTS `{name}`"),
            format!("DROP USER IF EXISTS '{name}'@'%'"),
            format!("CREATE DATABASE `{name}`"),
            format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON `{name}`.* TO '{name}'@'%'"
            ),
        ] {
            admin.query_drop(statement).await?;
        }
        admin.disconnect().await?;
        Ok(password)
    }

    /// Creates an empty schema, and a root account for it with the rights of an RDS master user, both
    /// named `name`. Gives the account's password. What an earlier run left is replaced.
    pub async fn create_root(&self, name: &str) -> Result<String> {
        let password = random_password()?;
        let mut admin = self.connect_as_admin().await?;
        let grants: Vec<String> = admin.query("SHOW GRANTS").await?;
        let rights = grants.iter().find_map(|grant| {
            grant.strip_prefix("GRANT ")?.split_once(" ON *.*").map(|(rights, _)| rights.to_owned())
        });
        let rights = rights.context("the administrator has rights on everything")?;
        for statement in [
            format!("DROP DATABASE IF EXISTS `{name}`"),
            format!("DROP USER IF EXISTS '{name}'@'%'"),
            format!("CREATE DATABASE `{name}`"),
            format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
            format!("GRANT {rights} ON *.* TO '{name}'@'%' WITH GRANT OPTION"),
        ] {
            admin.query_drop(statement).await?;
        }
        admin.disconnect().await?;
        Ok(password)
    }

    /// Logins that the server has denied since it was started, as it counts them: MariaDB without those
    /// to locked accounts, MySQL with them (and with connections that never came to a login).
    pub async fn denied_logins(&self) -> Result<u64> {
        let mut admin = self.connect_as_admin().await?;
        let counters: Vec<(String, u64)> = admin
            .query(
                "SHOW GLOBAL STATUS WHERE Variable_name IN ('Access_denied_errors', 'Aborted_connects')",
            )
            .await?;
        admin.disconnect().await?;
        let find = |wanted: &str| counters.iter().find(|(name, _)| name == wanted);
        let counter = find("Access_denied_errors").or_else(|| find("Aborted_connects"));
        Ok(counter.context("the server counts them")?.1)
    }

    /// The accounts whose name begins with `prefix`, with whether each is locked.
    pub async fn accounts(&self, prefix: &str) -> Result<BTreeMap<String, bool>> {
        let mut admin = self.connect_as_admin().await?;
        let query = format!(
            "SELECT user, JSON_VALUE(priv, '$.account_locked') FROM mysql.global_priv WHERE user LIKE '{prefix}%'"
        );
        let rows: Vec<(String, Option<String>)> = admin.query(query).await?;
        admin.disconnect().await?;
        let is_locked = |locked: Option<String>| matches!(locked.as_deref(), Some("1" | "true"));
        Ok(rows.into_iter().map(|(user, locked)| (user, is_locked(locked))).collect())
    }

    /// Waits until nobody can log in as any account whose name begins with `prefix`.
    pub async fn wait_until_locked(&self, prefix: &str, deadline: Duration) -> Result<()> {
        eventually(&format!("a lock on each account {prefix}…"), deadline, async || {
            let accounts = self.accounts(prefix).await?;
            ensure!(!accounts.is_empty(), "there is none");
            ensure!(accounts.values().all(|is_locked| *is_locked), "found {accounts:?}");
            Ok(())
        })
        .await
    }

    /// Runs one statement as the administrator.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let mut admin = self.connect_as_admin().await?;
        admin.query_drop(statement).await?;
        admin.disconnect().await.context("failed to log out")
    }
}

/// 32 hexadecimal digits from the operating system, and what policies of servers ask for besides: four
/// characters of each class.
pub fn random_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}aBcD-eFgH_0123.+", u128::from_be_bytes(bytes)))
}

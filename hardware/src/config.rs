//! Command line and environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use service_kit::{
    config::{AdminArgs, ConfigError, HostPort, LogArgs, ShutdownArgs, read_secret},
    credentials::{Candidate, CredentialSet},
    watched_file::FileError,
};

use crate::{
    backtest::BacktestArgs,
    import::ImportArgs,
    jobs,
    rebuild::RebuildArgs,
    reloadable_file::ReloadableFile,
    source_tokens::SourceTokens,
    store::{StoreConfig, Tls},
    watches,
};

const DEFAULT_MYSQL_PORT: u16 = 3306;

/// Serves how likely hardware can be had
#[derive(Debug, Parser)]
#[command(name = "hardware", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve GET /hardware/ and take observations
    Serve(ServeArgs),
    /// Bring the database's schema up to date, then exit; safe to run many at once
    Migrate(MigrateArgs),
    /// Say what works with this configuration and what does not, then exit
    Check(ServeArgs),
    /// Replay a recorded past and say what the labels would have been worth
    Backtest(BacktestArgs),
    /// Put a recorded past into the history of a source; safe to repeat
    Import(ImportArgs),
    /// Fold the states of all pools anew from history; safe while serving
    Rebuild(RebuildArgs),
}

/// Options of `serve` and `check`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address of the public listener
    #[arg(long, env = "HARDWARE_LISTEN", default_value = "0.0.0.0:5001", value_name = "ADDRESS")]
    pub hardware_listen: SocketAddr,
    /// File with the rows that the list must have: [{"provider", "name"}, …]; followed while
    /// serving. Without entries a table that was made by `migrate` begins with Amazon c5 and
    /// Azure H16mr; one that was there before stays as it is
    #[arg(long, env = "CATALOG_FILE", value_name = "FILE")]
    pub catalog_file: Option<PathBuf>,
    /// Bearer token of POST /v1/observations, for every source that has none of its own; without any
    /// token that route is closed
    #[arg(long, env = "OBSERVATIONS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub observations_token: Option<SecretString>,
    /// File that holds the token; followed while serving
    #[arg(long, env = "OBSERVATIONS_TOKEN_FILE", value_name = "FILE")]
    pub observations_token_file: Option<PathBuf>,
    /// File with tokens of single sources: {"source": "token", …}; followed while serving. A source
    /// that is named there is let in with its own token only
    #[arg(long, env = "SOURCE_TOKENS_FILE", value_name = "FILE")]
    pub source_tokens_file: Option<PathBuf>,
    /// File with the watches of the portal, as the operator writes it: who is told when hardware can be
    /// had; followed while serving, and may come later
    #[arg(long, env = "WATCHES_FILE", value_name = "FILE")]
    pub watches_file: Option<PathBuf>,
    /// How often watches are looked at; not an option, but shorter in tests.
    #[arg(skip = watches::PAUSE)]
    pub watches_pause: Duration,
    /// Lets agents ask at /mcp, with the Model Context Protocol; for programs built with that feature
    #[arg(long, env = "MCP", value_parser = parse_switch)]
    pub mcp: bool,
    /// How often to read the database
    #[arg(long, env = "REFRESH_INTERVAL", default_value = "2s", value_parser = parse_interval, value_name = "TIME")]
    pub refresh_interval: Duration,
    /// How often the jobs of the database are looked for; not an option, but shorter in tests.
    #[arg(skip = jobs::PAUSE)]
    pub jobs_pause: Duration,
    /// How long history is kept.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The admin listener.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How long history is kept.
#[derive(Args, Clone, Copy, Debug)]
pub struct HistoryArgs {
    /// For how long the history of pools is kept; levels do not need it
    #[arg(long, env = "HISTORY_RETENTION", default_value = "30d", value_parser = parse_retention, value_name = "TIME")]
    pub history_retention: Duration,
}

/// Options of `migrate`.
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Which database. MySQL (or MariaDB) is used if `MYSQL_HOST` or `MYSQL_CREDENTIALS_FILE` is set,
/// otherwise SQLite. Empty variables count as not set, as docker-compose passes them.
#[derive(Args, Debug)]
pub struct StoreArgs {
    /// File of the embedded database, used unless MySQL is configured
    #[arg(long, env = "SQLITE_PATH", default_value = "hardware.db", value_name = "FILE")]
    pub sqlite_path: PathBuf,
    /// MySQL server: HOST or HOST:PORT
    #[arg(long, env = "MYSQL_HOST", value_name = "HOST")]
    pub mysql_host: Option<String>,
    /// Port of the server unless the host has one [default: 3306]
    #[arg(long, env = "MYSQL_PORT", value_name = "PORT")]
    pub mysql_port: Option<String>,
    /// Account to log in as
    #[arg(long, env = "MYSQL_USER", value_name = "NAME")]
    pub mysql_user: Option<String>,
    /// File that holds the account's name
    #[arg(long, env = "MYSQL_USER_FILE", value_name = "FILE")]
    pub mysql_user_file: Option<PathBuf>,
    /// Password of the account
    #[arg(long, env = "MYSQL_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub mysql_password: Option<SecretString>,
    /// File that holds the password; followed while serving
    #[arg(long, env = "MYSQL_PASSWORD_FILE", value_name = "FILE")]
    pub mysql_password_file: Option<PathBuf>,
    /// Name of the database
    #[arg(long, env = "MYSQL_DATABASE", value_name = "NAME")]
    pub mysql_database: Option<String>,
    /// File with server and accounts, as the operator writes it; followed while serving. Excludes
    /// the options above
    #[arg(long, env = "MYSQL_CREDENTIALS_FILE", value_name = "FILE")]
    pub mysql_credentials_file: Option<PathBuf>,
    /// Whether the connection to MySQL is encrypted and the server's certificate checked
    #[arg(long, env = "MYSQL_TLS", default_value = "required", value_enum)]
    pub mysql_tls: TlsMode,
    /// PEM file with the only certificate authorities that the server's certificate may come from
    #[arg(
        long,
        env = "MYSQL_TLS_CA_FILE",
        default_value = "/etc/gill-hicks/rds-ca.pem",
        value_name = "FILE"
    )]
    pub mysql_tls_ca_file: PathBuf,
}

/// Value of `MYSQL_TLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// No connection without a trusted certificate
    Required,
    /// No encryption: passwords and answers can be read and changed on the way
    Disabled,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that an option names is wrong.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The database to use, and the credential to follow if it is a server.
pub struct OpenStore {
    /// What [`crate::store::Db`] needs.
    pub config: StoreConfig,
    /// Kept in step by whoever lives long enough.
    pub credentials: Option<ReloadableFile<CredentialSet>>,
}

impl StoreArgs {
    /// Reads what the options name and checks that they agree.
    pub async fn open(&self) -> Result<OpenStore, OpenError> {
        let host = set(self.mysql_host.as_deref());
        let credentials = match (host, set_path(self.mysql_credentials_file.as_deref())) {
            (None, None) => {
                let config = StoreConfig::Sqlite { path: self.sqlite_path.clone() };
                return Ok(OpenStore { config, credentials: None });
            }
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "MYSQL_HOST",
                    "given together with MYSQL_CREDENTIALS_FILE",
                    "only one of them",
                )
                .into());
            }
            (None, Some(file)) => ReloadableFile::file(file, CredentialSet::from_json).await?,
            (Some(host), None) => self.open_account(host).await?,
        };
        let tls = match self.mysql_tls {
            TlsMode::Disabled => Tls::Disabled,
            TlsMode::Required => {
                let ca_file = self.mysql_tls_ca_file.clone();
                if let Err(error) = tokio::fs::metadata(&ca_file).await {
                    let found = format!("{} ({error})", ca_file.display());
                    let expected = "a readable PEM file, or MYSQL_TLS=disabled";
                    return Err(wrong("MYSQL_TLS_CA_FILE", &found, expected).into());
                }
                Tls::Required { ca_file }
            }
        };
        let config = StoreConfig::Mysql { credentials: credentials.latest(), tls };
        Ok(OpenStore { config, credentials: Some(credentials) })
    }

    async fn open_account(&self, host: &str) -> Result<ReloadableFile<CredentialSet>, OpenError> {
        let account = Account {
            server: self.server(host)?,
            database: set(self.mysql_database.as_deref())
                .ok_or_else(|| wrong("MYSQL_DATABASE", "not set", "the name of the database"))?
                .to_owned(),
            user: set(self.mysql_user.as_deref()).map(str::to_owned),
            user_file: set_path(self.mysql_user_file.as_deref()).map(Path::to_owned),
        };
        let password = self.mysql_password.clone();
        let password = password.filter(|password| !password.expose_secret().is_empty());
        let password_file = set_path(self.mysql_password_file.as_deref());
        let Some(password_file) = password_file else {
            let password = password.ok_or_else(|| {
                wrong("MYSQL_PASSWORD", "not set", "a password, or MYSQL_PASSWORD_FILE")
            })?;
            return Ok(ReloadableFile::fixed(account.credential_set(0, password)?));
        };
        // Refuses the one beside the other, and a file that cannot be read, in the usual words.
        read_secret("MYSQL_PASSWORD", password, Some(password_file))?;
        account.user()?;
        let generation = AtomicU64::new(0);
        let next = move || generation.fetch_add(1, Ordering::Relaxed);
        // The account's name changes together with its password, if at all.
        let parse = move |bytes: &[u8]| -> Result<CredentialSet, String> {
            let text = std::str::from_utf8(bytes).map_err(|_| "expected UTF-8 text".to_owned())?;
            let line = text.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                return Err("expected a password, found nothing".to_owned());
            }
            account.credential_set(next(), line.into()).map_err(|error| error.to_string())
        };
        Ok(ReloadableFile::file(password_file, parse).await?)
    }

    fn server(&self, host: &str) -> Result<HostPort, ConfigError> {
        let expected = |expected| move |found: String| wrong("MYSQL_HOST", &found, expected);
        let mut server: HostPort = host.parse().map_err(expected("HOST or HOST:PORT"))?;
        if let Some(port) = set(self.mysql_port.as_deref()) {
            let number = port.parse().ok().filter(|port: &u16| *port > 0);
            let number =
                number.ok_or_else(|| wrong("MYSQL_PORT", port, "a port from 1 to 65535"))?;
            if server.port.is_some_and(|in_host| in_host != number) {
                return Err(wrong("MYSQL_PORT", port, "the same port as in MYSQL_HOST, or none"));
            }
            server.port = Some(number);
        }
        Ok(server)
    }
}

/// An account as the original's environment names it.
struct Account {
    server: HostPort,
    database: String,
    user: Option<String>,
    user_file: Option<PathBuf>,
}

impl Account {
    fn credential_set(
        &self,
        generation: u64,
        password: SecretString,
    ) -> Result<CredentialSet, ConfigError> {
        Ok(CredentialSet {
            generation,
            host: self.server.host.clone(),
            port: self.server.port.unwrap_or(DEFAULT_MYSQL_PORT),
            database: self.database.clone(),
            candidates: vec![Candidate { username: self.user()?, password }],
        })
    }

    fn user(&self) -> Result<String, ConfigError> {
        let given = self.user.clone().map(SecretString::from);
        let user = read_secret("MYSQL_USER", given, self.user_file.as_deref())?;
        user.map(|user| user.expose_secret().to_owned())
            .ok_or_else(|| wrong("MYSQL_USER", "not set", "an account, or MYSQL_USER_FILE"))
    }
}

impl ServeArgs {
    /// Whether agents may ask, which not every build of this program can answer.
    pub fn open_mcp(&self) -> Result<bool, OpenError> {
        if self.mcp && !cfg!(feature = "mcp") {
            let expected = "false, as this program was built without the feature mcp";
            return Err(wrong("MCP", "true", expected).into());
        }
        Ok(self.mcp)
    }

    /// The token that sources share, if there is one.
    pub async fn open_token(&self) -> Result<Option<ReloadableFile<SecretString>>, OpenError> {
        let given = self.observations_token.clone();
        let given = given.filter(|token| !token.expose_secret().is_empty());
        match (given, set_path(self.observations_token_file.as_deref())) {
            (None, None) => Ok(None),
            (Some(token), None) => Ok(Some(ReloadableFile::fixed(token))),
            (None, Some(file)) => Ok(Some(ReloadableFile::file(file, parse_token).await?)),
            (Some(_), Some(_)) => Err(wrong(
                "OBSERVATIONS_TOKEN",
                "given together with OBSERVATIONS_TOKEN_FILE",
                "only one of them",
            )
            .into()),
        }
    }

    /// The file of watches, if there is one.
    #[must_use]
    pub fn watches_file(&self) -> Option<&Path> {
        set_path(self.watches_file.as_deref())
    }

    /// The tokens of single sources, if there are any.
    pub async fn open_source_tokens(
        &self,
    ) -> Result<Option<ReloadableFile<SourceTokens>>, OpenError> {
        let Some(file) = set_path(self.source_tokens_file.as_deref()) else { return Ok(None) };
        Ok(Some(ReloadableFile::file(file, SourceTokens::parse).await?))
    }
}

fn parse_token(bytes: &[u8]) -> Result<SecretString, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "expected UTF-8 text")?;
    match text.trim() {
        "" => Err("expected a token, found nothing"),
        token => Ok(token.into()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    let refused = || "expected a time from 100ms to 1h".to_owned();
    range.contains(&interval).then_some(interval).ok_or_else(refused)
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_hours(7 * 24)..=Duration::from_hours(10 * 365 * 24);
    let refused = || "expected a time from 7d to 3650d".to_owned();
    range.contains(&retention).then_some(retention).ok_or_else(refused)
}

fn set(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty())
}

fn set_path(value: Option<&Path>) -> Option<&Path> {
    value.filter(|value| !value.as_os_str().is_empty())
}

fn wrong(option: &'static str, found: &str, expected: &str) -> ConfigError {
    ConfigError { option, found: found.to_owned(), expected: expected.to_owned() }
}

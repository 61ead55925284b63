//! Command lines, environment variables and what is said when they are wrong.

use std::{
    ffi::OsString, fmt, net::SocketAddr, path::Path, process::ExitCode, str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, ValueEnum, error::ErrorKind};
use secrecy::SecretString;

use crate::lifecycle::ShutdownTimes;

/// Exit status for bad configuration: `EX_USAGE` of BSD's sysexits.
pub const EXIT_BAD_CONFIGURATION: u8 = 64;
/// Exit status for a start or a run that failed.
pub const EXIT_FAILED: u8 = 1;

/// A value that cannot be used: which one, what was found, what is expected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("bad configuration: {option} is {found}, expected {expected}")]
pub struct ConfigError {
    /// The option as the user writes it: the environment variable or flag.
    pub option: &'static str,
    /// What it holds, or "not set". Never the content of a secret.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

/// Parses the command line and the environment. Prints help, version or the error itself, and then
/// gives the status to exit with: 0, or [`EXIT_BAD_CONFIGURATION`].
pub fn parse<C: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<C, ExitCode> {
    C::try_parse_from(arguments).map_err(|error| {
        let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        // Nowhere is left to report that the terminal is gone; the status still tells.
        if error.print().is_err() || !asked_for {
            ExitCode::from(EXIT_BAD_CONFIGURATION)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// Where and how much to log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log: a level, or directives such as info,hardware=debug
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// Form of log lines on standard error
    #[arg(long, env = "LOG_FORMAT", default_value = "json", value_enum)]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line
    Json,
    /// For people
    Text,
}

/// The listener for probes and metrics.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// Address of the admin listener: /livez, /readyz, /metrics
    #[arg(long, env = "ADMIN_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
}

/// How a shutdown goes.
#[derive(Args, Clone, Debug)]
pub struct ShutdownArgs {
    /// How long to go on serving after SIGTERM while reporting not ready
    #[arg(long, env = "DRAIN_DELAY", default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub drain_delay: Duration,
    /// How long requests in flight may take after that before they are cut off
    #[arg(long, env = "SHUTDOWN_DEADLINE", default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub shutdown_deadline: Duration,
}

impl From<&ShutdownArgs> for ShutdownTimes {
    fn from(args: &ShutdownArgs) -> Self {
        Self { drain_delay: args.drain_delay, deadline: args.shutdown_deadline }
    }
}

/// A secret that was given as a value or as the path of a file that holds it. Of a file, one
/// trailing line end is dropped, as editors add it.
pub fn read_secret(
    option: &'static str,
    value: Option<SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, ConfigError> {
    match (value, file) {
        (Some(_), Some(_)) => Err(ConfigError {
            option,
            found: "given twice".to_owned(),
            expected: format!("either {option} or {option}_FILE"),
        }),
        (Some(value), None) => Ok(Some(value)),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(content) => {
                let line = content.strip_suffix('\n').unwrap_or(&content);
                Ok(Some(line.strip_suffix('\r').unwrap_or(line).into()))
            }
            Err(error) => Err(ConfigError {
                option,
                found: format!("a file that cannot be read ({}: {error})", path.display()),
                expected: "a readable file of UTF-8 text".to_owned(),
            }),
        },
        (None, None) => Ok(None),
    }
}

/// A host name or address with an optional port, as terraform outputs and people write it:
/// `db.example`, `db.example:3306`, `10.0.0.1:3306`, `[2001:db8::1]:3306`, `2001:db8::1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, without brackets.
    pub host: String,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text)?;
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let is_name = host.len() <= 253
            && host.split('.').all(|label| !label.is_empty() && label.len() <= 63)
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !is_address && !is_name {
            return Err(format!("expected a host name or address, found \"{host}\""));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Base address of a service inside the cluster, without a slash at its end, from what `option` holds:
/// `HOST`, `HOST:PORT` or `http://HOST:PORT`.
pub fn service_address(
    option: &'static str,
    given: Option<&str>,
    default_port: u16,
) -> Result<String, ConfigError> {
    let expected =
        || format!("HOST, HOST:PORT or http://HOST:PORT ({default_port} without a port)");
    let wrong = |found: String, expected: String| ConfigError { option, found, expected };
    let given = given.unwrap_or_default().trim();
    let quoted = || format!("\"{given}\"");
    if given.is_empty() {
        return Err(wrong("not set".to_owned(), expected()));
    }
    if given.starts_with("https://") {
        let expected =
            "http://HOST:PORT: it is asked over plain HTTP, let a proxy beside it speak TLS";
        return Err(wrong(quoted(), expected.to_owned()));
    }
    let host = given.strip_prefix("http://").unwrap_or(given);
    let host = host.strip_suffix('/').unwrap_or(host);
    let mut server: HostPort = host.parse().map_err(|_| wrong(quoted(), expected()))?;
    server.port.get_or_insert(default_port);
    let address = format!("http://{server}");
    // Of what looks like a name, URLs refuse a little more: 256.0.0.1 is neither name nor address.
    url::Url::parse(&address).map_err(|_| wrong(quoted(), expected()))?;
    Ok(address)
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed
            .split_once(']')
            .ok_or_else(|| format!("expected a closing bracket in \"{text}\""))?;
        if rest.is_empty() {
            return Ok((host, None));
        }
        let port = rest
            .strip_prefix(':')
            .ok_or_else(|| format!("expected :PORT after the bracket in \"{text}\""))?;
        return Ok((host, Some(parse_port(port)?)));
    }
    match text.split_once(':') {
        // More than one colon without brackets is an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("expected a port from 1 to 65535, found \"{text}\"")),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(port) = self.port else {
            return f.write_str(&self.host);
        };
        if self.host.contains(':') {
            write!(f, "[{}]:{port}", self.host)
        } else {
            write!(f, "{}:{port}", self.host)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::{HostPort, read_secret};

    fn host_port(host: &str, port: impl Into<Option<u16>>) -> HostPort {
        HostPort { host: host.to_owned(), port: port.into() }
    }

    #[test]
    fn hosts_are_read_as_people_and_terraform_write_them() {
        let cases = [
            ("db", host_port("db", None)),
            ("db.example:3306", host_port("db.example", 3306)),
            ("10.250.0.1:3307", host_port("10.250.0.1", 3307)),
            ("2001:db8::1", host_port("2001:db8::1", None)),
            ("[2001:db8::1]:3306", host_port("2001:db8::1", 3306)),
            ("[2001:db8::1]", host_port("2001:db8::1", None)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":3306",
            "db:",
            "db:0",
            "db:65536",
            "db:+1",
            "a b",
            "http://db",
            "[::1",
            "[::1]3306",
            "a..b",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(
            host in "[a-z0-9]{1,10}(\\.[a-z0-9-]{1,10}){0,3}|2001:db8::[0-9a-f]{1,4}",
            port in proptest::option::of(1u16..),
        ) {
            let written = HostPort { host, port };
            prop_assert_eq!(written.to_string().parse(), Ok(written));
        }

        #[test]
        fn no_input_makes_the_parser_panic(text in ".*") {
            drop(text.parse::<HostPort>());
        }
    }

    #[test]
    fn a_secret_file_loses_one_line_end_and_no_more() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"p\xc3\xa4ss word\n\r\n").expect("written");
        let secret = read_secret("MYSQL_PASSWORD", None, Some(file.path())).expect("readable");
        assert_eq!(secret.expect("set").expose_secret(), "päss word\n");
    }

    #[test]
    fn a_secret_given_twice_is_refused_without_showing_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = read_secret("MYSQL_PASSWORD", Some("hunter2".into()), Some(file.path()));
        let message = error.expect_err("ambiguous").to_string();
        assert!(message.contains("either MYSQL_PASSWORD or MYSQL_PASSWORD_FILE"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

//! Options of the `portal` program.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand};
use service_kit::config::{AdminArgs, ConfigError, LogArgs, ShutdownArgs, service_address};

/// The port of `hardware` unless one is given.
const DEFAULT_HARDWARE_PORT: u16 = 5001;

/// Heading of the page unless one is given.
const DEFAULT_TITLE: &str = "Hardware availability";

/// The page that shows how likely hardware can be had.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the page
    Serve(ServeArgs),
    /// Say whether a configuration works, and exit
    Check(HardwareArgs),
}

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address of the page
    #[arg(long, env = "PORTAL_LISTEN", default_value = "0.0.0.0:5000", value_parser = parse_address, value_name = "ADDRESS")]
    pub portal_listen: SocketAddr,
    /// Heading of the page
    #[arg(
        long,
        env = "PORTAL_TITLE",
        default_value = "Hardware availability",
        value_name = "TEXT"
    )]
    pub portal_title: String,
    /// How often to ask hardware
    #[arg(long, env = "REFRESH_INTERVAL", default_value = "5s", value_parser = parse_interval, value_name = "TIME")]
    pub refresh_interval: Duration,
    /// The upstream.
    #[command(flatten)]
    pub hardware: HardwareArgs,
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

/// Where `hardware` is.
#[derive(Args, Debug)]
pub struct HardwareArgs {
    /// The hardware service: HOST, HOST:PORT or `http://HOST:PORT` (5001 without a port). Required
    #[arg(long, env = "HARDWARE_HOST", value_name = "HOST")]
    pub hardware_host: Option<String>,
}

impl ServeArgs {
    /// The heading. An empty one counts as none, as docker-compose passes variables without a value.
    #[must_use]
    pub fn title(&self) -> &str {
        match self.portal_title.trim() {
            "" => DEFAULT_TITLE,
            title => title,
        }
    }
}

impl HardwareArgs {
    /// Where it is: the beginning of its addresses, without a slash at the end.
    pub fn base_url(&self) -> Result<String, ConfigError> {
        service_address("HARDWARE_HOST", self.hardware_host.as_deref(), DEFAULT_HARDWARE_PORT)
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "PORTAL_LISTEN: expected ADDRESS:PORT such as 0.0.0.0:5000".to_owned())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let expected = || "REFRESH_INTERVAL: expected a time from 100ms to 1h such as 5s".to_owned();
    let interval = humantime::parse_duration(text).map_err(|_| expected())?;
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    range.contains(&interval).then_some(interval).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::HardwareArgs;

    fn base_url(host: &str) -> Result<String, String> {
        let args = HardwareArgs { hardware_host: Some(host.to_owned()) };
        args.base_url().map_err(|error| error.to_string())
    }

    #[test]
    fn hardware_is_found_however_it_is_written() {
        for (host, expected) in [
            ("hardware", "http://hardware:5001"),
            ("hardware:80", "http://hardware:80"),
            ("http://hardware", "http://hardware:5001"),
            ("http://hardware.team.svc:8080/", "http://hardware.team.svc:8080"),
            (" 10.0.0.1 ", "http://10.0.0.1:5001"),
            ("2001:db8::1", "http://[2001:db8::1]:5001"),
            ("http://[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ] {
            assert_eq!(base_url(host).as_deref(), Ok(expected), "{host}");
        }
    }

    #[test]
    fn a_host_that_cannot_be_used_is_named_with_what_is_expected() {
        for host in [
            "http://",
            "hardware:port",
            "ftp://hardware",
            "a b",
            "user@hardware",
            "h/path",
            "256.0.0.1",
        ] {
            let error = base_url(host).expect_err(host);
            let expected = format!("HARDWARE_HOST is \"{host}\", expected HOST, HOST:PORT or ");
            assert!(error.contains(&expected), "{error}");
        }
        let error = base_url("").expect_err("nothing");
        assert!(error.contains("HARDWARE_HOST is not set, expected HOST"), "{error}");
        let error = base_url("https://hardware").expect_err("no TLS");
        assert!(error.contains("plain HTTP"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_an_address_that_can_be_asked(host in "[a-z0-9.:-]{1,20}|\\PC{0,40}") {
            if let Ok(url) = base_url(&host) {
                prop_assert!(reqwest::Url::parse(&url).is_ok(), "{}", url);
            }
        }
    }
}

//! The program as users and clusters run it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;
use test_kit::{Running, free_addresses};

use crate::support::{database::TestDatabase, eventually};

fn hardware(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardware"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output: Output = hardware(arguments, variables).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a status"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_are_there() {
    let (status, out, _) = run(&["--version"], &[]);
    assert_eq!((status, out.as_str()), (0, "hardware 0.1.0\n"));
    let (status, out, _) = run(&["serve", "--help"], &[("MYSQL_PASSWORD", "hunter2")]);
    assert_eq!(status, 0);
    for word in [
        "HARDWARE_LISTEN",
        "MYSQL_HOST",
        "REFRESH_INTERVAL",
        "SOURCE_TOKENS_FILE",
        "[default: 0.0.0.0:5001]",
    ] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
    assert!(!out.contains("hunter2"));
}

#[test]
fn bad_configuration_ends_with_64_and_one_sentence() {
    let database = [("MYSQL_HOST", "db"), ("MYSQL_USER", "u"), ("MYSQL_DATABASE", "d")];
    let with = |more: &[(&'static str, &'static str)]| [&database[..], more].concat();
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, r#"{"lab": ""}"#).expect("written");
    let cases: [(Vec<(&str, &str)>, &str); 6] = [
        (
            vec![("MYSQL_HOST", "db")],
            "bad configuration: MYSQL_DATABASE is not set, expected the name of the database",
        ),
        (
            with(&[]),
            "bad configuration: MYSQL_PASSWORD is not set, expected a password, or \
             MYSQL_PASSWORD_FILE",
        ),
        (
            with(&[("MYSQL_PASSWORD", "p"), ("MYSQL_PORT", "0")]),
            "bad configuration: MYSQL_PORT is 0, expected a port from 1 to 65535",
        ),
        (
            with(&[("MYSQL_CREDENTIALS_FILE", "/nonexistent")]),
            "bad configuration: MYSQL_HOST is given together with MYSQL_CREDENTIALS_FILE, \
             expected only one of them",
        ),
        (
            vec![("OBSERVATIONS_TOKEN_FILE", "/nonexistent")],
            "failed to read /nonexistent: No such file or directory",
        ),
        (
            vec![("SOURCE_TOKENS_FILE", tokens.to_str().expect("UTF-8"))],
            "expected a token of visible ASCII characters without spaces",
        ),
    ];
    for (variables, expected) in cases {
        let ports = [("HARDWARE_LISTEN", "127.0.0.1:0"), ("ADMIN_LISTEN", "127.0.0.1:0")];
        let variables = [&variables[..], &ports[..], &[("SQLITE_PATH", "/nonexistent/x.db")]];
        let (status, _, err) = run(&["serve"], &variables.concat());
        assert!(err.contains(expected), "expected {expected}\nfound {err}");
        assert_eq!(status, 64, "{err}");
    }
    assert_eq!(run(&["serve"], &[("REFRESH_INTERVAL", "soon")]).0, 64);
    assert_eq!(run(&["fly"], &[]).0, 64);
}

#[test]
fn a_start_that_fails_ends_with_1_and_one_sentence() {
    let variables = [
        ("SQLITE_PATH", "/nonexistent/hardware.db"),
        ("HARDWARE_LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", "127.0.0.1:0"),
    ];
    let (status, _, err) = run(&["serve"], &variables);
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("failed to open the database /nonexistent/hardware.db"), "{err}");
}

#[test]
fn check_on_a_file_says_what_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hardware.db");
    let path = path.to_str().expect("UTF-8");
    let (status, out, _) = run(&["check"], &[("SQLITE_PATH", path)]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("does not exist yet, serve creates it"), "{out}");
    let (status, _, err) = run(&["migrate"], &[("SQLITE_PATH", path)]);
    assert_eq!(status, 0, "{err}");
    let (status, out, _) = run(&["check"], &[("SQLITE_PATH", path)]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("ok    migrations: up to date"), "{out}");
}

#[test]
fn check_says_which_tokens_there_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, tokens) = (folder.path().join("hardware.db"), folder.path().join("tokens"));
    std::fs::write(&tokens, r#"{"lab": "s3cret", "rack": "s3cret2"}"#).expect("written");
    let database = ("SQLITE_PATH", database.to_str().expect("UTF-8"));
    let of_sources = ("SOURCE_TOKENS_FILE", tokens.to_str().expect("UTF-8"));
    let check = |variables: &[(&str, &str)], status: i32, expected: &[&str]| {
        let (found, out, _) = run(&["check"], variables);
        assert_eq!(found, status, "{out}");
        for line in expected {
            assert!(out.contains(line), "{line} is missing in:\n{out}");
        }
        assert!(!out.contains("s3cret"), "{out}");
    };
    check(
        &[database],
        0,
        &[
            "ok    token: none, POST /v1/observations is closed",
            "ok    source tokens: no source has a token of its own",
        ],
    );
    check(
        &[database, of_sources],
        0,
        &[
            "ok    token: none, POST /v1/observations takes those of single sources only",
            "ok    source tokens: 2 sources have a token of their own",
        ],
    );
    std::fs::write(&tokens, r#"{"lab": "s3cret", "rack": "s3cret"}"#).expect("written");
    let bad = "tokens: sources \"lab\" and \"rack\" have the same token";
    check(&[database, of_sources], 1, &["FAIL  source tokens: failed to understand", bad]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_on_mysql_says_what_is_missing() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    let host = format!("{}:{}", mysql.server.host, mysql.server.port);
    let ca_file = mysql.server.ca_file.to_str().expect("UTF-8");
    let mut variables = vec![
        ("MYSQL_HOST", host.as_str()),
        ("MYSQL_USER", &mysql.user),
        ("MYSQL_PASSWORD", crate::support::database::PASSWORD),
        ("MYSQL_DATABASE", &mysql.schema),
        ("MYSQL_TLS_CA_FILE", ca_file),
    ];
    let (status, out, _) = run(&["check"], &variables);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("ok    database: connected, as account 1 of the list"), "{out}");
    assert!(out.contains("FAIL  migrations: 0000, 0001"), "{out}");

    let (status, _, err) = run(&["migrate"], &variables);
    assert_eq!(status, 0, "{err}");
    let (status, out, _) = run(&["check"], &variables);
    assert_eq!(status, 0, "{out}");

    variables[2].1 = "wrong";
    let (status, out, _) = run(&["check"], &variables);
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("FAIL  database: failed to log in"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_signal_ends_it_cleanly_and_metrics_tell_what_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hardware.db");
    let [public, admin] = free_addresses();
    let variables = [
        ("SQLITE_PATH", path.to_str().expect("UTF-8")),
        ("HARDWARE_LISTEN", &public),
        ("ADMIN_LISTEN", &admin),
        ("DRAIN_DELAY", "0s"),
    ];
    let mut running = Running::start(&mut hardware(&["serve"], &variables));
    let mut log = BufReader::new(running.0.stderr.take().expect("piped"));
    eventually("it is ready", async || {
        let response = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
    for path in ["/hardware/", "/openapi.json", "/wherever"] {
        reqwest::get(format!("http://{public}{path}")).await.expect("an answer");
    }
    let metrics = reqwest::get(format!("http://{admin}/metrics")).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    for line in [
        r#"http_requests_total{method="GET",route="/hardware/",status="2xx"} 1"#,
        r#"http_request_duration_seconds_count{method="GET",route="/hardware/"} 1"#,
        r#"http_requests_total{method="GET",route="/openapi.json",status="2xx"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="4xx"} 1"#,
        "http_requests_in_flight 0",
        "hardware_snapshot_age_seconds ",
        r#"hardware_store_operations_total{outcome="failed"} 0"#,
        r#"hardware_store_connections{state="idle"} "#,
        "hardware_snapshot_refresh_failures_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    running.terminate();
    let status = tokio::task::spawn_blocking(move || running.0.wait()).await.expect("no panic");
    let mut rest = String::new();
    while log.read_line(&mut rest).expect("UTF-8") > 0 {}
    assert_eq!(status.expect("it ended").code(), Some(0), "{rest}");
}

/// A value of memory in `/proc/PID/status`, in MiB.
fn memory_mib(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("Linux shows it");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number") / 1024
}

/// The program on a file, taking observations.
struct Service {
    running: Running,
    public: String,
    admin: String,
    _folder: TempDir,
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hardware.db");
        let [public, admin] = free_addresses();
        let variables = [
            ("SQLITE_PATH", path.to_str().expect("UTF-8")),
            ("HARDWARE_LISTEN", &public),
            ("ADMIN_LISTEN", &admin),
            ("OBSERVATIONS_TOKEN", "token"),
        ];
        let running = Running::start(&mut hardware(&["serve"], &variables));
        let service = Self { running, public, admin, _folder: folder };
        eventually("it is ready", async || service.get_admin("/readyz").await).await;
        service
    }

    async fn get_admin(&self, path: &str) -> Option<String> {
        let response = reqwest::get(format!("http://{}{path}", self.admin)).await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }

    /// Status and body of the answer to a batch.
    async fn observe(&self, batch: String) -> (u16, String) {
        let url = format!("http://{}/v1/observations", self.public);
        let request = reqwest::Client::new().post(url).bearer_auth("token");
        let answer = request.body(batch).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Sends a batch and says by how many MiB the process grew meanwhile at most, beside the answer.
    async fn observe_and_weigh(&self, batch: String) -> (u16, String, u64) {
        let process = self.running.0.id();
        // The highest resident size begins again at what it is now.
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("our own process");
        let before = memory_mib(process, "VmRSS");
        let (status, answer) = self.observe(batch).await;
        (status, answer, memory_mib(process, "VmHWM").saturating_sub(before))
    }
}

/// Measured: 8 MiB for the first of these, 358 MiB when all items become values before they are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_any_form_costs_little_more_memory_than_itself() {
    const ROOM: usize = 4 * 1024 * 1024 - 100;
    let service = Service::start().await;
    let filled = |item: &str| vec![item; ROOM / (item.len() + 1)].join(",");
    let one_item = |member: String| format!(r#"{{"a": {member}}}"#);
    let cases = [
        (filled(r#"{"a":0}"#), 400, "found a list of 524"),
        (filled("{}"), 400, "found a list of 13980"),
        (one_item(format!("[{}]", filled("0"))), 200, r#""refused_total":1"#),
        (one_item("[".repeat(ROOM / 2) + &"]".repeat(ROOM / 2)), 200, r#""refused_total":1"#),
        (one_item(format!("\"{}\"", "x".repeat(ROOM))), 200, r#""refused_total":1"#),
    ];
    for (items, expected_status, expected) in cases {
        let start: String = items.chars().take(20).collect();
        let body = format!(r#"{{"source": "lab", "observations": [{items}]}}"#);
        let (status, answer, grown_mib) = service.observe_and_weigh(body).await;
        assert_eq!(status, expected_status, "{start}: {answer}");
        assert!(answer.contains(expected), "{start}: expected {expected}, found {answer}");
        // The body itself, once in pieces and once as a whole, and what the allocator rounds up.
        assert!(grown_mib <= 24, "{start}: the process grew by {grown_mib} MiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_became_of_observations() {
    let service = Service::start().await;
    let batch = r#"{"source": "lab", "observations": [{}, 5,
        {"provider": "Amazon", "name": "c5", "available": true},
        {"provider": "Amazon", "name": "m5", "total": 1, "in_use": 0}]}"#;
    assert_eq!(service.observe(batch.to_owned()).await.0, 200);
    let metrics = service.get_admin("/metrics").await.expect("metrics");
    for line in [
        r#"hardware_observations_total{outcome="accepted"} 2"#,
        r#"hardware_observations_total{outcome="refused"} 2"#,
        r#"hardware_observations_total{outcome="late"} 0"#,
        r#"hardware_observation_warnings_total{code="no_observed_at"} 1"#,
        r#"hardware_observation_warnings_total{code="unlisted"} 1"#,
        r#"hardware_observation_warnings_total{code="too_old"} 0"#,
        r#"hardware_observation_warnings_total{code="slower_than_declared"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
}

/// The first process of a container, which a command may be, gets no default action for signals.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_has_no_end_of_its_own_is_ended_by_a_signal() {
    let mut command = hardware(&["backtest", "-"], &[]);
    let command = command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("it starts"));
    // Held, as waiting for a process closes its standard input, whose end would end the command too.
    let _input = running.0.stdin.take().expect("a pipe");
    let status_file = format!("/proc/{}/status", running.0.id());
    eventually("it handles SIGTERM", async || {
        let status = std::fs::read_to_string(&status_file).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << (15 - 1)) != 0).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.0.wait().expect("it ends").code(), Some(128 + 15));
    let mut said = String::new();
    running.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("UTF-8");
    assert!(said.contains("ended by SIGTERM"), "{said}");
}

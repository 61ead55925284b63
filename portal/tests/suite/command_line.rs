//! The program as users and clusters run it.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use test_kit::{Running, free_addresses};

use crate::support::{
    eventually,
    hardware::{FakeHardware, both_rows},
};

fn portal(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portal"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command
}

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = portal(arguments, variables);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output: Output = output.await.expect("no panic").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a status"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn help_and_version_are_there() {
    let (status, out, _) = run(&["--version"], &[]).await;
    assert_eq!((status, out.as_str()), (0, "portal 0.1.0\n"));
    let (status, out, _) = run(&["serve", "--help"], &[]).await;
    assert_eq!(status, 0);
    for word in ["PORTAL_LISTEN", "HARDWARE_HOST", "PORTAL_TITLE", "[default: 0.0.0.0:5000]"] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
}

#[tokio::test]
async fn bad_configuration_ends_with_64_and_one_sentence() {
    for (variables, expected) in [
        (vec![], "bad configuration: HARDWARE_HOST is not set, expected HOST, HOST:PORT or"),
        (
            vec![("HARDWARE_HOST", "")],
            "bad configuration: HARDWARE_HOST is not set, expected HOST, HOST:PORT or",
        ),
        (
            vec![("HARDWARE_HOST", "hardware:http")],
            "bad configuration: HARDWARE_HOST is \"hardware:http\", expected HOST, HOST:PORT or",
        ),
        (
            vec![("HARDWARE_HOST", "h"), ("REFRESH_INTERVAL", "soon")],
            "'soon' for '--refresh-interval <TIME>': REFRESH_INTERVAL: expected a time from",
        ),
        (
            vec![("HARDWARE_HOST", "h"), ("PORTAL_LISTEN", "5000")],
            "'5000' for '--portal-listen <ADDRESS>': PORTAL_LISTEN: expected ADDRESS:PORT",
        ),
    ] {
        let variables = [&variables[..], &[("LOG_FORMAT", "text")]].concat();
        let (status, _, err) = run(&["serve"], &variables).await;
        assert!(err.contains(expected), "expected {expected}\nfound {err}");
        assert_eq!(status, 64, "{err}");
    }
    assert_eq!(run(&["fly"], &[]).await.0, 64);
}

#[tokio::test]
async fn an_address_in_use_ends_with_1_and_one_sentence() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let variables = [("HARDWARE_HOST", "h"), ("PORTAL_LISTEN", taken.as_str())];
    let (status, _, err) = run(&["serve"], &variables).await;
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("choose another address with PORTAL_LISTEN"), "{err}");
}

#[tokio::test]
async fn check_says_what_works() {
    let hardware = FakeHardware::start(both_rows()).await;
    let (status, out, _) = run(&["check"], &[("HARDWARE_HOST", &hardware.address)]).await;
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("ok    hardware: 2 rows, fresh, confirmed 1 s ago"), "{out}");
    let (status, out, _) = run(&["check"], &[("HARDWARE_HOST", "127.0.0.1:1")]).await;
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("FAIL  hardware: failed to ask http://127.0.0.1:1/hardware/"), "{out}");
    assert!(out.contains("Connection refused"), "{out}");
}

#[tokio::test]
async fn a_term_signal_ends_it_cleanly_and_metrics_tell_what_happened() {
    let hardware = FakeHardware::start(both_rows()).await;
    let [public, admin] = free_addresses();
    let variables = [
        ("HARDWARE_HOST", hardware.address.as_str()),
        ("PORTAL_LISTEN", &public),
        ("ADMIN_LISTEN", &admin),
        ("DRAIN_DELAY", "0s"),
        // So that hardware is asked once.
        ("REFRESH_INTERVAL", "1h"),
    ];
    let mut running = Running::start(&mut portal(&["serve"], &variables));
    eventually("it is ready", async || {
        let response = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
    for path in ["/", "/rows", "/wherever"] {
        reqwest::get(format!("http://{public}{path}")).await.expect("an answer");
    }
    let metrics = eventually("hardware was asked", async || {
        let metrics = reqwest::get(format!("http://{admin}/metrics")).await.ok()?;
        let metrics = metrics.text().await.ok()?;
        metrics.contains("portal_list_rows 2").then_some(metrics)
    })
    .await;
    for line in [
        r#"http_requests_total{method="GET",route="/",status="2xx"} 1"#,
        r#"http_request_duration_seconds_count{method="GET",route="/rows"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="4xx"} 1"#,
        "http_requests_in_flight 0",
        r#"portal_hardware_requests_total{outcome="succeeded"} 1"#,
        r#"portal_hardware_requests_total{outcome="unreachable"} 0"#,
        r#"portal_pools_requests_total{outcome="timed_out"} 0"#,
        "portal_list_age_seconds ",
        "portal_renders_total ",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    running.terminate();
    let output = tokio::task::spawn_blocking(move || {
        let status = running.0.wait();
        (status, std::io::read_to_string(running.0.stderr.take().expect("piped")))
    });
    let (status, log) = output.await.expect("no panic");
    assert_eq!(status.expect("it ended").code(), Some(0), "{log:?}");
}

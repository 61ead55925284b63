//! Clients that hold connections without asking for anything: whoever asks is answered.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::program::Program;

/// The next honest request is answered within this time.
const SOON: Duration = Duration::from_secs(1);

/// More than the listener has places for.
const SILENT: usize = 4200;

/// Asks on a connection of its own, and looks at what probes and Prometheus see.
async fn ask(service: &Program, beside: usize) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let list = format!("{}/hardware/", service.url);
    let (ready, metrics) =
        (format!("{}/readyz", service.admin_url), format!("{}/metrics", service.admin_url));
    let mut text = String::new();
    for url in [list, ready, metrics] {
        let started = Instant::now();
        let answer = client.get(&url).timeout(Duration::from_secs(20)).send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{url} beside {beside}: {error}"));
        assert!(answer.status().is_success(), "{url} beside {beside}: {}", answer.status());
        text = answer.text().await.expect("a body");
        assert!(started.elapsed() < SOON, "{url} beside {beside} took {:?}", started.elapsed());
    }
    text
}

async fn flood(service: &Program, silent: usize) -> (Vec<TcpStream>, String) {
    let address = service.url.strip_prefix("http://").expect("an address").to_owned();
    let (mut connections, mut metrics) = (Vec::new(), String::new());
    while connections.len() < silent {
        connections.push(TcpStream::connect(&address).await.expect("the backlog has room"));
        if connections.len().is_multiple_of(silent / 6) {
            metrics = ask(service, connections.len()).await;
        }
    }
    (connections, metrics)
}

fn value(metrics: &str, series: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_silent_connections_keep_nobody_from_asking() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Program::start(folder.path(), "ulimit -n 10000;").await;
    let (_silent, metrics) = flood(&service, SILENT).await;
    let limit = value(&metrics, "http_connections_limit{listener=\"public\"}");
    assert_eq!(limit, 4096);
    assert!(value(&metrics, "http_connections{listener=\"public\"}") <= limit);
    let closed = |reason| {
        let labels = format!("{{listener=\"public\",reason=\"{reason}\"}}");
        value(&metrics, &format!("http_connections_closed_total{labels}"))
    };
    // A busy machine may be slow enough for the first of them to exceed their ten seconds.
    assert!(closed("evicted") + closed("slow_header") >= 100, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_limit_of_open_files_keeps_nobody_from_asking() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Program::start(folder.path(), "ulimit -n 200;").await;
    let (_silent, metrics) = flood(&service, 400).await;
    assert_eq!(value(&metrics, "http_connections_limit{listener=\"public\"}"), 200 - 128);
}

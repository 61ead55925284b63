//! The load: wrk, and what it counted.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::cpus;

/// Connections that each have one request under way: enough to keep the servers busy, few enough
/// that a request waits for the server and not for a long queue.
const CONNECTIONS: usize = 32;

/// Bytes by which answers may differ in length, such as an age that got another digit.
const SLACK_BYTES: u64 = 16;

/// How a load is applied.
pub(crate) struct Wrk {
    cpus: Vec<usize>,
    script: PathBuf,
    _folder: TempDir,
}

/// What a server stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests_per_second: f64,
    pub(crate) p99_ms: f64,
}

impl Wrk {
    /// Runs on `cpus`, a thread on each.
    pub(crate) fn new(cpus: Vec<usize>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("report.lua");
        std::fs::write(&script, include_str!("report.lua"))?;
        Ok(Self { cpus, script, _folder: folder })
    }

    /// Requests `url` as often as it can for `duration`, whole seconds. Fails unless every answer was
    /// a success of `answer_bytes` with its headers.
    pub(crate) async fn run(
        &self,
        url: &str,
        duration: Duration,
        answer_bytes: u64,
    ) -> Result<Load> {
        let output = Command::new("taskset")
            .args(["--cpu-list", &cpus::to_list(&self.cpus), "wrk"])
            .args(["--threads", &self.cpus.len().to_string()])
            .args(["--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", duration.as_secs())])
            .arg("--script")
            .arg(&self.script)
            .arg(url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("failed to start taskset (Debian: util-linux)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "wrk (Debian: wrk) ended with {}: {}{text}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        let report = Report::parse(&text)?;
        report.check(answer_bytes).with_context(|| format!("{url} failed under load"))?;
        Ok(report.load())
    }
}

/// The line that report.lua adds to wrk's output.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    requests: u64,
    duration_us: u64,
    bytes: u64,
    p99_us: u64,
    connect: u64,
    read: u64,
    write: u64,
    timeout: u64,
    status: u64,
}

impl Report {
    fn parse(output: &str) -> Result<Self> {
        let line = output.lines().find(|line| line.starts_with('{'));
        let line = line.with_context(|| format!("wrk printed no report:\n{output}"))?;
        serde_json::from_str(line).with_context(|| format!("not a report of wrk: {line}"))
    }

    /// wrk counts only statuses from 400 as errors. The bytes tell whether all else was whole.
    fn check(&self, answer_bytes: u64) -> Result<()> {
        let Self { requests, duration_us, bytes, connect, read, write, timeout, status, p99_us: _ } =
            *self;
        ensure!(requests > 0 && duration_us > 0, "no request was answered: {self:?}");
        ensure!(
            connect + read + write + timeout == 0,
            "socket errors: connect {connect}, read {read}, write {write}, timeout {timeout}"
        );
        ensure!(status == 0, "{status} of {requests} answers were errors");
        let least = requests * answer_bytes.saturating_sub(SLACK_BYTES);
        // At the end of a run an answer may be under way on each connection.
        let most = (requests + CONNECTIONS as u64) * (answer_bytes + SLACK_BYTES);
        ensure!(
            (least..=most).contains(&bytes),
            "{requests} answers of {answer_bytes} bytes make {least} to {most} bytes, not {bytes}"
        );
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a run of seconds")]
    fn load(&self) -> Load {
        Load {
            requests_per_second: self.requests as f64 / (self.duration_us as f64 / 1e6),
            p99_ms: self.p99_us as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, Report};

    const OUTPUT: &str = r#"Running 1s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   396.44us  102.10us   2.80ms   88.36%
    Req/Sec    80.31k     4.61k   86.54k    81.82%
  87892 requests in 1.10s, 33.44MB read
Requests/sec:  79901.98
Transfer/sec:     30.40MB
{"requests":87892,"duration_us":1099998,"bytes":35068908,"p99_us":801,"connect":0,"read":0,"write":0,"timeout":0,"status":0}
"#;

    #[test]
    fn the_report_is_found_in_wrks_output() {
        let report = Report::parse(OUTPUT).unwrap();
        report.check(399).unwrap();
        let Load { requests_per_second, p99_ms } = report.load();
        assert!((requests_per_second - 79_902.0).abs() < 0.5, "{requests_per_second}");
        assert!((p99_ms - 0.801).abs() < 1e-9, "{p99_ms}");
    }

    #[test]
    fn output_without_a_report_is_shown() {
        let error = Report::parse("unable to connect to 127.0.0.1:1").unwrap_err();
        assert!(error.to_string().contains("unable to connect"), "{error}");
    }

    #[test]
    fn a_run_with_failures_is_refused() {
        let after = |from: &str, to: &str| {
            let report = Report::parse(&OUTPUT.replace(from, to)).unwrap();
            report.check(399).unwrap_err().to_string()
        };
        assert_eq!(after(r#""status":0"#, r#""status":3"#), "3 of 87892 answers were errors");
        assert!(after(r#""timeout":0"#, r#""timeout":1"#).ends_with("timeout 1"));
        assert!(after(r#""read":0"#, r#""read":7"#).contains("read 7"));
        assert!(after(r#""requests":87892"#, r#""requests":0"#).starts_with("no request"));
    }

    #[test]
    fn answers_of_another_size_are_noticed() {
        let error = Report::parse(OUTPUT).unwrap().check(8_000).unwrap_err();
        assert!(error.to_string().contains("not 35068908"), "{error}");
        assert!(Report::parse(OUTPUT).unwrap().check(120).is_err());
    }
}

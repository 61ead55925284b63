//! The examples of docs/write-a-source.md, as they stand there.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use hardware_api::AvailabilityPage;

use crate::support::{
    eventually,
    service::{TOKEN, TestService},
};

const PAGE: &str = include_str!("../../../docs/write-a-source.md");

/// The one block of a language.
fn block(language: &str) -> &'static str {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks.next().expect("the page has an example")
}

/// Runs an example once, as a file would run.
async fn run_once(
    service: &TestService,
    program: &'static str,
    jobs: &Path,
    token: &str,
) -> Output {
    let language = if program == "bash" { "bash" } else { "python" };
    let mut command = Command::new(program);
    command.args(["-c", block(language)]);
    if program == "bash" {
        command.arg("script");
    }
    command.arg("--once").env("HARDWARE", &service.url).env("TOKEN", token);
    command.env("JOBS", jobs).env("no_proxy", "*");
    tokio::task::spawn_blocking(move || command.output().expect("a program")).await.expect("ended")
}

/// Name, units in use and total of every pool.
async fn pools(service: &TestService) -> Vec<(String, u32, u32)> {
    let page: AvailabilityPage =
        service.get("/v1/availability?tier=owned").await.json().await.expect("JSON");
    let pools = page.items.into_iter().map(|pool| {
        let (total, free) = (pool.total.expect("counts"), pool.free.expect("counts"));
        (pool.name, total - free, total)
    });
    pools.collect()
}

async fn expect_pools(service: &TestService, expected: &[(&str, u32, u32)]) {
    eventually("the pools are shown", async || {
        let found = pools(service).await;
        let found = found.iter().map(|(name, taken, total)| (name.as_str(), *taken, *total));
        found.eq(expected.iter().copied()).then_some(())
    })
    .await;
}

fn make_jobs(folder: &Path, count: u32) {
    fs::create_dir_all(folder).expect("a folder");
    for number in 0..count {
        fs::write(folder.join(number.to_string()), "").expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_shell_reports_and_says_nothing_when_it_sees_nothing() {
    let service = TestService::on_sqlite().await;
    let jobs = tempfile::tempdir().expect("a folder");
    make_jobs(jobs.path(), 3);
    let token = TOKEN;
    let ran = run_once(&service, "bash", jobs.path(), token).await;
    assert!(String::from_utf8_lossy(&ran.stdout).contains("\"accepted\":1"), "{ran:?}");
    expect_pools(&service, &[("queue", 3, 8)]).await;

    let ran = run_once(&service, "bash", &jobs.path().join("gone"), token).await;
    assert!(ran.stdout.is_empty(), "nothing was posted: {ran:?}");
    expect_pools(&service, &[("queue", 3, 8)]).await;
    let ran = run_once(&service, "bash", jobs.path(), "another").await;
    assert!(String::from_utf8_lossy(&ran.stdout).contains("unauthorized"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_reports_and_fails_when_it_is_not_heard() {
    let service = TestService::on_sqlite().await;
    let jobs = tempfile::tempdir().expect("a folder");
    make_jobs(&jobs.path().join("large"), 2);
    make_jobs(&jobs.path().join("small"), 9);
    let token = TOKEN;
    let ran = run_once(&service, "python3", jobs.path(), token).await;
    assert!(ran.status.success(), "{ran:?}");
    expect_pools(&service, &[("large", 2, 8), ("small", 8, 8)]).await;

    fs::remove_dir_all(jobs.path().join("small")).expect("removed");
    let ran = run_once(&service, "python3", jobs.path(), token).await;
    assert!(String::from_utf8_lossy(&ran.stdout).contains("\"retired\":1"), "{ran:?}");
    let ran = run_once(&service, "python3", jobs.path(), "another").await;
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("not reported: HTTP Error 401"), "{ran:?}");
}

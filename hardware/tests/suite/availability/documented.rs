//! The commands of docs/api.md, as they stand there.

use std::process::{Command, Output};

use chrono::{TimeDelta, Utc};
use hardware_api::Picked;
use reqwest::StatusCode;
use serde_json::{Value, json};
use serde_yaml::Value as Yaml;

use crate::support::{eventually, service::TestService};

const PAGE: &str = include_str!("../../../../docs/api.md");

/// The blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let marked = PAGE.split("```").skip(1).step_by(2);
    let rest = marked.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    rest.collect()
}

async fn run(url: &str, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "script"]).args(arguments);
    command.env("HARDWARE", url).env("no_proxy", "*").envs(variables.iter().copied());
    tokio::task::spawn_blocking(move || command.output().expect("bash")).await.expect("ended")
}

async fn with_p4d() -> TestService {
    let service = TestService::on_sqlite().await;
    for minutes in [180, 120, 60, 0] {
        let batch = json!({
            "source": "lab", "expected_interval_s": 3600,
            "observed_at": Utc::now() - TimeDelta::minutes(minutes),
            "observations": [{"provider": "Amazon", "name": "p4d.24xlarge", "region": "us-east-1",
                "total": 8, "in_use": 2}],
        });
        assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    }
    eventually("p4d is HIGH", async || {
        let page = service.get("/v1/availability?units=4&level=HIGH").await;
        let page: Value = page.json().await.expect("JSON");
        page["items"].as_array().is_some_and(|items| items.len() == 1).then_some(())
    })
    .await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_commands_answer() {
    let service = with_p4d().await;
    let [commands, _] = blocks("sh")[..] else { panic!("two blocks of commands") };
    let ran = run(&service.url, &commands.replace("curl ", "curl --fail "), &[], &[]).await;
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{ran:?}");
    assert!(text.contains("| Amazon | p4d.24xlarge | us-east-1 |"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_can_be_followed() {
    let service = with_p4d().await;
    let [_, command] = blocks("sh")[..] else { panic!("two blocks of commands") };
    let ran = run(&service.url, &command.replace("curl ", "curl --fail "), &[], &[]).await;
    let feed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{ran:?}");
    let title = "<title>Changes of level: q=provider:aws level:high p4d</title>";
    assert!(feed.contains(title), "{feed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_ends_as_it_says() {
    let service = with_p4d().await;
    let [script] = blocks("bash")[..] else { panic!("one script") };
    // As a file would run, without the options of this test.
    let script = format!("set +e +u +o pipefail\n{script}");
    let picked = run(&service.url, &script, &[], &[]).await;
    assert_eq!(picked.status.code(), Some(0), "{picked:?}");
    let picked: Picked = serde_json::from_slice(&picked.stdout).expect("a pick");
    assert_eq!((picked.preference, picked.pool.name.as_str()), (0, "p4d.24xlarge"));
    let too_many = r#"{"units": 9, "preferences": [{"provider": "aws", "name": "p4d"}]}"#;
    let none = run(&service.url, &script, &[too_many], &[]).await;
    assert_eq!(none.status.code(), Some(1), "{none:?}");
    let none: Value = serde_json::from_slice(&none.stdout).expect("a problem");
    assert_eq!(none["preferences"][0]["reasons"][0]["code"], "exceeds_pool");
    let wrong = run(&service.url, &script, &[r#"{"units": 0}"#], &[]).await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let nobody = run("http://127.0.0.1:1", &script, &[], &[]).await;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_hands_on_what_was_picked_or_fails() {
    let service = with_p4d().await;
    let [workflow] = blocks("yaml")[..] else { panic!("one workflow") };
    let workflow: Yaml = serde_yaml::from_str(workflow).expect("YAML");
    let step = &workflow["jobs"]["capacity"]["steps"][0];
    let script = step["run"].as_str().expect("a script");
    let file = service.folder.path().join("output");
    let output = [("GITHUB_OUTPUT", file.to_str().expect("UTF-8"))];
    let ran = run(&service.url, script, &[], &output).await;
    assert!(ran.status.success(), "{ran:?}");
    let written = std::fs::read_to_string(&file).expect("written");
    let picked = written.strip_prefix("pick=").expect("the name of the output");
    let picked: Picked = serde_json::from_str(picked).expect("a pick");
    assert_eq!(picked.pool.provider, "Amazon");
    let ran =
        run(&service.url, &script.replace("\"units\": 4", "\"units\": 7"), &[], &output).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let notice = String::from_utf8_lossy(&ran.stdout);
    assert!(notice.starts_with("::notice::{") && notice.contains("none_available"), "{notice}");
}

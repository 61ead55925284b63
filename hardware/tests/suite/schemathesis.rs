//! What a stranger finds who has only `/openapi.json`: schemathesis makes requests from it, valid ones and
//! invalid ones, and compares every answer with what the description says.
//!
//! `schemathesis/` says how it is set up. The seed is always the same, so that a failure comes from a change;
//! `SCHEMATHESIS_SEED` and `SCHEMATHESIS_EXAMPLES` search further.

use std::{path::Path, process::Command};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{
    clients, eventually,
    service::{TOKEN, TestService},
};

/// Requests of each kind per operation: about 20 s on two cores.
const EXAMPLES: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_description_says() {
    let service = TestService::on_sqlite().await;
    fill(&service).await;
    let report = service.folder.path().join("report.json");
    let [seed, examples] = [("SCHEMATHESIS_SEED", 1), ("SCHEMATHESIS_EXAMPLES", EXAMPLES)]
        .map(|(name, default)| std::env::var(name).unwrap_or_else(|_| default.to_string()));
    println!("SCHEMATHESIS_SEED={seed} SCHEMATHESIS_EXAMPLES={examples}");

    let configuration = Path::new("tests/suite/schemathesis").canonicalize().expect("there");
    let mut command = Command::new(clients::python().with_file_name("schemathesis"));
    command
        .arg("--config-file")
        .arg(configuration.join("schemathesis.toml"))
        .args([
            "run",
            &format!("{}/openapi.json", service.url),
            "--no-color",
            "--continue-on-failure",
        ])
        .args(["--seed", &seed, "--max-examples", &examples, "--generation-database", "none"])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .current_dir(service.folder.path())
        .env("PYTHONPATH", &configuration)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OBSERVATIONS_TOKEN", TOKEN);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let ran = ran.expect("schemathesis is beside TEST_CLIENTS_PYTHON");
    let output = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    // A body of many megabytes is quoted in full.
    let output: String =
        output.lines().flat_map(|line| line.chars().take(1000).chain(['\n'])).collect();
    assert!(ran.status.success(), "schemathesis ended with {}:\n{output}", ran.status);

    let report = std::fs::read(report).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let document: Value = service.get("/openapi.json").await.json().await.expect("JSON");
    let paths = document["paths"].as_object().expect("paths").values();
    let operations: usize = paths.map(|path| path.as_object().expect("operations").len()).sum();
    assert_eq!(report["operations"]["tested"], operations, "{output}");
    let cases = report["test_cases"]["generated"].as_u64().expect("a count");
    assert!(cases > 1000, "only {cases} requests were made:\n{output}");
    assert_eq!(report["warnings"]["missing_auth"], json!([]), "the token is not used");
}

/// Some pools, of which two were seen for half an hour and one says only yes or no.
async fn fill(service: &TestService) {
    let now = Utc::now();
    let seen = |minute: i64, name: &str, region: &str| {
        json!({"provider": "aws", "name": name, "region": region, "total": 8, "in_use": minute / 5,
            "observed_at": now - TimeDelta::minutes(minute)})
    };
    let minutes = (1..=30).rev();
    let mut observations: Vec<Value> = minutes
        .flat_map(|minute| [seen(minute, "c5.large", "us-east-1"), seen(minute, "p4d", "")])
        .collect();
    observations.push(json!({"provider": "azure", "name": "H16mr", "available": true}));
    let batch = json!({"source": "lab", "observations": observations});
    assert!(service.observe(&batch).await.status().is_success());
    eventually("the pools are listed", async || {
        let page: Value = service.get("/v1/availability").await.json().await.expect("a page");
        (page["items"].as_array()?.len() == 3).then_some(())
    })
    .await;
}

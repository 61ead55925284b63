//! What `make up` leaves behind, seen as a person sees it: in a browser and with kubectl.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    browser::Browser,
    program::{read_page, run_in_shell},
    setting,
    wait::eventually,
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_browser_sees_both_rows_and_their_levels_follow_what_is_observed() -> Result<()> {
    // Not `Namespace::open`: the portal that `make up` applied must stay.
    let namespace = Namespace::keep("gill-hicks").await?;
    let portal = namespace.wait_until_ready("demo").await?;
    let url = portal.status.and_then(|status| status.url).unwrap_or_default();
    let browser = Browser::open().await?;
    browser.go_to(&url).await?;
    let rows = browser.rows().await?;
    for hardware in ["Amazon - c5:", "Azure - H16mr:"] {
        ensure!(rows.iter().any(|row| row.contains(hardware)), "{url} shows {rows:?}");
    }

    namespace.observe("demo", &ten_hours_of("Amazon", "c5", 3)).await?;
    namespace.observe("demo", &ten_hours_of("Azure", "H16mr", 8)).await?;
    eventually("levels in the browser", Duration::from_mins(1), async || {
        browser.go_to(&url).await?;
        let rows = browser.rows().await?;
        for expected in ["Amazon - c5: HIGH", "Azure - H16mr: LOW"] {
            ensure!(rows.iter().any(|row| row.contains(expected)), "{url} shows {rows:?}");
        }
        Ok(())
    })
    .await?;
    browser.close().await
}

/// Counts of a pool of eight units, once a minute until now.
fn ten_hours_of(provider: &str, name: &str, in_use: u32) -> Value {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let observations: Vec<Value> = (0..=600)
        .rev()
        .map(|minutes_ago| {
            let at = k8s_openapi::jiff::Timestamp::from_second(
                i64::try_from(now - minutes_ago * 60).expect("before 2262"),
            );
            json!({
                "provider": provider, "name": name, "region": "test-1",
                "observed_at": at.expect("in range").to_string(),
                "total": 8, "in_use": in_use,
            })
        })
        .collect();
    json!({"source": "quick-start-test", "expected_interval_s": 60, "observations": observations})
}

#[tokio::test]
async fn kubectl_shows_at_a_glance_how_a_portal_is() -> Result<()> {
    let output = Command::new(setting("KUBECTL")?)
        .args(["--namespace", "gill-hicks", "get", "hwp", "demo"])
        .output()?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().unwrap_or_default();
    assert_eq!(
        header,
        ["NAME", "READY", "HARDWARE", "PORTAL", "CREDENTIALS", "URL", "AGE"],
        "{table}"
    );
    let row = lines.next().unwrap_or_default();
    ensure!(row.contains(&"True") && row.contains(&"1/1"), "{table}");
    ensure!(row.iter().any(|column| column.starts_with("http://")), "{table}");
    Ok(())
}

/// The commands of docs/observe.md as they stand there; only the placeholder is filled in.
#[tokio::test]
async fn the_documented_way_to_post_observations_works_as_written() -> Result<()> {
    let namespace = Namespace::keep("gill-hicks").await?;
    namespace.wait_until_ready("demo").await?;
    let url = namespace.url("demo-hardware").await?;
    let address = url.trim_start_matches("http://").trim_end_matches(":5001");

    let page = read_page("observe.md")?;
    let block = page.split("```").nth(1).context("docs/observe.md has a block of commands")?;
    let answer = run_in_shell(&block.replace("ADDRESS", address))?;
    let counts: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    assert_eq!(counts["accepted"], 1, "{counts}");

    let list = page.split('`').find(|code| code.starts_with("curl http")).context("a command")?;
    let rows: Value = serde_json::from_str(&run_in_shell(&list.replace("ADDRESS", address))?)?;
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    Ok(())
}

/// History that is imported makes a level at once, as docs/observe.md shows it.
#[tokio::test]
async fn the_documented_way_to_high_at_once_works_as_written() -> Result<()> {
    let namespace = Namespace::keep("gill-hicks").await?;
    namespace.wait_until_ready("demo").await?;
    let url = namespace.url("demo-hardware").await?;
    let page = read_page("observe.md")?;
    let block = page.split("```").find(|block| block.contains("/hardware import"));
    let said = run_in_shell(block.context("docs/observe.md shows an import")?)?;
    ensure!(said.contains("1 rows of 1 pools are history of \"lab-agent\" now"), "it said: {said}");
    eventually("c5 is HIGH", Duration::from_mins(1), async || {
        let rows: Value =
            serde_json::from_str(&run_in_shell(&format!("curl -fsS {url}/hardware/"))?)?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["name"] == "c5").context("a row c5")?;
        ensure!(row["availability"] == "HIGH", "{row}");
        Ok(())
    })
    .await
}

/// `operator check` as docs/prepare-a-cluster.md shows it, in an installation without a fault.
#[tokio::test]
async fn the_documented_check_finds_nothing_wrong_with_this_installation() -> Result<()> {
    let page = read_page("prepare-a-cluster.md")?;
    let command = page.split('`').find(|code| code.ends_with("/operator check"));
    let command = command.context("the page shows how to run it")?;
    // Portals of other tests are broken on purpose.
    let said = run_in_shell(&format!("{command} --watch-namespaces gill-hicks"))?;
    ensure!(said.contains("everything that the operator needs is there"), "it said: {said}");
    Ok(())
}

//! One request of the operator goes wrong, whichever it is and however: the same objects come about.
//!
//! The operator runs inside of the test, against the real API server and with its own rights. Its
//! portals have no pods, or pods that no node takes, so that many can be walked through at once.
#![expect(clippy::print_stdout, reason = "the figures of a walk are part of its proof")]

mod scenario;
mod walk;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{fault::Fault, wait::eventually};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use self::{
    scenario::Scenario,
    walk::{Walker, walk},
};

#[tokio::test]
async fn a_fault_at_any_request_of_a_new_portal_changes_nothing_of_what_comes_about() -> Result<()>
{
    walk(Scenario::New).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_changed_portal_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::Changed).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_scaled_portal_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::Scaled).await
}

/// Writes of all kinds fail for a while. What is tried meanwhile is bounded, and the portal heals when
/// they no longer do.
#[tokio::test]
async fn a_fault_that_lasts_makes_no_hot_loop_and_heals() -> Result<()> {
    const LASTS: Duration = Duration::from_secs(10);
    let walker = Walker::open("e2e-fault-lasting").await?;
    let expected = walker.run("expected", Scenario::New, None).await?;
    for fault in [Fault::ServerError, Fault::Conflict, Fault::TooManyRequests, Fault::Hang] {
        let name = format!("lasting-{}", fault.to_string().to_lowercase());
        let (operator, faults) = walker.start().await?;
        walker.apply(&name, &Scenario::New.after()).await?;
        faults.fail_every_write(fault);
        let (before, started) = (faults.all_requests(), Instant::now());
        sleep(LASTS).await;
        let tried = faults.all_requests() - before;
        println!("{fault} for {} s: {tried} requests", started.elapsed().as_secs());
        // With a delay that doubles from half a second there are five tries in ten seconds, each of one
        // or two writes; the watches of the start come on top.
        ensure!(tried <= 60, "{tried} requests within {} s of {fault}", LASTS.as_secs());
        faults.heal();
        eventually(&format!("{name} after {fault}"), walk::SETTLED, async || {
            walker.expect_outcome(&name, &expected).await
        })
        .await?;
        operator.stop().await?;
        walker.remove(&name).await?;
    }
    Ok(())
}

/// A user's own object has the name that a child would have. It is left alone, and the portal says so.
#[tokio::test]
async fn a_name_that_is_taken_is_explained_and_what_has_it_is_left_alone() -> Result<()> {
    let walker = Walker::open("e2e-fault-taken").await?;
    let account: ServiceAccount = serde_json::from_value(json!({
        "metadata": {"name": "taken-hardware", "annotations": {"whose": "mine"}},
    }))?;
    let accounts = walker.api::<ServiceAccount>();
    let before = match accounts.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            accounts.get("taken-hardware").await?
        }
        other => other?,
    };
    let (operator, _) = walker.start().await?;
    walker.apply("taken", &Scenario::New.after()).await?;
    eventually("the reason", walk::SETTLED, async || {
        let message = walker.why_not_ready("taken").await?;
        ensure!(message.contains("taken-hardware: an object of this name is there"), "{message}");
        Ok(())
    })
    .await?;
    let after = accounts.get("taken-hardware").await?;
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "untouched");

    accounts.delete("taken-hardware", &DeleteParams::default()).await?;
    eventually("the portal heals by itself", walk::SETTLED, async || {
        walker.expect_ready("taken").await
    })
    .await?;
    operator.stop().await?;
    walker.remove("taken").await
}

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

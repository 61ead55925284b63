//! One thing goes wrong, in turn at each request of the operator and at each chunk that it sends: the same
//! objects come about, and one login is left. Besides: a leader that is killed, faults that last, a name
//! that is taken.
//!
//! But for the leader that is killed, the operator runs inside of the test, against the real API server
//! and the real database, with its own rights, in namespaces that the installed one does not watch
//! (`e2e-fault…`, see `e2e/run`). No portal has real pods, so that many can be walked through at once.
#![expect(clippy::print_stdout, reason = "the figures of a walk are part of its proof")]

mod rotations;
mod scenario;
mod walk;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    fault::{Fault, Faults},
    in_process::Operator,
    node::kill,
    operator, owned,
    wait::eventually,
};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

use self::{
    scenario::Scenario,
    walk::{Server, Site, Walker, walk},
};

#[tokio::test]
async fn a_fault_at_any_request_of_a_new_portal_changes_nothing_of_what_comes_about() -> Result<()>
{
    walk(Scenario::New, Site::Request).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_changed_portal_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::Changed, Site::Request).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_scaled_portal_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::Scaled, Site::Request).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_portal_that_gets_another_database_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::Switched, Site::Request).await
}

#[tokio::test]
async fn a_fault_at_any_request_of_a_deleted_portal_leaves_neither_objects_nor_accounts()
-> Result<()> {
    walk(Scenario::Deleted, Site::Request).await
}

/// Beneath the requests: whatever is sent to the API server, handshakes of TLS included.
#[tokio::test]
async fn a_connection_that_breaks_at_any_chunk_of_a_new_portal_changes_nothing_of_what_comes_about()
-> Result<()> {
    walk(Scenario::New, Site::Chunk).await
}

/// The operator dies, among others, before and after every write to the API server.
#[tokio::test]
async fn a_fault_at_any_request_of_a_rotation_leaves_one_login() -> Result<()> {
    rotations::walk("AlternatingUsers", Site::Request).await
}

/// And before and after everything that it says to the database.
#[tokio::test]
async fn a_connection_to_the_database_that_breaks_at_any_chunk_leaves_one_login() -> Result<()> {
    rotations::walk("AlternatingUsers", Site::Chunk).await
}

#[tokio::test]
async fn a_connection_to_the_database_that_breaks_at_any_chunk_leaves_one_of_two_passwords()
-> Result<()> {
    rotations::walk("DualPassword", Site::Chunk).await
}

/// The real process of the operator that is installed, in the middle of each change.
#[tokio::test]
async fn a_leader_that_is_killed_in_the_middle_of_a_change_leaves_the_rest_to_the_next()
-> Result<()> {
    let server = Server::prepare("e2e_fault_killed").await?;
    let model = Walker::open("e2e-fault-model").await?.on(server.clone());
    let walker = Walker::open("e2e-killed-in-the-middle").await?.on(server);
    let client = walker.namespace().client();
    let operators: Api<Pod> = Api::namespaced(client.clone(), operator::NAMESPACE);
    let mut in_the_middle = 0;
    for scenario in Scenario::ALL {
        let expected = model.run("expected", scenario).await?;
        let name = format!("case-{scenario:?}").to_lowercase();
        let mut uid = String::new();
        if let (Some(spec), Some(before)) = (scenario.before(), &expected.before) {
            uid = walker.apply(&name, &spec).await?;
            eventually(&format!("{name} as it is before"), walk::SETTLED, async || {
                walker.expect_outcome(&name, &uid, before).await
            })
            .await?;
        }
        let leader = eventually("a leader and one to follow it", walk::SETTLED, async || {
            operator::leader(&client).await
        })
        .await?;
        match scenario.after() {
            Some(spec) => uid = walker.apply(&name, &spec).await?,
            None => walker.delete(&name).await?,
        }
        // Writes of a change are a few milliseconds apart, after a pause in which changes are gathered.
        sleep(Duration::from_millis(40)).await;
        kill(&leader)?;
        let started = Instant::now();
        // A kubelet waits ever longer before it starts a container anew; a new pod starts at once.
        operators.delete(&leader.name_any(), &DeleteParams::default()).await?;
        let is_over = walker.expect_outcome(&name, &uid, &expected.after).await.is_ok();
        in_the_middle += usize::from(!is_over);
        eventually(&format!("{name} after the leader was killed"), walk::SETTLED, async || {
            walker.expect_outcome(&name, &uid, &expected.after).await
        })
        .await?;
        println!("{scenario:?}: as it should be {} s after a kill", started.elapsed().as_secs());
        walker.remove(&name).await?;
    }
    println!("{in_the_middle} of {} kills came before the end of the change", Scenario::ALL.len());
    ensure!(in_the_middle >= 3, "most changes were over before the kill");
    Ok(())
}

/// Writes of all kinds fail for a while. What is tried meanwhile is bounded, and the portal heals when
/// they no longer do.
#[tokio::test]
async fn a_fault_that_lasts_makes_no_hot_loop_and_heals() -> Result<()> {
    const LASTS: Duration = Duration::from_secs(10);
    let walker = Walker::open("e2e-fault-lasting").await?;
    let spec = Scenario::New.after().context("a portal comes about")?;
    let expected = walker.run("expected", Scenario::New).await?.after;
    for fault in [Fault::ServerError, Fault::Conflict, Fault::TooManyRequests, Fault::Hang] {
        let name = format!("lasting-{}", fault.to_string().to_lowercase());
        let (operator, faults) = walker.start().await?;
        let uid = walker.apply(&name, &spec).await?;
        faults.fail_every_write(fault);
        let (before, started) = (faults.writes(), Instant::now());
        sleep(LASTS).await;
        let tried = faults.writes() - before;
        println!("{fault} for {} s: {tried} writes", started.elapsed().as_secs());
        // With a delay that doubles from half a second there are five tries in ten seconds, each of some
        // writes.
        ensure!(
            (2..=40).contains(&tried),
            "{tried} writes within {} s of {fault}",
            LASTS.as_secs()
        );
        faults.heal();
        eventually(&format!("{name} after {fault}"), walk::SETTLED, async || {
            walker.expect_outcome(&name, &uid, &expected).await
        })
        .await?;
        walker.remove(&name).await?;
        operator.stop().await?;
    }
    Ok(())
}

/// Passes wait until everything was listed once, and whoever was told to stop lists no more.
#[tokio::test]
async fn an_operator_that_is_told_to_stop_before_it_has_listed_everything_ends() -> Result<()> {
    let walker = Walker::open("e2e-fault-stopped").await?;
    walker.apply("listed", &Scenario::New.after().context("a portal comes about")?).await?;
    let lists = owned::kinds().len() + 1;
    for k in 1..=lists {
        let faults = Faults::default();
        faults.arm(Some((Fault::Hang, k)));
        let operator = Operator::start(walker.namespace().name(), &faults).await?;
        eventually("every list is asked for", walk::SETTLED, async || {
            ensure!(faults.requests() >= lists, "{} requests", faults.requests());
            Ok(())
        })
        .await?;
        operator.stop().await.with_context(|| format!("list {k} of {lists} got no answer"))?;
    }
    let (operator, _) = walker.start().await?;
    walker.remove("listed").await?;
    operator.stop().await
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
    walker.apply("taken", &Scenario::New.after().context("a portal comes about")?).await?;
    eventually("the reason", walk::SETTLED, async || {
        let message = walker.why_not_ready("taken").await?;
        ensure!(message.contains("taken-hardware: an object of this name exists"), "{message}");
        Ok(())
    })
    .await?;
    let after = accounts.get("taken-hardware").await?;
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "untouched");

    accounts.delete("taken-hardware", &DeleteParams::default()).await?;
    eventually("the portal heals by itself", walk::SETTLED, async || {
        walker.expect_rest("taken").await
    })
    .await?;
    walker.remove("taken").await?;
    operator.stop().await
}

//! The lead changes hands: by a stop, a kill, a pause and a cut connection. No two replicas write at the
//! same time, and what was asked for meanwhile comes about.
#![expect(clippy::print_stdout, reason = "the figures of a change of hands are its proof")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    audit::{OPERATOR, Request, Witness},
    node::{Hung, Partition, kill},
    operator,
    wait::eventually,
};
use k8s_openapi::{
    api::{core::v1::Pod, networking::v1::Ingress},
    jiff::{SignedDuration, Timestamp},
};
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::json;
use tokio::time::sleep;

/// A claim lasts for 15 seconds; the rest is for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(25);
/// Time between two edits of the portal.
const EDIT_EVERY: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_within_two_seconds() -> Result<()> {
    let change = Change::begin("e2e-leadership").await?;
    let pods: Api<Pod> = Api::namespaced(change.namespace.client(), operator::NAMESPACE);
    pods.delete(&change.leader.name_any(), &DeleteParams::default()).await?;
    let figures = change.observe("stopped").await?;
    ensure!(figures.gap <= SignedDuration::from_secs(2), "nobody led for {:#}", figures.gap);
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_when_its_claim_has_expired() -> Result<()> {
    let change = Change::begin("e2e-leadership").await?;
    kill(&change.leader)?;
    change.observe("killed").await?;
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_writing_before_it_is_followed() -> Result<()> {
    let change = Change::begin("e2e-leadership").await?;
    let partition = Partition::begin(&change.leader)?;
    let figures = change.observe_while("cut off", async || {
        drop(partition);
        // What it had said into the void is said again by its machine, later and later.
        sleep(Duration::from_secs(20)).await;
        Ok(())
    });
    figures.await?;
    Ok(())
}

#[tokio::test]
async fn a_leader_that_wakes_up_after_its_claim_has_expired_writes_nothing_more() -> Result<()> {
    let change = Change::begin("e2e-leadership").await?;
    let hung = Hung::hang(&change.leader)?;
    // It wakes up while the other one is at work.
    let figures = change.observe_while("paused", async || {
        drop(hung);
        // Long enough for whatever it had on its mind.
        sleep(Duration::from_secs(3)).await;
        Ok(())
    });
    figures.await?;
    Ok(())
}

/// A portal that is edited all the time, and the leader that is about to lose the lead.
struct Change {
    namespace: Namespace,
    leader: Pod,
    witness: Witness,
    began: Timestamp,
}

/// How a change of hands went.
struct Figures {
    /// Between the last write of the old leader and the first of the new one.
    gap: SignedDuration,
}

impl Change {
    async fn begin(namespace: &str) -> Result<Self> {
        let namespace = Namespace::open(namespace).await?;
        namespace.apply_portal("edited", spec(0)).await?;
        namespace.wait_until_scaled_to_zero("edited").await?;
        // Both replicas are up, one of them leads.
        let leader = eventually("two ready replicas", TAKEN_OVER * 2, async || {
            operator::leader(&namespace.client()).await
        })
        .await?;
        let witness = Witness::of_local_cluster(namespace.client()).await?;
        Ok(Self { namespace, leader, witness, began: Timestamp::now() })
    }

    async fn observe(self, how: &str) -> Result<Figures> {
        self.observe_while(how, async || Ok(())).await
    }

    /// Edits the portal until another replica leads and `then` has ended, then reads who wrote what.
    async fn observe_while(
        mut self,
        how: &str,
        then: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<Figures> {
        let old = self.leader.name_any();
        let namespace = self.namespace.clone();
        let ends = async {
            let started = Instant::now();
            eventually("another leader", TAKEN_OVER, async || {
                let holder = operator::holder(&namespace.client()).await?;
                ensure!(!holder.is_empty() && !holder.starts_with(&format!("{old}_")), "{holder}");
                Ok(())
            })
            .await?;
            let took = started.elapsed();
            then().await?;
            Ok::<_, anyhow::Error>(took)
        };
        let took = tokio::select! {
            took = ends => took?,
            failed = self.edit_for_ever() => failed.map(|never| match never {})?,
        };
        self.namespace.apply_portal("edited", spec(9999)).await?;
        eventually("the last edit", TAKEN_OVER, async || {
            let ingress: Ingress = self.namespace.api().get("edited-portal").await?;
            let host = ingress.spec.and_then(|spec| spec.rules?.into_iter().next()?.host);
            ensure!(host.as_deref() == Some("edit-9999.example.com"), "the host is {host:?}");
            Ok(())
        })
        .await?;
        let writes = self.witness.requests_of(OPERATOR).await?;
        let began = self.began;
        let writes: Vec<&Request> = writes
            .iter()
            .filter(|it| it.is_write() && it.resource != "leases" && it.received >= began)
            // What was refused has changed nothing: of a request whose sender has gone away meanwhile,
            // the API server says that it took too long.
            .filter(|it| it.code < 300)
            .collect();
        let first = writes.iter().filter(|it| it.pod != old).map(|it| it.received).min();
        let first = first.context("the new leader has written nothing")?;
        let late: Vec<String> = writes
            .iter()
            .filter(|it| it.pod == old && it.received >= first)
            .map(ToString::to_string)
            .collect();
        let last = writes.iter().filter(|it| it.pod == old).map(|it| it.received).max();
        let gap = last.map_or(first.duration_since(began), |last| first.duration_since(last));
        println!(
            "leader {how}: another one leads after {:.1} s; {:.1} s between the last write of the old and the first of the new; {} writes, {} of them late",
            took.as_secs_f64(),
            gap.as_secs_f64(),
            writes.len(),
            late.len(),
        );
        ensure!(late.is_empty(), "the old leader wrote after the new one:\n{}", late.join("\n"));
        let anew: Vec<String> = writes
            .iter()
            .filter(|it| it.pod != old && !is_due_to_an_edit(it))
            .map(ToString::to_string)
            .collect();
        ensure!(anew.is_empty(), "the new leader wrote what was there:\n{}", anew.join("\n"));
        self.namespace.delete_portal("edited").await?;
        Ok(Figures { gap })
    }

    /// Each edit changes the Ingress, which no pod has to follow.
    async fn edit_for_ever(&self) -> Result<std::convert::Infallible> {
        let mut edit = 1;
        loop {
            self.namespace.apply_portal("edited", spec(edit)).await?;
            edit += 1;
            sleep(EDIT_EVERY).await;
        }
    }
}

/// Edits change the Ingress, and where the portal says it is.
fn is_due_to_an_edit(request: &Request) -> bool {
    ["ingresses", "hardwareportals/status", "events"].contains(&request.resource.as_str())
}

/// A portal without pods.
fn spec(edit: u32) -> serde_json::Value {
    json!({
        "hardware": {"autoscaling": {"disabled": true}, "replicas": 0},
        "portal": {
            "autoscaling": {"disabled": true}, "replicas": 0,
            "ingress": {"host": format!("edit-{edit}.example.com")},
        },
    })
}

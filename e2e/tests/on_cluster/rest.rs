//! Nothing to do means nothing asked: the API server's audit log is the witness.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use crds::{HardwarePortal, HardwarePortalStatus};
use e2e::{
    Namespace,
    audit::{OPERATOR, Request, Witness},
    fake_nodes, operator,
    wait::eventually,
};
use futures::future::try_join_all;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

const NAMESPACE: &str = "e2e-rest";
const PORTALS: u64 = 50;
const PASSES: usize = 10;

/// No request for this long after the last rollout means that nothing is under way any more.
const QUIET: Duration = Duration::from_secs(10);

#[tokio::test]
async fn passes_over_fifty_portals_at_rest_ask_for_nothing_and_move_nothing() -> Result<()> {
    let namespace = Namespace::keep(NAMESPACE).await?;
    namespace.delete_portals().await?;
    fake_nodes::expect_some(&namespace.client()).await?;
    // One that starts meanwhile would list everything.
    eventually("two ready replicas", Duration::from_mins(1), async || {
        operator::leader(&namespace.client()).await
    })
    .await?;
    let names: Vec<String> = (0..PORTALS).map(|number| format!("quiet-{number:02}")).collect();
    let spec = fake_nodes::spec(2);
    try_join_all(names.iter().map(|name| namespace.apply_portal(name, spec.clone()))).await?;
    for name in &names {
        namespace.wait_until_ready(name).await?;
    }
    let mut witness = Witness::of_local_cluster(namespace.client()).await?;
    let is_work = |one: &Request| one.namespace == NAMESPACE && !is_expected_at_rest(one);
    witness.until_quiet(OPERATOR, QUIET, Duration::from_mins(3), is_work).await?;

    let before = Picture::take(&namespace).await?;
    let mut versions = before.portals.clone();
    let passes_before = operator::passes(&namespace.client()).await?;
    for pass in 0..PASSES {
        let wanted = operator::passes(&namespace.client()).await? + PORTALS;
        let nudges = names.iter().map(|name| nudge(&namespace, name, pass));
        versions = try_join_all(nudges).await?.into_iter().collect();
        eventually("a pass over each portal", Duration::from_mins(1), async || {
            let passes = operator::passes(&namespace.client()).await?;
            ensure!(passes >= wanted, "{} passes are missing", wanted - passes);
            Ok(())
        })
        .await?;
        // Each nudge moves its portal once; nothing else does.
        let now = Picture::take(&namespace).await?.portals;
        assert_eq!(now, versions, "portals moved by more than annotation {pass}");
    }
    let passes = operator::passes(&namespace.client()).await? - passes_before;

    let asked = witness.requests_of(OPERATOR).await?;
    let (expected, unexpected): (Vec<Request>, Vec<Request>) =
        asked.into_iter().filter(concerns_the_portals).partition(is_expected_at_rest);
    let after = Picture::take(&namespace).await?;
    println!(
        "{passes} passes over {PORTALS} portals with {} children: {} watches and Lease requests, \
         {} others",
        after.children.len(),
        expected.len(),
        unexpected.len()
    );
    assert_eq!(after.children, before.children, "resource versions of children");
    assert_eq!(after.portals, versions, "resource versions of portals");
    assert_eq!(after.statuses, before.statuses, "statuses");
    let sample: Vec<String> = unexpected.iter().take(5).map(ToString::to_string).collect();
    ensure!(unexpected.is_empty(), "{} requests, such as {sample:#?}", unexpected.len());
    namespace.delete_portals().await
}

/// What the operator asks for in other watched namespaces is other portals' business.
fn concerns_the_portals(request: &Request) -> bool {
    [NAMESPACE, operator::NAMESPACE, ""].contains(&request.namespace.as_str())
}

/// Watches end after some minutes and are started again; the Lease is renewed.
fn is_expected_at_rest(request: &Request) -> bool {
    let is_lease = request.namespace == operator::NAMESPACE && request.resource == "leases";
    request.verb == "watch" || is_lease
}

/// Every change of a portal makes the operator look at it.
async fn nudge(namespace: &Namespace, name: &str, pass: usize) -> Result<(String, String)> {
    let patch =
        json!({"metadata": {"annotations": {"e2e.gill-hicks.dev/nudge": pass.to_string()}}});
    let portals = namespace.api::<HardwarePortal>();
    let patched = portals.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let version = patched.resource_version().context("a stored object has a version")?;
    Ok((name.to_owned(), version))
}

/// Everything that the operator could move.
struct Picture {
    /// Resource version by "Kind/name".
    children: BTreeMap<String, String>,
    /// Resource version by name.
    portals: BTreeMap<String, String>,
    statuses: BTreeMap<String, Option<HardwarePortalStatus>>,
}

impl Picture {
    async fn take(namespace: &Namespace) -> Result<Self> {
        let version = |version: Option<String>| version.unwrap_or_default();
        let children = namespace.owned().await?.into_iter();
        let children = children
            .map(|child| (child.to_string(), version(child.object.resource_version())))
            .collect();
        let all = namespace.api::<HardwarePortal>().list(&ListParams::default()).await?.items;
        let portals =
            all.iter().map(|one| (one.name_any(), version(one.resource_version()))).collect();
        let statuses = all.into_iter().map(|one| (one.name_any(), one.status)).collect();
        Ok(Self { children, portals, statuses })
    }
}

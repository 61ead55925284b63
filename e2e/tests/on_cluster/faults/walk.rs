//! Lets each request of a scenario go wrong in turn, and compares what comes about.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    fault::{Fault, Faults},
    in_process::Operator,
    namespace::expect_condition,
    owned,
    program::run_in_shell,
    setting,
    wait::eventually,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, events::v1::Event};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, ListParams},
};
use serde_json::Value;
use tokio::{sync::Mutex, time::sleep};

use super::scenario::Scenario;

/// Time to come about after a fault: a client's deadline, a delay, and a busy machine.
pub(super) const SETTLED: Duration = Duration::from_mins(1);
/// Without a request for this long, a portal is at rest. Longer than the first delay after a failure.
const REST: Duration = Duration::from_millis(1500);
/// Cases at the same time, each in a namespace of its own.
const WALKERS: usize = 12;

/// What came about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Requests since the change, up to rest.
    requests: usize,
    events: usize,
    /// By kind and name, without what differs from one portal to the next.
    objects: BTreeMap<String, Value>,
    /// Type, status and reason of each condition.
    conditions: Vec<(String, String, String)>,
}

/// Walks through every request of a scenario: with every fault if `E2E_FAULTS` is "all", otherwise
/// with one fault each, in turn.
pub(super) async fn walk(scenario: Scenario) -> Result<()> {
    let prefix = format!("e2e-fault-{scenario:?}").to_lowercase();
    let walkers = stream::iter(0..WALKERS)
        .then(async |number| Walker::open(&format!("{prefix}-{number}")).await)
        .try_collect::<Vec<_>>()
        .await?;
    let expected = walkers[0].run("expected", scenario, None).await?;
    let cases = cases(expected.requests);
    let count = cases.len();
    let free = Mutex::new(walkers);
    let results: Vec<Result<usize>> = stream::iter(cases)
        .map(async |(fault, k)| {
            let walker = free.lock().await.pop().context("as many walkers as cases at once")?;
            let result = walker.try_case(scenario, fault, k, &expected).await;
            free.lock().await.push(walker);
            result.with_context(|| format!("{scenario:?}: {fault} at request {k}"))
        })
        .buffer_unordered(WALKERS)
        .collect()
        .await;
    let failures: Vec<String> = results
        .iter()
        .filter_map(|it| it.as_ref().err())
        .map(|error| format!("{error:#}"))
        .collect();
    let most = results.iter().flatten().max().copied().unwrap_or_default();
    println!(
        "{scenario:?}: {count} faults over {} requests, {} failed; at most {most} requests to come about",
        expected.requests,
        failures.len(),
    );
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn cases(requests: usize) -> Vec<(Fault, usize)> {
    let every = setting("E2E_FAULTS").is_ok_and(|which| which == "all");
    let all = (1..=requests).flat_map(|k| {
        let one = [Fault::ALL[k % Fault::ALL.len()]];
        let faults = if every { Fault::ALL.to_vec() } else { one.to_vec() };
        faults.into_iter().map(move |fault| (fault, k))
    });
    all.collect()
}

/// A namespace in which the operator has its rights.
pub(super) struct Walker {
    namespace: Namespace,
}

impl Walker {
    /// Opens the namespace, and makes it if it is missing.
    pub(super) async fn open(name: &str) -> Result<Self> {
        let role =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/manifests/watched-namespace.yaml");
        let script = format!(
            "kubectl create namespace {name} --dry-run=client --output yaml | kubectl apply --server-side --filename - &&
             kubectl --namespace {name} apply --server-side --filename {role}"
        );
        run_in_shell(&script)?;
        Ok(Self { namespace: Namespace::open(name).await? })
    }

    /// The objects of one kind in it.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        self.namespace.api()
    }

    /// What a portal says of why it is not ready.
    pub(super) async fn why_not_ready(&self, portal: &str) -> Result<String> {
        let portal: HardwarePortal = self.namespace.api().get(portal).await?;
        Ok(expect_condition(&portal, "Ready", "False")?.message)
    }

    pub(super) async fn expect_ready(&self, portal: &str) -> Result<()> {
        let portal: HardwarePortal = self.namespace.api().get(portal).await?;
        expect_condition(&portal, "Ready", "True").map(drop)
    }

    /// Starts an operator for it.
    pub(super) async fn start(&self) -> Result<(Operator, Faults)> {
        let faults = Faults::default();
        Ok((Operator::start(self.namespace.name(), &faults).await?, faults))
    }

    pub(super) async fn apply(&self, portal: &str, spec: &Value) -> Result<()> {
        self.namespace.apply_portal(portal, spec.clone()).await?;
        Ok(())
    }

    /// Lets the garbage collector have it.
    pub(super) async fn remove(&self, portal: &str) -> Result<()> {
        let portals = self.namespace.api::<HardwarePortal>();
        portals.delete(portal, &DeleteParams::background()).await?;
        let labels = ListParams::default().labels(&format!("app.kubernetes.io/instance={portal}"));
        let claims = self.namespace.api::<PersistentVolumeClaim>();
        claims.delete_collection(&DeleteParams::default(), &labels).await?;
        Ok(())
    }

    /// Runs a scenario without a fault, or with one, up to rest.
    pub(super) async fn run(
        &self,
        portal: &str,
        scenario: Scenario,
        plan: Option<(Fault, usize)>,
    ) -> Result<Outcome> {
        let faults = self.begin(portal, scenario, plan).await?;
        let outcome = self.await_rest(portal, &faults.1).await?;
        faults.0.stop().await?;
        self.remove(portal).await?;
        Ok(outcome)
    }

    /// Runs a scenario with a fault and gives the requests that it took.
    async fn try_case(
        &self,
        scenario: Scenario,
        fault: Fault,
        k: usize,
        expected: &Outcome,
    ) -> Result<usize> {
        let portal = format!("{fault}-{k}").to_lowercase();
        let (mut operator, faults) = self.begin(&portal, scenario, Some((fault, k))).await?;
        if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) {
            // Where this run needed fewer requests than the one that was counted, nothing goes wrong.
            if tokio::time::timeout(REST * 4, faults.crashed()).await.is_ok() {
                operator.crash().await?;
                faults.heal();
                operator = Operator::start(self.namespace.name(), &faults).await?;
            }
        }
        eventually(&format!("the outcome after {fault}"), SETTLED, async || {
            self.expect_outcome(&portal, expected).await
        })
        .await?;
        let outcome = self.await_rest(&portal, &faults).await?;
        operator.stop().await?;
        self.remove(&portal).await?;
        // A new operator lists everything anew, and every child is applied once more.
        let bound = expected.requests * 3 + 40;
        ensure!(outcome.requests <= bound, "{} requests, {bound} at most", outcome.requests);
        let most = expected.events * 2 + 2;
        ensure!(outcome.events <= most, "{} events, {most} at most", outcome.events);
        Ok(outcome.requests)
    }

    /// Brings the portal to where the scenario begins, and begins.
    async fn begin(
        &self,
        portal: &str,
        scenario: Scenario,
        plan: Option<(Fault, usize)>,
    ) -> Result<(Operator, Faults)> {
        let faults = Faults::default();
        let Some(before) = scenario.before() else {
            faults.arm(plan);
            let operator = Operator::start(self.namespace.name(), &faults).await?;
            self.apply(portal, &scenario.after()).await?;
            return Ok((operator, faults));
        };
        let operator = Operator::start(self.namespace.name(), &faults).await?;
        self.apply(portal, &before).await?;
        self.await_rest(portal, &faults).await?;
        faults.arm(plan);
        self.apply(portal, &scenario.after()).await?;
        Ok((operator, faults))
    }

    /// Waits until nothing more is asked and the status is of the latest spec.
    async fn await_rest(&self, portal: &str, faults: &Faults) -> Result<Outcome> {
        eventually(&format!("{portal} at rest"), SETTLED, async || {
            let (before, all) = (faults.requests(), faults.all_requests());
            sleep(REST).await;
            ensure!(faults.all_requests() == all, "requests are still made");
            Ok(Outcome { requests: before, ..self.look(portal).await? })
        })
        .await
    }

    /// Whether the same came about as without a fault.
    pub(super) async fn expect_outcome(&self, portal: &str, expected: &Outcome) -> Result<()> {
        let found = self.look(portal).await?;
        ensure!(
            found.conditions == expected.conditions,
            "conditions are {:?}, expected {:?}",
            found.conditions,
            expected.conditions
        );
        for (name, object) in &expected.objects {
            let found = found.objects.get(name).with_context(|| format!("{name} is missing"))?;
            if let Some(difference) = first_difference(object, found, "") {
                bail!("{name}: {difference}");
            }
        }
        let extra = found.objects.keys().find(|name| !expected.objects.contains_key(*name));
        ensure!(extra.is_none(), "{extra:?} should not be there");
        Ok(())
    }

    async fn look(&self, name: &str) -> Result<Outcome> {
        let portal: HardwarePortal = self.namespace.api().get(name).await?;
        let status = portal.status.clone().context("there is no status yet")?;
        ensure!(
            status.observed_generation == portal.metadata.generation,
            "the status is of generation {:?}",
            status.observed_generation
        );
        let conditions = status.conditions.into_iter().map(|it| (it.type_, it.status, it.reason));
        let mut objects = BTreeMap::new();
        for kind in owned::kinds() {
            objects.extend(self.children(&kind, name).await?);
        }
        let events = self.namespace.api::<Event>().list(&ListParams::default()).await?;
        let of_portal = |event: &&Event| {
            event.regarding.as_ref().and_then(|it| it.uid.as_ref()) == portal.metadata.uid.as_ref()
        };
        let events = events.iter().filter(of_portal).count();
        Ok(Outcome { requests: 0, events, objects, conditions: conditions.collect() })
    }

    /// The children of one kind, as they would be called if the portal was called "NAME".
    async fn children(&self, kind: &ApiResource, portal: &str) -> Result<Vec<(String, Value)>> {
        let labels = format!(
            "app.kubernetes.io/instance={portal},app.kubernetes.io/managed-by=gill-hicks-operator"
        );
        let all = self.namespace.api_of(kind);
        let found = all.list(&ListParams::default().labels(&labels)).await?;
        let children = found.items.into_iter().map(|child| {
            let name = format!("{}/{}", kind.kind, child.name_any());
            let text = serde_json::to_string(&without_chance(serde_json::to_value(&child)?))?;
            let text = text.replace(portal, "NAME").replace(self.namespace.name(), "NAMESPACE");
            Ok((name.replace(portal, "NAME"), serde_json::from_str(&text)?))
        });
        children.collect()
    }
}

/// An object without what the API server, or chance, decides.
fn without_chance(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    let metadata = &mut object["metadata"];
    for key in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        metadata.as_object_mut().and_then(|metadata| metadata.remove(key));
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        // How many steps a Deployment took to where it is, its controller may see or miss.
        annotations.remove("deployment.kubernetes.io/revision");
        // Of the child with its names.
        annotations.remove("gill-hicks.dev/rendered");
    }
    // A retained volume claim has no owner.
    if let Some(owner) = metadata.pointer_mut("/ownerReferences/0/uid") {
        *owner = Value::Null;
    }
    for key in ["clusterIP", "clusterIPs", "volumeName"] {
        object["spec"].as_object_mut().and_then(|spec| spec.remove(key));
    }
    // A token differs from one portal to the next.
    if object["type"] == "Opaque" {
        for value in object["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
            *value = Value::Null;
        }
    }
    object
}

/// Where two objects differ, in words.
fn first_difference(expected: &Value, found: &Value, path: &str) -> Option<String> {
    if let (Value::Object(wanted), Value::Object(has)) = (expected, found) {
        let keys = wanted.keys().chain(has.keys());
        let at = |object: &serde_json::Map<String, Value>, key: &String| {
            object.get(key).cloned().unwrap_or_default()
        };
        let mut differences = keys.filter_map(|key| {
            first_difference(&at(wanted, key), &at(has, key), &format!("{path}.{key}"))
        });
        return differences.next();
    }
    (expected != found).then(|| format!("{path} is {found}, expected {expected}"))
}

//! Lets each request of a scenario, or each chunk of what is said to the API server, go wrong in turn,
//! and compares what comes about.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    database::Database,
    fault::{Fault, Faults},
    in_process::Operator,
    namespace::{expect_condition, expect_scaled_to_zero},
    owned, setting, source,
    wait::eventually,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{core::v1::PersistentVolumeClaim, events::v1::Event};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, ListParams},
};
use operator::rotation::mysql::{AccountName, Slot};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

use super::scenario::Scenario;

/// Time to come about after a fault: a client's deadline, a delay, and a busy machine.
pub(super) const SETTLED: Duration = Duration::from_mins(2);
/// Without a request for this long, a portal is at rest. Longer than the first delay after a failure.
const REST: Duration = Duration::from_millis(1500);
/// Cases at the same time, each in a namespace of its own.
const WALKERS: usize = 6;

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

/// Walks through every request of a scenario, or every chunk of what is said.
pub(super) async fn walk(scenario: Scenario, site: Site) -> Result<()> {
    let prefix = format!("e2e-fault-{scenario:?}-{site}").to_lowercase();
    let server =
        if scenario.has_accounts() { Some(Server::prepare("e2e_fault").await?) } else { None };
    let walkers = stream::iter(0..WALKERS)
        .then(async |number| {
            let namespace = format!("{prefix}-{number}");
            let walker = Walker { site, ..Walker::open(&namespace).await? };
            Ok::<_, anyhow::Error>(match &server {
                Some(server) => walker.on(server.clone()),
                None => walker,
            })
        })
        .try_collect::<Vec<_>>()
        .await?;
    let expected = walkers[0].run("expected", scenario).await?.after;
    let cases = cases(site, expected.requests);
    let count = cases.len();
    let label = format!("{scenario:?}");
    let try_one =
        async |walker: &Walker, fault, k| walker.try_case(scenario, fault, k, &expected).await;
    let (results, _) = try_all(walkers, &label, site, cases, try_one).await;
    let failures = failures(&results);
    let most = results.iter().flatten().map(|tried| tried.places).max().unwrap_or_default();
    println!(
        "{scenario:?}: {count} faults over {} {site}s, {} failed; at most {most} {site}s to come about",
        expected.requests,
        failures.len(),
    );
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    expect_struck(&results)
}

/// What a case took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// The place of the fault, from 1; none if there was none.
    pub(super) fault_at: Option<usize>,
    /// Requests or chunks.
    pub(super) places: usize,
    /// Whether the fault came to pass.
    pub(super) struck: bool,
}

/// Fails if a run that had the place of its fault went on without it. How many requests and chunks a run
/// needs depends on how often something is looked at, so on how busy the machine is: the places of the last
/// faults may not be there. Fails as well if that was so for most of them.
pub(super) fn expect_struck(results: &[Result<Tried>]) -> Result<()> {
    let tried = || results.iter().flatten();
    let (struck, cases) = (tried().filter(|tried| tried.struck).count(), results.len());
    println!("{struck} of {cases} faults came to pass");
    let is_passed = |it: &&Tried| !it.struck && it.fault_at.is_some_and(|at| at < it.places);
    let passed: Vec<&Tried> = tried().filter(is_passed).collect();
    ensure!(passed.is_empty(), "faults did not come to pass though their places were: {passed:?}");
    ensure!(struck * 2 > cases, "{struck} of {cases} faults came to pass, expected most");
    Ok(())
}

/// Tries the cases, as many at the same time as there are walkers, and gives the walkers back.
pub(super) async fn try_all<W, T>(
    walkers: Vec<W>,
    label: &str,
    site: Site,
    cases: Vec<(Fault, usize)>,
    try_one: impl AsyncFn(&W, Fault, usize) -> Result<T>,
) -> (Vec<Result<T>>, Vec<W>) {
    let at_once = walkers.len();
    let free = Mutex::new(walkers);
    let results = stream::iter(cases)
        .map(async |(fault, k)| {
            let walker = free.lock().await.pop().context("as many walkers as cases at once")?;
            let result = try_one(&walker, fault, k).await;
            free.lock().await.push(walker);
            result.with_context(|| format!("{label}: {fault} at {site} {k}"))
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    (results, free.into_inner())
}

/// The errors among them, with their causes.
pub(super) fn failures<T>(results: &[Result<T>]) -> Vec<String> {
    let errors = results.iter().filter_map(|result| result.as_ref().err());
    errors.map(|error| format!("{error:#}")).collect()
}

/// Every fault at each place if `E2E_FAULTS` is "all", otherwise one fault each, in turn.
pub(super) fn cases(site: Site, places: usize) -> Vec<(Fault, usize)> {
    let every = setting("E2E_FAULTS").is_ok_and(|which| which == "all");
    let faults = site.faults();
    let at = |k: usize| {
        let one = &faults[k % faults.len()..][..1];
        let faults = if every { faults } else { one };
        faults.iter().map(move |fault| (*fault, k))
    };
    (1..=places).flat_map(at).collect()
}

/// Where something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// At a request to the API server.
    Request,
    /// At a chunk of what is sent over a connection.
    Chunk,
}

impl Site {
    fn faults(self) -> &'static [Fault] {
        match self {
            Self::Request => &Fault::ALL,
            Self::Chunk => &Fault::OF_CONNECTIONS,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Chunk => "chunk",
        })
    }
}

/// The database server, with a root account for all portals of a walk.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) database: Database,
    /// Of the schema and the root account.
    pub(super) name: String,
    pub(super) password: String,
}

impl Server {
    pub(super) async fn prepare(name: &str) -> Result<Self> {
        let database = Database::from_settings()?;
        let password = database.create_root(name).await?;
        Ok(Self { database, name: name.to_owned(), password })
    }

    /// The accounts of a portal, and which of them nobody can log in as.
    pub(super) async fn accounts(&self, uid: &str) -> Result<BTreeMap<String, bool>> {
        let account = AccountName::for_portal(uid, Slot::A)?.to_string();
        let prefix = account.trim_end_matches('a');
        let found = self.database.accounts(prefix).await?.into_iter();
        Ok(found.map(|(name, is_locked)| (name.replace(prefix, ""), is_locked)).collect())
    }
}

/// A namespace in which the operator has its rights.
pub(super) struct Walker {
    namespace: Namespace,
    site: Site,
    server: Option<Server>,
}

/// A scenario that is under way.
struct Case {
    portal: String,
    uid: String,
    operator: Operator,
    faults: Faults,
    /// What was there at rest before it began.
    before: Option<Outcome>,
}

/// A scenario in which nothing goes wrong.
pub(super) struct Model {
    pub(super) before: Option<Outcome>,
    pub(super) after: Outcome,
}

impl Walker {
    /// Opens the namespace, and makes it if it is missing.
    pub(super) async fn open(name: &str) -> Result<Self> {
        let namespace = Namespace::open_without_operator(name).await?;
        Ok(Self { namespace, site: Site::Request, server: None })
    }

    /// The same with portals on a database server.
    pub(super) fn on(self, server: Server) -> Self {
        Self { server: Some(server), ..self }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
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

    /// Whether all is as the spec asks, which is that there are no pods.
    pub(super) async fn expect_rest(&self, portal: &str) -> Result<()> {
        let portal: HardwarePortal = self.namespace.api().get(portal).await?;
        expect_scaled_to_zero(&portal).map(drop)
    }

    /// Starts an operator for it.
    pub(super) async fn start(&self) -> Result<(Operator, Faults)> {
        let faults = Faults::default();
        Ok((self.start_with(&faults).await?, faults))
    }

    async fn start_with(&self, faults: &Faults) -> Result<Operator> {
        match self.site {
            Site::Request => Operator::start(self.namespace.name(), faults).await,
            Site::Chunk => Operator::start_behind_proxy(self.namespace.name(), faults).await,
        }
    }

    /// Applies a portal, and gives its uid.
    pub(super) async fn apply(&self, portal: &str, spec: &Value) -> Result<String> {
        if let Some(Server { database, name, password }) = &self.server {
            source::offer(&self.namespace, database, name, password, source::allow(portal)).await?;
        }
        let annotations = json!({"gill-hicks.dev/abandon-embedded-data": "true"});
        let applied =
            self.namespace.apply_annotated_portal(portal, annotations, spec.clone()).await?;
        applied.uid().context("a stored object has a uid")
    }

    /// Lets the garbage collector have it, once the operator has let it go.
    pub(super) async fn delete(&self, portal: &str) -> Result<()> {
        let portals = self.namespace.api::<HardwarePortal>();
        portals.delete(portal, &DeleteParams::background()).await?;
        Ok(())
    }

    /// The same, to its end, with what it leaves behind.
    pub(super) async fn remove(&self, portal: &str) -> Result<()> {
        let portals = self.namespace.api::<HardwarePortal>();
        if portals.get_opt(portal).await?.is_some() {
            self.delete(portal).await?;
        }
        let labels = ListParams::default().labels(&format!("app.kubernetes.io/instance={portal}"));
        let claims = self.namespace.api::<PersistentVolumeClaim>();
        claims.delete_collection(&DeleteParams::default(), &labels).await?;
        eventually(&format!("the end of {portal}"), SETTLED, async || {
            ensure!(portals.get_opt(portal).await?.is_none(), "it is still there");
            Ok(())
        })
        .await
    }

    /// Runs a scenario without a fault, up to rest.
    pub(super) async fn run(&self, portal: &str, scenario: Scenario) -> Result<Model> {
        let case = self.begin(portal, scenario, None).await?;
        let after = self.await_rest(&case).await?;
        self.remove(portal).await?;
        case.operator.stop().await?;
        Ok(Model { before: case.before, after })
    }

    /// Runs a scenario with a fault and gives the requests that it took.
    async fn try_case(
        &self,
        scenario: Scenario,
        fault: Fault,
        k: usize,
        expected: &Outcome,
    ) -> Result<Tried> {
        let portal = format!("{fault}-{k}").to_lowercase();
        let mut case = self.begin(&portal, scenario, Some((fault, k))).await?;
        // A run may need fewer requests than the one that was counted: then the fault does not strike.
        let has_crashed = tokio::select! {
            biased;
            () = case.faults.crashed() => true,
            outcome = self.await_outcome(&case, expected) => outcome.map(|()| false)?,
        };
        if has_crashed {
            case.operator.crash().await?;
            case.faults.heal();
            case.operator = self.start_with(&case.faults).await?;
            self.await_outcome(&case, expected).await?;
        }
        let outcome = self.await_rest(&case).await?;
        self.remove(&portal).await?;
        case.operator.stop().await?;
        // A new operator lists everything anew, and every child is applied once more.
        let bound = expected.requests * 3 + 40;
        ensure!(outcome.requests <= bound, "{} {}s, {bound} at most", outcome.requests, self.site);
        // Ready turns to the failure, to what comes next, and back, each time with an event.
        let most = expected.events * 2 + 6;
        ensure!(outcome.events <= most, "{} events, {most} at most", outcome.events);
        let struck = case.faults.has_struck();
        Ok(Tried { fault_at: Some(k), places: outcome.requests, struck })
    }

    /// Brings the portal to where the scenario begins, and begins.
    async fn begin(
        &self,
        portal: &str,
        scenario: Scenario,
        plan: Option<(Fault, usize)>,
    ) -> Result<Case> {
        let (operator, faults) = self.start().await?;
        let portal_name = portal.to_owned();
        let mut case =
            Case { portal: portal_name, uid: String::new(), operator, faults, before: None };
        if let Some(before) = scenario.before() {
            case.uid = self.apply(portal, &before).await?;
            case.before = Some(self.await_rest(&case).await?);
        }
        case.faults.arm(plan);
        match scenario.after() {
            Some(after) => case.uid = self.apply(portal, &after).await?,
            None => self.delete(portal).await?,
        }
        Ok(case)
    }

    /// Waits until nothing more is asked and the status is of the latest spec.
    async fn await_rest(&self, case: &Case) -> Result<Outcome> {
        let Case { portal, uid, faults, .. } = case;
        eventually(&format!("{portal} at rest"), SETTLED, async || {
            let (before, all) = (faults.requests(), faults.all_requests());
            sleep(REST).await;
            ensure!(faults.all_requests() == all, "requests are still made");
            let outcome = self.look(portal, uid).await?;
            // Whoever waits for a Job asks for nothing.
            let migrates = outcome.conditions.iter().any(|(_, _, reason)| reason == "Migrating");
            ensure!(!migrates, "a migration is under way");
            Ok(Outcome { requests: before, ..outcome })
        })
        .await
    }

    async fn await_outcome(&self, case: &Case, expected: &Outcome) -> Result<()> {
        let Case { portal, uid, .. } = case;
        eventually(&format!("the outcome of {portal}"), SETTLED, async || {
            self.expect_outcome(portal, uid, expected).await
        })
        .await
    }

    /// Whether the same came about as without a fault.
    pub(super) async fn expect_outcome(
        &self,
        portal: &str,
        uid: &str,
        expected: &Outcome,
    ) -> Result<()> {
        let found = self.look(portal, uid).await?;
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

    async fn look(&self, name: &str, uid: &str) -> Result<Outcome> {
        let portal: Option<HardwarePortal> = self.namespace.api().get_opt(name).await?;
        let conditions = portal.map(conditions_of_latest_spec).transpose()?.unwrap_or_default();
        let mut objects = BTreeMap::new();
        for kind in owned::kinds() {
            objects.extend(self.children(&kind, name).await?);
        }
        if let Some(server) = &self.server {
            let accounts = server.accounts(uid).await?.into_iter();
            objects.extend(accounts.map(|(slot, is_locked)| {
                (format!("Account/{slot}"), json!({"isLocked": is_locked}))
            }));
        }
        let events = self.namespace.api::<Event>().list(&ListParams::default()).await?;
        let of_portal = |event: &&Event| {
            let regarding = event.regarding.as_ref();
            regarding.and_then(|it| it.uid.as_deref()) == Some(uid)
        };
        let events = events.iter().filter(of_portal).count();
        Ok(Outcome { requests: 0, events, objects, conditions })
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
            // Where the operator runs is in a NetworkPolicy: in this process beside the portal, in the pod
            // elsewhere.
            let text = text.replace(self.namespace.name(), "NAMESPACE");
            let text = text.replace(e2e::operator::NAMESPACE, "NAMESPACE").replace(portal, "NAME");
            let name = without_hash(&name.replace(portal, "NAME"));
            Ok((name, serde_json::from_str(&without_hash(&text))?))
        });
        children.collect()
    }
}

/// The name of a migration's Job ends with a hash of its template, which has the portal's name in it.
fn without_hash(text: &str) -> String {
    const JOB: &str = "NAME-migrate-";
    let mut parts = text.split(JOB);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        without.push_str(JOB);
        without.push_str(part.trim_start_matches(|it: char| it.is_ascii_hexdigit()));
    }
    without
}

/// Type, status and reason of each condition.
fn conditions_of_latest_spec(portal: HardwarePortal) -> Result<Vec<(String, String, String)>> {
    let status = portal.status.context("there is no status yet")?;
    ensure!(
        status.observed_generation == portal.metadata.generation,
        "the status is of generation {:?}",
        status.observed_generation
    );
    let conditions = status.conditions.into_iter();
    Ok(conditions.map(|it| (it.type_, it.status, lasting(it.reason))).collect())
}

/// Why pods are not there is told more precisely when they have not been for a while, however that came.
fn lasting(reason: String) -> String {
    match reason.as_str() {
        "RollingOut" | "MinimumReplicasUnavailable" | "Unschedulable" => "PodsMissing".to_owned(),
        _ => reason,
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
    // What a Job's pods are told by has the Job's uid in it.
    if let Some(labels) = object.pointer_mut("/spec/template/metadata/labels") {
        for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
            labels.as_object_mut().and_then(|labels| labels.remove(key));
        }
        object
            .pointer_mut("/spec/selector/matchLabels")
            .and_then(Value::as_object_mut)
            .and_then(|labels| labels.remove("batch.kubernetes.io/controller-uid"));
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

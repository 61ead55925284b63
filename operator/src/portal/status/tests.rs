//! Portals in a state, and what their conditions are then.

mod credentials;
mod database;
mod generations;
mod kstatus;
mod sources;
mod url;
mod workloads;

use crds::{HardwarePortal, HardwarePortalStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{Failure, ReconcileOutcome, compute};
use crate::{
    cluster::{cache::Child, labels::Component},
    portal::{
        apply::Applied,
        build::tests::example,
        live::{Live, LiveDeployment},
        pods::{PodProblem, PodProblems},
        resolve::ResolvedPortal,
        source_reports::Reports,
    },
    rotation::Credentials,
};

/// What the children of the portal `demo` are, and what the last pass made of it.
struct World {
    portal: HardwarePortal,
    resolved: ResolvedPortal,
    credentials: Option<Credentials>,
    hardware: Option<DynamicObject>,
    page: Option<DynamicObject>,
    collector: Option<DynamicObject>,
    live: Live,
    problems: PodProblems,
    reports: Reports,
}

impl World {
    /// A portal of a first generation that nothing was done for yet.
    fn new(spec: Value) -> Self {
        let mut portal = example::portal(spec.clone());
        portal.metadata.generation = Some(1);
        // As the API server fills it in.
        portal.status =
            Some(HardwarePortalStatus { observed_generation: Some(-1), ..Default::default() });
        Self {
            portal,
            resolved: example::validated(spec, &example::settings()),
            credentials: None,
            hardware: None,
            page: None,
            collector: None,
            live: Live::default(),
            problems: PodProblems::default(),
            reports: Reports::default(),
        }
    }

    /// One that serves, of its first generation.
    fn serving(spec: Value) -> Self {
        let mut world = Self::new(spec);
        world.set_deployments(&serving());
        world.apply();
        assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
        world
    }

    /// The same once the user has changed the spec.
    fn edited(mut self) -> Self {
        self.portal.metadata.generation = self.portal.metadata.generation.map(|it| it + 1);
        self
    }

    /// Gives both Deployments a state.
    fn set_deployments(&mut self, state: &Value) {
        self.hardware = Some(deployment("demo-hardware", state));
        self.page = Some(deployment("demo-portal", state));
    }

    fn set_page(&mut self, state: &Value) {
        self.page = Some(deployment("demo-portal", state));
    }

    fn deployments(&self) -> impl Iterator<Item = &DynamicObject> {
        self.hardware.iter().chain(&self.page).chain(&self.collector)
    }

    /// The Deployments as the watch shows them.
    fn live(&self) -> Live {
        let read = |object: &Option<DynamicObject>| object.as_ref().and_then(LiveDeployment::read);
        Live {
            hardware: read(&self.hardware),
            portal: read(&self.page),
            collector: read(&self.collector),
            ..self.live.clone()
        }
    }

    fn finish(&mut self, outcome: &ReconcileOutcome<'_>) {
        let now = Timestamp::UNIX_EPOCH;
        let live = self.live();
        let status = compute(&self.portal, outcome, &live, &self.problems, &self.reports, now);
        self.portal.status = Some(status);
    }

    /// A pass that has applied everything.
    fn apply(&mut self) {
        let applied = applied(self.deployments(), true);
        let (resolved, credentials) = (self.resolved.clone(), self.credentials.clone());
        let credentials = credentials.as_ref();
        let applied = &applied;
        let outcome = ReconcileOutcome::Applied { resolved: &resolved, credentials, applied };
        self.finish(&outcome);
    }

    /// A pass that ended before the first child.
    fn apply_in_vain(&mut self, failure: &Failure, holds_credentials: bool) {
        let (resolved, credentials) = (self.resolved.clone(), self.credentials.clone());
        let outcome = ReconcileOutcome::PartlyApplied {
            resolved: &resolved,
            credentials: credentials.as_ref(),
            applied: &applied([].into_iter(), holds_credentials),
            failure,
        };
        self.finish(&outcome);
    }

    fn status(&self) -> &HardwarePortalStatus {
        self.portal.status.as_ref().expect("a status")
    }

    fn find(&self, kind: &str) -> &Condition {
        let mut conditions = self.status().conditions.iter();
        conditions.find(|one| one.type_ == kind).unwrap_or_else(|| panic!("{kind} is missing"))
    }

    /// Status, reason and generation of a condition.
    fn condition(&self, kind: &str) -> (&str, &str, Option<i64>) {
        let found = self.find(kind);
        (&found.status, &found.reason, found.observed_generation)
    }
}

fn applied<'a>(
    objects: impl Iterator<Item = &'a DynamicObject>,
    holds_credentials: bool,
) -> Applied {
    let children = objects.map(|object| {
        let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
        Child::new(&kind, object.clone())
    });
    Applied::of(children.collect(), holds_credentials)
}

fn object(kind: &str, name: &str, data: &Value) -> DynamicObject {
    let mut object = data.clone();
    object["apiVersion"] = json!("v1");
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": name, "generation": 2});
    serde_json::from_value(object).expect("an object")
}

/// A Deployment of two pods whose latest spec its controller has seen, with the rest as given.
fn deployment(name: &str, state: &Value) -> DynamicObject {
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    let mut data = json!({
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"image": "i"}], "volumes": volumes}},
        },
        "status": {"observedGeneration": 2},
    });
    for part in ["spec", "status"] {
        for (key, value) in state[part].as_object().into_iter().flatten() {
            data[part][key] = value.clone();
        }
    }
    object("Deployment", name, &data)
}

fn available(status: &str) -> Value {
    json!({"type": "Available", "status": status, "reason": "r"})
}

/// Both pods are of the latest template, and are available.
fn serving() -> Value {
    json!({"status": {
        "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [available("True")],
    }})
}

/// Both pods are of the latest template, and are being started.
fn starting() -> Value {
    json!({"status": {
        "replicas": 2, "updatedReplicas": 2, "conditions": [available("False")],
    }})
}

/// Two old pods are available, and one of the latest template is being started.
fn rolling() -> Value {
    json!({"status": {
        "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [available("True")],
    }})
}

/// Two old pods are available, and the API server refuses the new ones.
fn refused() -> Value {
    json!({"status": {
        "replicas": 2, "updatedReplicas": 0, "readyReplicas": 2, "availableReplicas": 2,
        "conditions": [available("True"), replica_failure()],
    }})
}

fn replica_failure() -> Value {
    json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"p-hardware-1-x7f\" is forbidden: exceeded quota: q, limited: pods=0",
    })
}

/// Two old pods are available, and the rollout is paused.
fn paused() -> Value {
    let mut state = refused();
    state["spec"] = json!({"paused": true});
    state["status"]["conditions"] = json!([available("True")]);
    state
}

fn scaled_to_zero() -> Value {
    json!({"spec": {"replicas": 0}, "status": {
        "replicas": 0, "updatedReplicas": 0, "conditions": [available("True")],
    }})
}

fn failure(concerns: crds::ConditionType, reason: Reason) -> Failure {
    Failure { concerns, reason, message: "something is in the way".to_owned() }
}

fn missing_image() -> PodProblems {
    let message = "pod p-hardware-1 does not get its image".to_owned();
    PodProblems::one(Component::Hardware, PodProblem { reason: Reason::ImagePullBackOff, message })
}

fn on_mysql() -> Value {
    json!({"database": {"mysql": {"source": {"secret": {"name": "database"}}}}})
}

//! The live state of a portal's children that decisions depend on, read from the cache.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DeploymentStatus;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{cache::Cache, names};

/// The live state of a portal's children.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The Deployment of hardware.
    pub hardware: Option<LiveDeployment>,
    /// The Deployment of portal.
    pub portal: Option<LiveDeployment>,
    /// The Deployment of the collector.
    pub collector: Option<LiveDeployment>,
    /// Phase of the embedded database's volume claim, such as Pending, Bound or Lost; none if there is
    /// no such claim.
    pub claim: Option<String>,
    /// Whether the Deployments could not be listed, so that none of them is known.
    pub is_unlisted: bool,
    /// The migration Jobs by name.
    pub jobs: BTreeMap<String, Migration>,
}

impl Live {
    /// Reads it from the cache.
    #[must_use]
    pub fn read(cache: &Cache, namespace: &str, portal: &str) -> Self {
        let deployment = |name: String| {
            let found = cache.get(namespace, portal, "Deployment", &name)?;
            LiveDeployment::read(&found.read())
        };
        let claim =
            cache.get(namespace, portal, "PersistentVolumeClaim", &names::data_claim(portal));
        let children = cache.of_portal(namespace, portal);
        let jobs = children.iter().filter(|child| child.kind == "Job");
        Self {
            is_unlisted: !cache.is_listed("Deployment"),
            hardware: deployment(names::hardware(portal)),
            portal: deployment(names::portal(portal)),
            collector: deployment(names::collector(portal)),
            claim: claim.map(|claim| claim_phase(&claim.read())),
            jobs: jobs.map(|job| (job.name.clone(), Migration::read(&job.read()))).collect(),
        }
    }
}

/// Phase of a volume claim: Pending also before a controller has set one.
#[must_use]
pub fn claim_phase(claim: &DynamicObject) -> String {
    let phase = claim.data.pointer("/status/phase").and_then(Value::as_str);
    phase.unwrap_or("Pending").to_owned()
}

/// The live state of a Deployment.
#[derive(Clone, Debug, Default)]
pub struct LiveDeployment {
    /// Its name.
    pub name: String,
    /// Pods that are wanted.
    pub replicas: i32,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// Its status.
    pub status: DeploymentStatus,
    /// Image of its first container.
    pub image: String,
    /// Whether its pods keep an embedded database.
    pub is_embedded: bool,
    /// The volume claim that holds the embedded database; none if it is on a volume of the pod itself.
    pub data_claim: Option<String>,
    /// Whether its rollouts are paused.
    pub is_paused: bool,
    /// Whether it replaces pods one by one.
    pub rolls: bool,
}

impl LiveDeployment {
    /// Reads one; none if it has no spec.
    #[must_use]
    pub fn read(object: &DynamicObject) -> Option<Self> {
        let at = |path: &str| object.data.pointer(path);
        let volumes = at("/spec/template/spec/volumes").and_then(Value::as_array);
        let data = volumes.into_iter().flatten().find(|it| it["name"] == names::DATA_VOLUME);
        Some(Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            replicas: at("/spec/replicas").and_then(Value::as_i64)?.try_into().ok()?,
            generation: object.metadata.generation.unwrap_or_default(),
            status: parse(at("/status")).unwrap_or_default(),
            image: at("/spec/template/spec/containers/0/image")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            is_embedded: data.is_some(),
            data_claim: data
                .and_then(|data| data["persistentVolumeClaim"]["claimName"].as_str())
                .map(str::to_owned),
            is_paused: at("/spec/paused").and_then(Value::as_bool) == Some(true),
            rolls: at("/spec/strategy/type").and_then(Value::as_str) == Some("RollingUpdate"),
        })
    }

    /// Whether its controller has observed its latest generation.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation.unwrap_or_default() >= self.generation
    }

    /// Whether it has fewer pods of its latest template than it wants.
    #[must_use]
    pub fn lacks_new_pods(&self) -> bool {
        self.status.updated_replicas.unwrap_or_default() < self.replicas
    }

    /// Whether pods of an earlier template may exist: its status counts some, or is of an earlier generation.
    #[must_use]
    pub fn has_old_pods(&self) -> bool {
        let updated = self.status.updated_replicas.unwrap_or_default();
        !self.is_observed() || self.status.replicas.unwrap_or_default() > updated
    }
}

fn parse<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    value.and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// The state of a migration Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migration {
    /// It is neither complete nor failed: its pods run, do not exist yet, or wait for their backoff.
    Running {
        /// When the Job was created.
        since: Option<Timestamp>,
        /// Whether it has, or has had, a pod.
        had_pods: bool,
    },
    /// The schema is up to date.
    Succeeded,
    /// It failed for good.
    Failed {
        /// Message of the Job's condition Failed.
        why: String,
        /// Whether it has had a pod, and so a log.
        had_pods: bool,
    },
}

impl Migration {
    /// Reads one.
    #[must_use]
    pub fn read(job: &DynamicObject) -> Self {
        let had_pods = had_pods(job.data.get("status").unwrap_or(&Value::Null));
        let conditions = job.data.pointer("/status/conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            if condition["status"] != "True" {
                continue;
            }
            match condition["type"].as_str() {
                Some("Complete") => return Self::Succeeded,
                Some("Failed") => {
                    let why = condition["message"].as_str().unwrap_or_default().to_owned();
                    return Self::Failed { why, had_pods };
                }
                _ => {}
            }
        }
        let since = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self::Running { since, had_pods }
    }
}

/// Whether a Job's status counts any pod. A pod that has ended is in `uncountedTerminatedPods` until it
/// is in `failed` or `succeeded`.
fn had_pods(status: &Value) -> bool {
    let counts = ["active", "failed", "succeeded", "terminating"];
    let is_counted = counts.iter().any(|it| status[it].as_i64().unwrap_or_default() > 0);
    let uncounted = status["uncountedTerminatedPods"].as_object();
    let mut uncounted = uncounted.into_iter().flat_map(|lists| lists.values());
    is_counted || uncounted.any(|list| list.as_array().is_some_and(|list| !list.is_empty()))
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::{LiveDeployment, Migration, claim_phase};

    fn object(kind: &str, data: &Value) -> DynamicObject {
        let mut object = data.clone();
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        object["metadata"] = json!({
            "name": "p-migrate-1", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn the_status_of_a_job_tells_whether_it_had_a_pod() {
        let failed = json!([{
            "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "late",
        }]);
        let late = |had_pods| Migration::Failed { why: "late".to_owned(), had_pods };
        let since = "2026-01-01T00:00:00Z".parse().ok();
        let running = |had_pods| Migration::Running { since, had_pods };
        for (status, expected) in [
            (Value::Null, running(false)),
            (json!({"active": 1}), running(true)),
            (json!({"active": 0, "failed": 1}), running(true)),
            (json!({"uncountedTerminatedPods": {"failed": ["uid"]}}), running(true)),
            (json!({"uncountedTerminatedPods": {}, "startTime": "x"}), running(false)),
            (json!({"conditions": failed}), late(false)),
            (json!({"conditions": failed, "failed": 4}), late(true)),
            (
                json!({"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}),
                Migration::Succeeded,
            ),
        ] {
            let job = object("Job", &json!({"status": status}));
            assert_eq!(Migration::read(&job), expected, "{status}");
        }
    }

    #[test]
    fn the_volume_of_the_data_and_a_pause_are_read_from_a_deployment() {
        let read = |paused: Value, volumes: &Value| {
            let spec = json!({
                "replicas": 1, "paused": paused,
                "template": {"spec": {"containers": [{"image": "i"}], "volumes": volumes}},
            });
            let deployment = object("Deployment", &json!({"spec": spec}));
            LiveDeployment::read(&deployment).expect("it has a spec")
        };
        let claim = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "p-data"}}]);
        let on_claim = read(json!(true), &claim);
        assert!(on_claim.is_embedded && on_claim.is_paused);
        assert_eq!(on_claim.data_claim.as_deref(), Some("p-data"));
        let in_pod = read(Value::Null, &json!([{"name": "data", "emptyDir": {}}]));
        assert!(in_pod.is_embedded && !in_pod.is_paused);
        assert_eq!(in_pod.data_claim, None);
        assert!(!read(Value::Null, &json!([])).is_embedded);
    }

    #[test]
    fn a_claim_that_no_controller_has_seen_is_pending() {
        assert_eq!(claim_phase(&object("PersistentVolumeClaim", &json!({}))), "Pending");
        let bound = object("PersistentVolumeClaim", &json!({"status": {"phase": "Bound"}}));
        assert_eq!(claim_phase(&bound), "Bound");
    }
}

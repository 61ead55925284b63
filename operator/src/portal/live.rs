//! The state of a portal's children that decisions depend on, read from the cache.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DeploymentStatus;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{cache::Cache, names};

/// What decisions need to know of a portal's children.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The Deployment of hardware.
    pub hardware: Option<LiveDeployment>,
    /// The Deployment of portal.
    pub portal: Option<LiveDeployment>,
    /// The migration Jobs by name.
    pub jobs: BTreeMap<String, Migration>,
}

impl Live {
    /// Reads it from the children of a portal.
    #[must_use]
    pub fn read(cache: &Cache, namespace: &str, portal: &str) -> Self {
        let deployment = |name: String| {
            let found = cache.get(namespace, portal, "Deployment", &name)?;
            LiveDeployment::read(&found.read())
        };
        let children = cache.of_portal(namespace, portal);
        let jobs = children.iter().filter(|child| child.kind == "Job");
        Self {
            hardware: deployment(names::hardware(portal)),
            portal: deployment(names::portal(portal)),
            jobs: jobs.map(|job| (job.name.clone(), Migration::read(&job.read()))).collect(),
        }
    }
}

/// How a Deployment is.
#[derive(Clone, Debug, Default)]
pub struct LiveDeployment {
    /// Pods that are wanted.
    pub replicas: i32,
    /// Version of its spec.
    pub generation: i64,
    /// What its controller reports.
    pub status: DeploymentStatus,
    /// Image of its first container.
    pub image: String,
    /// Whether its pods keep an embedded database.
    pub is_embedded: bool,
    /// Whether it replaces pods one by one.
    pub rolls: bool,
}

impl LiveDeployment {
    /// Reads one; none if it has no spec.
    #[must_use]
    pub fn read(object: &DynamicObject) -> Option<Self> {
        let at = |path: &str| object.data.pointer(path);
        let volumes = at("/spec/template/spec/volumes").and_then(Value::as_array);
        Some(Self {
            replicas: at("/spec/replicas").and_then(Value::as_i64)?.try_into().ok()?,
            generation: object.metadata.generation.unwrap_or_default(),
            status: parse(at("/status")).unwrap_or_default(),
            image: at("/spec/template/spec/containers/0/image")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            is_embedded: volumes
                .into_iter()
                .flatten()
                .any(|volume| volume["name"] == names::DATA_VOLUME),
            rolls: at("/spec/strategy/type").and_then(Value::as_str) == Some("RollingUpdate"),
        })
    }
}

fn parse<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    value.and_then(|value| serde_json::from_value(value.clone()).ok())
}

/// How far a migration Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Its pods run, or wait to be tried again.
    Running,
    /// The schema is current.
    Succeeded,
    /// It gave up.
    Failed(String),
}

impl Migration {
    /// Reads one.
    #[must_use]
    pub fn read(job: &DynamicObject) -> Self {
        let conditions = job.data.pointer("/status/conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            if condition["status"] != "True" {
                continue;
            }
            match condition["type"].as_str() {
                Some("Complete") => return Self::Succeeded,
                Some("Failed") => {
                    return Self::Failed(
                        condition["message"].as_str().unwrap_or_default().to_owned(),
                    );
                }
                _ => {}
            }
        }
        Self::Running
    }
}

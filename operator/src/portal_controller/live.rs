//! The children as they are, kept up to date by watches, so that looking at them costs no request.

use std::{collections::BTreeMap, sync::Arc};

use crds::HardwarePortal;
use futures::{Stream, StreamExt, future::ready, stream::SelectAll};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount},
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject},
};
use kube_runtime::{
    WatchStreamExt,
    reflector::{ObjectRef, Store, store::Writer},
    watcher,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::warn;

use super::{Guarded, build::labels};

/// Where an operator works: in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// Every namespace.
    Cluster,
}

impl Scope {
    /// The objects of one kind in this scope.
    #[must_use]
    pub fn api(&self, client: &Client, resource: &ApiResource) -> Api<DynamicObject> {
        match self {
            Self::Namespace(name) => Api::namespaced_with(client.clone(), name, resource),
            Self::Cluster => Api::all_with(client.clone(), resource),
        }
    }
}

/// The kinds that are watched and pruned: every kind of child but Secrets, which are read by name, as
/// a watch on them would need the right to list all.
#[must_use]
pub fn watched_kinds() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<Ingress>(&()),
    ]
}

/// Every object of the watched kinds that carries our label, as the watches last saw it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    stores: Vec<(ApiResource, Store<DynamicObject>)>,
}

impl Cache {
    /// Starts the watches. The stream names the portal of each object that moves; it must be polled,
    /// as that is what keeps the cache up to date.
    pub fn watch(
        client: &Client,
        scope: &Scope,
    ) -> (Self, SelectAll<impl Stream<Item = ObjectRef<Guarded>> + Send + 'static>) {
        let selector = watcher::Config::default().labels(labels::MANAGED_SELECTOR);
        let (mut stores, mut moves) = (Vec::new(), SelectAll::new());
        for resource in watched_kinds() {
            let writer = Writer::new(resource.clone());
            stores.push((resource.clone(), writer.as_reader()));
            let touched = watcher(scope.api(client, &resource), selector.clone())
                .default_backoff()
                .modify(|object| {
                    // Larger than the object itself, and nothing here reads them.
                    object.metadata.managed_fields = None;
                })
                .reflect(writer)
                .touched_objects();
            let kind = resource.kind.clone();
            let portals = touched.filter_map(move |touched| {
                ready(match touched {
                    Ok(object) => portal_of(&object),
                    Err(error) => {
                        warn!(kind, %error, "a watch was interrupted and starts again");
                        None
                    }
                })
            });
            moves.push(portals.boxed());
        }
        (Self { stores }, moves)
    }

    /// Waits until every watch has seen what is there. Without that, "not in the cache" does not mean
    /// "does not exist".
    pub async fn wait_until_filled(&self) {
        for (_, store) in &self.stores {
            // Fails only when the watch has ended, which ends the process as well.
            if store.wait_until_ready().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// One object.
    #[must_use]
    pub fn get(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<DynamicObject>> {
        let store = self.stores.iter().find(|(kind, _)| kind.kind == resource.kind);
        let key = ObjectRef::new_with(name, resource.clone()).within(namespace);
        store.and_then(|(_, store)| store.get(&key))
    }

    /// Every object of ours that belongs to the portal with this uid.
    #[must_use]
    pub fn owned_by(&self, namespace: &str, uid: &str) -> Vec<(ApiResource, Arc<DynamicObject>)> {
        let is_owned = |object: &DynamicObject| {
            object.namespace().as_deref() == Some(namespace)
                && object.owner_references().iter().any(|owner| owner.uid == uid)
        };
        let owned = self.stores.iter().flat_map(|(resource, store)| {
            store.state_filter(is_owned).into_iter().map(|object| (resource.clone(), object))
        });
        owned.collect()
    }

    /// What decisions need to know of a portal's children.
    #[must_use]
    pub fn live(&self, namespace: &str, portal: &str) -> Live {
        use super::build::names;
        let deployment = |name: String| {
            let found = self.get(&ApiResource::erase::<Deployment>(&()), namespace, &name)?;
            LiveDeployment::read(&found)
        };
        let jobs = self.stores.iter().find(|(kind, _)| kind.kind == "Job");
        let of_portal = |object: &DynamicObject| {
            object.namespace().as_deref() == Some(namespace)
                && object.labels().get(labels::INSTANCE).map(String::as_str) == Some(portal)
        };
        let jobs = jobs.map(|(_, store)| store.state_filter(of_portal)).unwrap_or_default();
        Live {
            hardware: deployment(names::hardware(portal)),
            portal: deployment(names::portal(portal)),
            jobs: jobs.iter().map(|job| (job.name_any(), Migration::read(job))).collect(),
        }
    }
}

fn portal_of(object: &DynamicObject) -> Option<ObjectRef<Guarded>> {
    let is_portal = |owner: &&OwnerReference| owner.kind == HardwarePortal::kind(&());
    let name = match object.owner_references().iter().find(is_portal) {
        Some(owner) => owner.name.clone(),
        // A retained volume claim has no owner; its label names the portal.
        None => object.labels().get(labels::INSTANCE)?.clone(),
    };
    Some(ObjectRef::new(&name).within(object.metadata.namespace.as_deref()?))
}

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
                .any(|volume| volume["name"] == super::build::names::DATA_VOLUME),
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

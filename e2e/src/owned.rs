//! Everything that belongs to a portal, of whatever kind.

use anyhow::{Result, ensure};
use crds::HardwarePortal;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{Namespace, namespace::SETTLED, wait::eventually};

/// One object with its kind.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Its kind.
    pub resource: ApiResource,
    /// The object as it was when it was listed.
    pub object: DynamicObject,
}

/// `Kind/name`.
impl std::fmt::Display for Owned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.resource.kind, self.object.name_any())
    }
}

/// The kinds that a portal, or what it owns, can own.
#[must_use]
pub fn kinds() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        ApiResource::erase::<Ingress>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<ReplicaSet>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
    ]
}

impl Namespace {
    /// The objects of one kind in this namespace, for kinds that are chosen at run time.
    #[must_use]
    pub fn api_of(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), self.name(), resource)
    }

    /// Every object in the namespace that has an owner.
    pub async fn owned(&self) -> Result<Vec<Owned>> {
        let mut owned = Vec::new();
        for resource in kinds() {
            let all = self.api_of(&resource).list(&ListParams::default()).await?;
            let of_someone = all.into_iter().filter(|one| !one.owner_references().is_empty());
            owned.extend(of_someone.map(|object| Owned { resource: resource.clone(), object }));
        }
        Ok(owned)
    }

    /// Every object in the namespace that names `uid` as its owner.
    pub async fn owned_by(&self, uid: &str) -> Result<Vec<Owned>> {
        let mut owned = self.owned().await?;
        owned.retain(|one| one.object.owner_references().iter().any(|owner| owner.uid == uid));
        Ok(owned)
    }

    /// Takes every finalizer off portals that an interrupted run has left without an operator.
    pub async fn release_portals(&self) -> Result<()> {
        let portals = self.api::<HardwarePortal>();
        for portal in portals.list_metadata(&ListParams::default()).await? {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            portals.patch_metadata(&portal.name_any(), &PatchParams::default(), &patch).await?;
        }
        Ok(())
    }

    /// Deletes all portals at once and waits until nothing in the namespace has an owner.
    pub async fn delete_portals(&self) -> Result<()> {
        let portals = self.api::<HardwarePortal>();
        portals.delete_collection(&DeleteParams::foreground(), &ListParams::default()).await?;
        eventually("the end of all that the portals owned", SETTLED, async || {
            let left = portals.list_metadata(&ListParams::default()).await?.items.len();
            ensure!(left == 0, "{left} portals are left");
            let left: Vec<String> = self.owned().await?.iter().map(ToString::to_string).collect();
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            Ok(())
        })
        .await
    }
}

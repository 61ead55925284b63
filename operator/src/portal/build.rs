//! From a validated portal to its children: pure, no clock, no randomness, no API.

pub mod access;
pub mod autoscaling;
pub mod collector;
pub mod credentials;
pub mod hardware;
pub mod migration;
pub mod network;
pub mod pod;
pub mod portal;
pub mod shutdown;
#[cfg(test)]
pub(super) mod tests;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};

use super::{
    live::Live,
    resolve::{ResolvedPortal, Scaling},
};
use crate::{
    cluster::{labels::Component, names},
    rotation::Credentials,
};

/// Every child that a portal should have now, in the order in which they are applied.
#[derive(Clone, Debug)]
pub struct Children {
    /// Accounts that the pods run as.
    pub service_accounts: Vec<ServiceAccount>,
    /// Credentials and token.
    pub secrets: Vec<Secret>,
    /// The catalog.
    pub config_maps: Vec<ConfigMap>,
    /// The embedded database's volume.
    pub volume_claims: Vec<PersistentVolumeClaim>,
    /// Services of both components.
    pub services: Vec<Service>,
    /// Policies of incoming connections.
    pub network_policies: Vec<NetworkPolicy>,
    /// The Job that migrates this schema with this image.
    pub migration: Option<Job>,
    /// The Deployments that may be written now.
    pub deployments: Vec<Deployment>,
    /// Deployments that wait for the migration: neither written nor removed.
    pub blocked_by_migration: Vec<String>,
    /// By Deployment, who decides the number of its pods.
    pub scaling: Vec<(String, Scaling)>,
    /// Autoscalers.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    /// Disruption budgets.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// The Ingress of the web page.
    pub ingresses: Vec<Ingress>,
}

/// Renders every child. A portal on MySQL comes with the credentials that its pods should hold.
#[must_use]
pub fn build(portal: &ResolvedPortal, credentials: Option<&Credentials>, live: &Live) -> Children {
    let (api, web) = (names::hardware(&portal.name), names::portal(&portal.name));
    let migration = migration::job(portal);
    let is_migrated = !migration::is_outstanding(portal, live);
    let mut deployments = vec![portal::deployment(portal)];
    let mut blocked_by_migration = Vec::new();
    if is_migrated {
        deployments.insert(0, hardware::deployment(portal));
    } else {
        blocked_by_migration.push(api.clone());
    }
    let reporter = names::collector(&portal.name);
    deployments.extend(portal.collector.iter().map(|it| collector::deployment(portal, it)));
    let collector_scaling =
        portal.collector.iter().map(|it| (reporter.clone(), it.workload.scaling.clone()));
    let scaling = [
        (api.clone(), portal.hardware.scaling.clone()),
        (web.clone(), portal.portal.scaling.clone()),
    ];
    let scaling = scaling.into_iter().chain(collector_scaling).collect();
    let workloads =
        [(Component::Hardware, &portal.hardware, &api), (Component::Portal, &portal.portal, &web)];
    let autoscalers = workloads.iter().filter_map(|(component, workload, name)| {
        autoscaling::autoscaler(portal, workload, *component, (*name).clone())
    });
    let budgets = workloads.iter().filter_map(|(component, workload, name)| {
        autoscaling::disruption_budget(portal, workload, *component, (*name).clone())
    });
    Children {
        service_accounts: access::service_accounts(portal),
        secrets: credentials::secrets(portal, credentials),
        config_maps: vec![hardware::config(portal)],
        volume_claims: hardware::volume_claim(portal).into_iter().collect(),
        services: vec![hardware::service(portal), portal::service(portal)],
        network_policies: network::policies(portal),
        migration,
        deployments,
        blocked_by_migration,
        scaling,
        autoscalers: autoscalers.collect(),
        disruption_budgets: budgets.collect(),
        ingresses: portal::ingress(portal).into_iter().collect(),
    }
}

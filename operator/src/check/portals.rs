//! What a portal needs of its surroundings: that its pods and its database can be reached, and that its
//! IngressClass exists. Problems of the portal itself are in its conditions.

use std::time::Duration;

use crds::{Autoscaling, HardwarePortal, Workload};
use futures::{StreamExt, future, stream};
use k8s_openapi::api::{core::v1::Pod, networking::v1::IngressClass};
use kube::{Api, Client, ResourceExt, api::ListParams, core::DeserializeGuard};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::Findings;
use crate::{
    cluster::{Guarded, labels, scope::Scope},
    rotation::{
        place::Place,
        pod_reports::ADMIN_PORT,
        store::{Store, StoreError},
    },
};

/// Pods that are connected to at the same time.
const CONCURRENT_CONNECTS: usize = 16;

/// The portals of all scopes. One that cannot be read as such is a problem of its own.
pub(super) async fn list(
    client: &Client,
    scopes: &[Scope],
    findings: &mut Findings,
) -> Result<Vec<HardwarePortal>, kube::Error> {
    let mut portals = Vec::new();
    for scope in scopes {
        let api: Api<Guarded> = scope.api(client);
        let found = match api.list(&ListParams::default()).await {
            Ok(found) => found.items,
            // A missing CRD or right is a finding of its own.
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404) => {
                findings.unchecked.push(format!("the portals of {scope} could not be read"));
                continue;
            }
            Err(error) => return Err(error),
        };
        for DeserializeGuard(portal) in found {
            match portal {
                Ok(portal) => portals.push(portal),
                Err(invalid) => {
                    let namespace = invalid.metadata.namespace.unwrap_or_default();
                    let name = invalid.metadata.name.unwrap_or_default();
                    let error = invalid.error;
                    findings.problems.push(format!(
                        "{namespace}/{name} is no HardwarePortal that this operator can read ({error}); correct it"
                    ));
                }
            }
        }
    }
    Ok(portals)
}

/// Whether the number of pods of any component follows the load.
pub(super) fn scales_by_itself(portal: &HardwarePortal) -> bool {
    let is_on = |workload: Option<&Workload>| {
        let chosen = workload.and_then(|workload| workload.autoscaling.as_ref());
        chosen.is_none_or(|Autoscaling { disabled, .. }| !disabled)
    };
    let has_mysql = portal.spec.database.as_ref().is_some_and(|database| database.mysql.is_some());
    let page = portal.spec.portal.as_ref().map(|page| &page.workload);
    is_on(page) || has_mysql && is_on(portal.spec.hardware.as_ref())
}

/// How pods and databases are reached from here.
pub(super) struct Reach {
    pub(super) admin_port: u16,
    /// The operator's own namespace, which has the stored states.
    pub(super) own_namespace: String,
    pub(super) patience: Duration,
}

impl Reach {
    /// As seen from this process.
    pub(super) fn new(own_namespace: &str) -> Self {
        let admin_port = u16::try_from(ADMIN_PORT).expect("a port");
        let own_namespace = own_namespace.to_owned();
        Self { admin_port, own_namespace, patience: Duration::from_secs(3) }
    }
}

impl Reach {
    /// Checks one portal.
    pub(super) async fn check_portal(
        &self,
        client: &Client,
        portal: &HardwarePortal,
        findings: &mut Findings,
    ) -> Result<(), kube::Error> {
        let namespace = portal.namespace().unwrap_or_default();
        let what = format!("portal {namespace}/{}", portal.name_any());
        let class = class_problem(client, portal, &what).await;
        findings.note(&format!("{what}: its IngressClass"), class)?;
        let pods = self.pods_problem(client, portal, &namespace, &what).await;
        findings.note(&format!("{what}: its pods"), pods)?;
        let is_on_mysql =
            portal.spec.database.as_ref().is_some_and(|database| database.mysql.is_some());
        if is_on_mysql {
            let database = self.database_problem(client, portal, &what, findings).await;
            findings.note(&format!("{what}: its database"), database)?;
        }
        Ok(())
    }

    /// Rotations ask pods on their admin port, and wait for those that do not answer.
    async fn pods_problem(
        &self,
        client: &Client,
        portal: &HardwarePortal,
        namespace: &str,
        what: &str,
    ) -> Result<Option<String>, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let selector = format!(
            "{}={},app.kubernetes.io/component in (hardware, portal)",
            labels::INSTANCE,
            portal.name_any()
        );
        let pods = pods.list(&ListParams::default().labels(&selector)).await?;
        // Connecting to a pod that does not answer takes the whole patience, so they run concurrently.
        let silent: Vec<String> = stream::iter(&pods)
            .map(|pod| self.find_unreachable(pod))
            .buffered(CONCURRENT_CONNECTS)
            .filter_map(future::ready)
            .collect()
            .await;
        Ok((!silent.is_empty()).then(|| {
            format!(
                "{what}: port {} of {} cannot be reached from here, and a rotation waits for each pod that cannot be asked; run this check in the operator's pod, and look for a NetworkPolicy in {namespace} that is not the operator's",
                self.admin_port,
                silent.join(", ")
            )
        }))
    }

    /// The name of a running pod that takes no connection, and why; none otherwise.
    async fn find_unreachable(&self, pod: &Pod) -> Option<String> {
        let status = pod.status.as_ref()?;
        let is_running =
            status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
        let address = status.pod_ip.as_ref().filter(|_| is_running)?;
        let why = self.connect(address, self.admin_port).await.err()?;
        Some(format!("{} ({why})", pod.name_any()))
    }

    /// The server that the operator used last. If it has not used any, the portal's conditions say why.
    async fn database_problem(
        &self,
        client: &Client,
        portal: &HardwarePortal,
        what: &str,
        findings: &mut Findings,
    ) -> Result<Option<String>, kube::Error> {
        let store = Store::new(client.clone(), &self.own_namespace);
        let record = match store.read(&portal.uid().unwrap_or_default()).await {
            Ok(record) => record,
            Err(StoreError::Api { source, .. }) => return Err(*source),
            Err(error) => return Ok(Some(format!("{what}: {error}"))),
        };
        let Some(Place { host, port, .. }) = record.and_then(|record| record.state.place) else {
            findings.unchecked.push(format!(
                "{what}: its database could not be checked, as no source has said yet where it is; its condition CredentialsReady says why"
            ));
            return Ok(None);
        };
        Ok(self.connect(&host, port).await.err().map(|why| {
            format!(
                "{what}: its database {host}:{port} cannot be reached from here ({why}); look at the server, its firewall or security group, and the cluster's DNS"
            )
        }))
    }

    async fn connect(&self, host: &str, port: u16) -> Result<(), String> {
        let attempt = async {
            let addresses =
                lookup_host((host, port)).await.map_err(|error| format!("no address: {error}"))?;
            let addresses: Vec<_> = addresses.collect();
            let mut last = "no address".to_owned();
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(last)
        };
        let late = format!("no answer within {} s", self.patience.as_secs());
        timeout(self.patience, attempt).await.unwrap_or(Err(late))
    }
}

async fn class_problem(
    client: &Client,
    portal: &HardwarePortal,
    what: &str,
) -> Result<Option<String>, kube::Error> {
    let ingress = portal.spec.portal.as_ref().and_then(|page| page.ingress.as_ref());
    let Some(ingress) = ingress else { return Ok(None) };
    let class = ingress.class_name.as_deref().or(ingress.alb.as_ref().map(|_| "alb"));
    let Some(class) = class else { return Ok(None) };
    let classes: Api<IngressClass> = Api::all(client.clone());
    let found = classes.get_opt(class).await?;
    Ok(found.is_none().then(|| {
        format!(
            "{what}: the IngressClass {class} does not exist, so no controller serves its Ingress; install its controller, or correct portal.ingress.className"
        )
    }))
}

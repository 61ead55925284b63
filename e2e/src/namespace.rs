//! One namespace of the real cluster, in which the operator may work.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::HardwarePortal;
use k8s_openapi::{
    api::core::v1::{Pod, Secret, Service},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{audit, program::run_in_shell, setting, wait::eventually};

/// Long enough for images that are already on the node, a migration and two rollouts on a busy
/// two-core machine.
pub const SETTLED: Duration = Duration::from_mins(3);

/// A namespace that `make e2e` has given to the operator and set to the *restricted* Pod Security
/// standard.
#[derive(Clone)]
pub struct Namespace {
    client: Client,
    name: String,
}

impl Namespace {
    /// Opens the namespace and removes what an earlier, interrupted run left in it.
    pub async fn open(name: &str) -> Result<Self> {
        let namespace = Self::keep(name).await?;
        for portal in namespace.portals().list_metadata(&ListParams::default()).await? {
            namespace.delete_portal(&portal.name_any()).await?;
        }
        Ok(namespace)
    }

    /// Opens the namespace with whatever is in it.
    pub async fn keep(name: &str) -> Result<Self> {
        Ok(Self { client: connect().await?, name: name.to_owned() })
    }

    /// Opens a namespace that the installed operator leaves alone, with an operator's rights in it, and
    /// removes what an earlier run left. It is made if it is missing.
    pub async fn open_without_operator(name: &str) -> Result<Self> {
        let role = "../deploy/manifests/watched-namespace.yaml";
        let script = format!(
            "kubectl create namespace {name} --dry-run=client --output yaml | kubectl apply --server-side --filename - &&
             kubectl --namespace {name} apply --server-side --force-conflicts --filename {role}"
        );
        run_in_shell(&script)?;
        let namespace = Self::keep(name).await?;
        namespace.release_portals().await?;
        namespace.delete_portals().await?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client with the cluster administrator's rights.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of one kind in this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType: Default>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Portals of whatever content, as one that cannot be read has to be deleted as well.
    fn portals(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<HardwarePortal>(&());
        Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    /// A portal as the API server stores it, with fields that this version of the types does not know.
    pub async fn stored_portal(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.portals().get(name).await?)?)
    }

    /// Applies a portal by server-side apply, as `kubectl apply --server-side` does.
    pub async fn apply_portal(&self, name: &str, spec: Value) -> Result<HardwarePortal> {
        self.apply_annotated_portal(name, json!({}), spec).await
    }

    /// Applies a portal with annotations.
    pub async fn apply_annotated_portal(
        &self,
        name: &str,
        annotations: Value,
        spec: Value,
    ) -> Result<HardwarePortal> {
        let portal = json!({
            "apiVersion": "gill-hicks.dev/v1alpha1",
            "kind": "HardwarePortal",
            "metadata": {"name": name, "annotations": annotations},
            "spec": spec,
        });
        let parameters = PatchParams::apply("e2e").force();
        let applied = self.api().patch(name, &parameters, &Patch::Apply(portal)).await;
        applied.with_context(|| format!("failed to apply portal {name}"))
    }

    /// Writes a Secret with string values.
    pub async fn apply_secret(&self, name: &str, labels: Value, data: Value) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": labels},
            "stringData": data,
        });
        let parameters = PatchParams::apply("e2e").force();
        self.api::<Secret>().patch(name, &parameters, &Patch::Apply(secret)).await?;
        Ok(())
    }

    /// Waits until the operator has seen the portal's latest spec and calls it Ready.
    pub async fn wait_until_ready(&self, name: &str) -> Result<HardwarePortal> {
        eventually(&format!("portal {name} Ready"), SETTLED, async || {
            let portal: HardwarePortal = self.api().get(name).await?;
            expect_condition(&portal, "Ready", "True")?;
            Ok(portal)
        })
        .await
    }

    /// Waits until the portal's latest spec, which asks for no pods, is applied.
    pub async fn wait_until_scaled_to_zero(&self, name: &str) -> Result<HardwarePortal> {
        eventually(&format!("portal {name} scaled to zero"), SETTLED, async || {
            let portal: HardwarePortal = self.api().get(name).await?;
            expect_scaled_to_zero(&portal)?;
            Ok(portal)
        })
        .await
    }

    /// Waits until a condition of the portal's latest spec has a status.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
    ) -> Result<Condition> {
        eventually(&format!("{kind}={status} of portal {name}"), SETTLED, async || {
            let portal: HardwarePortal = self.api().get(name).await?;
            expect_condition(&portal, kind, status)
        })
        .await
    }

    /// Deletes a portal and waits until everything it owned is gone.
    pub async fn delete_portal(&self, name: &str) -> Result<()> {
        let portals = self.portals();
        let Some(portal) = portals.get_metadata_opt(name).await? else { return Ok(()) };
        let uid = portal.uid().context("a stored object has a uid")?;
        portals.delete(name, &DeleteParams::foreground()).await?;
        eventually(&format!("the end of all that portal {name} owned"), SETTLED, async || {
            ensure!(portals.get_metadata_opt(name).await?.is_none(), "the portal is still there");
            let left = self.objects_owned_by(&uid).await?;
            ensure!(left.is_empty(), "left: {}", left.join(", "));
            let selector =
                ListParams::default().labels(&format!("app.kubernetes.io/instance={name}"));
            let pods = self.api::<Pod>().list(&selector).await?.items;
            ensure!(pods.is_empty(), "{} pods are left", pods.len());
            Ok(())
        })
        .await
    }

    /// Every object in the namespace that names `uid` as its owner, as "Kind/name".
    pub async fn objects_owned_by(&self, uid: &str) -> Result<Vec<String>> {
        Ok(self.owned_by(uid).await?.iter().map(ToString::to_string).collect())
    }

    /// The address of a Service from this host, which has a route to the cluster's networks.
    pub async fn url(&self, service: &str) -> Result<String> {
        let service: Service = self.api().get(service).await?;
        let spec = service.spec.context("a Service has a spec")?;
        let port = spec.ports.iter().flatten().next().context("a Service has a port")?.port;
        Ok(format!("http://{}:{port}", spec.cluster_ip.context("a Service has an address")?))
    }

    /// The pods of one component.
    pub async fn pods(&self, portal: &str, component: &str) -> Result<Vec<Pod>> {
        let selector = ListParams::default().labels(&format!(
            "app.kubernetes.io/instance={portal},app.kubernetes.io/component={component}"
        ));
        Ok(self.api::<Pod>().list(&selector).await?.items)
    }

    /// The pods of one component that are not on their way out.
    pub async fn running_pods(&self, portal: &str, component: &str) -> Result<Vec<Pod>> {
        let pods = self.pods(portal, component).await?;
        Ok(pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// Names and restart counts of a portal's hardware pods: equal before and after means that no
    /// pod was replaced or restarted in between.
    pub async fn hardware_restarts(&self, portal: &str) -> Result<Vec<(String, i32)>> {
        let pods = self.running_pods(portal, "hardware").await?;
        let restarts = |pod: &Pod| {
            let containers = pod.status.iter().flat_map(|status| &status.container_statuses);
            containers.flatten().map(|container| container.restart_count).sum()
        };
        Ok(pods.iter().map(|pod| (pod.name_any(), restarts(pod))).collect())
    }

    /// Reads `GET /hardware/` of a portal as (provider, name, availability).
    pub async fn hardware_rows(&self, portal: &str) -> Result<Vec<(String, String, String)>> {
        let url = format!("{}/hardware/", self.url(&format!("{portal}-hardware")).await?);
        let answer = reqwest::get(&url).await?.error_for_status()?;
        let rows: Vec<hardware_api::Hardware> = answer.json().await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.provider, row.name, row.availability.to_string()))
            .collect())
    }

    /// The token that observations of a portal are posted with.
    pub async fn observations_token(&self, portal: &str) -> Result<String> {
        let secret: Secret = self.api().get(&format!("{portal}-observations")).await?;
        let token = secret.data.and_then(|mut data| data.remove("token"));
        Ok(String::from_utf8(token.context("the Secret has a token")?.0)?)
    }

    /// Asks for a rotation of a portal's credential now, as a person would.
    pub async fn ask_for_rotation(&self, portal: &str) -> Result<()> {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {"gill-hicks.dev/rotate-at": now}}});
        let portals = self.api::<HardwarePortal>();
        portals.patch(portal, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Reports counts for one pool through `POST /v1/observations`, with the portal's own token.
    pub async fn observe(&self, portal: &str, body: &Value) -> Result<()> {
        let token = self.observations_token(portal).await?;
        let url = format!("{}/v1/observations", self.url(&format!("{portal}-hardware")).await?);
        let answer = reqwest::Client::new().post(&url).bearer_auth(token).json(body).send().await?;
        let status = answer.status();
        ensure!(status == 200, "{url} answered {status}: {}", answer.text().await?);
        Ok(())
    }
}

/// Connects with the kubeconfig that `KUBECONFIG` names.
pub async fn connect() -> Result<Client> {
    Ok(Client::try_from(configuration().await?)?)
}

/// Connects like this, but gives each answer as it is: the client otherwise asks again after a 429.
pub async fn connect_without_retries() -> Result<Client> {
    let mut config = configuration().await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// The configuration that the tests connect with, acting as the operator's ServiceAccount.
pub async fn configuration_of_operator() -> Result<Config> {
    let mut config = configuration().await?;
    config.auth_info.impersonate = Some(audit::OPERATOR.to_owned());
    Ok(config)
}

/// The cluster that `KUBECONFIG` names, with the rights of its administrator.
async fn configuration() -> Result<Config> {
    // Fails only if a provider is installed already, by another test of this process.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
    let kubeconfig = Kubeconfig::read_from(setting("KUBECONFIG")?)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// Whether a pod is ready, and not on its way out.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    pod.metadata.deletion_timestamp.is_none()
        && conditions.flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// The condition of the portal's latest spec, if it has the status.
pub fn expect_condition(portal: &HardwarePortal, kind: &str, status: &str) -> Result<Condition> {
    let conditions = portal.status.as_ref().map(|status| &status.conditions);
    let Some(found) = conditions.into_iter().flatten().find(|one| one.type_ == kind) else {
        bail!("there is no condition {kind} yet");
    };
    ensure!(
        found.observed_generation == portal.metadata.generation && found.status == status,
        "{kind} is {} for generation {:?} of {:?} ({}: {})",
        found.status,
        found.observed_generation,
        portal.metadata.generation,
        found.reason,
        found.message
    );
    Ok(found.clone())
}

/// The condition Ready of a portal whose latest spec asks for no pods, if nothing else is in the way.
pub fn expect_scaled_to_zero(portal: &HardwarePortal) -> Result<Condition> {
    let ready = expect_condition(portal, "Ready", "False")?;
    ensure!(ready.reason == "ScaledToZero", "it is {}: {}", ready.reason, ready.message);
    expect_condition(portal, "Reconciling", "False")?;
    expect_condition(portal, "Stalled", "False")?;
    Ok(ready)
}

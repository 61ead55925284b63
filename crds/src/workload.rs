//! How the pods of one component run.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        autoscaling::v2::HorizontalPodAutoscalerBehavior,
        core::v1::{Affinity, EnvVar, LocalObjectReference, Toleration, TopologySpreadConstraint},
        networking::v1::NetworkPolicyPeer,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How the pods of one component run.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Image to run. Default: the one that belongs to the operator's version. At most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,

    /// When to pull the image. Default: the operator's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets in this namespace to pull the image with. At most 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,

    /// CPU and memory of one pod. Default: requests of 100m and 100Mi, limits of 1 and 300Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// A fixed number of pods; needs autoscaling: {disabled: true}, except for hardware on the
    /// embedded database, where it is 0 or 1. Default: keep what runs, 2 at
    /// first (1 for hardware on the embedded database).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,

    /// Number of pods by CPU use. Default: on, with the values below; off for hardware on the
    /// embedded database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// Which nodes the pods prefer or need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,

    /// How many pods a node drain may end at the same time. Default: 1; no budget where only one
    /// pod can run, as it would block drains for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<DisruptionBudget>,

    /// Who may connect, as NetworkPolicy peers; an empty list means nobody. The portal always reaches
    /// hardware. Default: anybody to the portal; this namespace to hardware. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::network_peers")]
    pub allow_from: Option<Vec<NetworkPolicyPeer>>,

    /// More environment variables for the container. Names that the operator sets itself are
    /// refused. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::environment")]
    #[x_kube(validation = Rule::new("self.all(variable, !['MYSQL_', 'SQLITE_', 'CATALOG_', 'OBSERVATIONS_', 'HARDWARE_', 'PORTAL_', 'ADMIN_'].exists(prefix, variable.name.startsWith(prefix)) && !(variable.name in ['DRAIN_DELAY', 'SHUTDOWN_DEADLINE', 'SOURCE_TOKENS_FILE', 'WATCHES_FILE']))").message("extraEnv: the operator sets MYSQL_*, SQLITE_*, CATALOG_*, OBSERVATIONS_*, HARDWARE_*, PORTAL_*, ADMIN_*, DRAIN_DELAY, SHUTDOWN_DEADLINE, SOURCE_TOKENS_FILE and WATCHES_FILE itself; remove them"))]
    pub extra_env: Option<Vec<EnvVar>>,

    /// Annotations for the pods. Those of gill-hicks.dev/ are the operator's. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('gill-hicks.dev/'))").message("podAnnotations: annotations of gill-hicks.dev/ are set by the operator; remove them"))]
    pub pod_annotations: Option<BTreeMap<String, String>>,

    /// Labels for the pods. Those of app.kubernetes.io/ and gill-hicks.dev/ are the operator's. At
    /// most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('gill-hicks.dev/'))").message("podLabels: labels of app.kubernetes.io/ and gill-hicks.dev/ are set by the operator; choose another prefix"))]
    pub pod_labels: Option<BTreeMap<String, String>>,
}

/// When to pull an image.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The value as a pod's spec has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// CPU and memory of one pod.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Resources {
    /// What a node must have free for the pod, such as {cpu: 100m, memory: 100Mi}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What the pod may use at most, such as {cpu: 1, memory: 300Mi}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// Number of pods by CPU use.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("autoscaling: minReplicas must not exceed maxReplicas")
)]
pub struct Autoscaling {
    /// Turns autoscaling off: the number of pods stays as it is, or becomes `replicas`. Default:
    /// false.
    #[serde(default)]
    pub disabled: bool,
    /// Fewest pods. Default: 2.
    #[serde(default = "Autoscaling::default_min")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// Most pods. Default: 10.
    #[serde(default = "Autoscaling::default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// CPU use to aim for, in percent of the requested CPU. Default: 70.
    #[serde(default = "Autoscaling::default_cpu")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_utilization: i32,
    /// How fast to scale, as in a HorizontalPodAutoscaler. Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}

impl Autoscaling {
    fn default_min() -> i32 {
        2
    }
    fn default_max() -> i32 {
        10
    }
    fn default_cpu() -> i32 {
        70
    }
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self {
            disabled: false,
            min_replicas: Self::default_min(),
            max_replicas: Self::default_max(),
            cpu_utilization: Self::default_cpu(),
            behavior: None,
        }
    }
}

/// Which nodes the pods prefer or need.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints that the pods tolerate. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tolerations: Option<Vec<Toleration>>,
    /// Affinity as in a pod's spec. The preference for spot nodes is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread. Default: over zones and over hosts, as far as that is possible. At most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread: Option<Vec<TopologySpreadConstraint>>,
    /// Whether to run on spot capacity, which is cheaper and can be taken away. A preference, never
    /// a condition: pods run elsewhere when there is none. Default: Ignore.
    #[serde(default)]
    pub spot: Spot,
}

/// Whether to run on spot capacity.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Spot {
    /// Rather on spot nodes.
    Prefer,
    /// Rather not on spot nodes.
    Avoid,
    /// No preference.
    #[default]
    Ignore,
}

/// How many pods a node drain may end at the same time.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// Pods that may be missing at the same time. Default: 1.
    #[serde(default = "DisruptionBudget::default_max_unavailable")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: i32,
}

impl DisruptionBudget {
    fn default_max_unavailable() -> i32 {
        1
    }
}

impl Default for DisruptionBudget {
    fn default() -> Self {
        Self { max_unavailable: Self::default_max_unavailable() }
    }
}

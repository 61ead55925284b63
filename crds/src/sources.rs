//! Sources that the operator runs, and the program that runs them: the collector.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{EnvVar, LocalObjectReference, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::{self, SOURCE_NAME},
    workload::{ImagePullPolicy, Resources, Scheduling},
};

/// A source that the operator runs for this portal: exactly one kind, under a name.
//
// A further kind is a further member. It joins the rule below, the rule about names in `portal.rs`, and
// `SourceKind`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[x_kube(
    validation = Rule::new("[has(self.kubernetes), has(self.karpenter), has(self.ec2), has(self.ovh), has(self.prometheus)].filter(chosen, chosen).size() == 1").message("sources: say in each entry where the reports come from, with exactly one of kubernetes: {}, karpenter: {}, ec2: {region: …}, ovh: {} and prometheus: {url: …, pools: […]}")
)]
pub struct CollectedSource {
    /// Its name, as GET /v1/sources shows it: at most 63 characters of a-z, 0-9 and -. Default: the word
    /// of its kind, such as kubernetes. Two sources of a portal cannot have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = SOURCE_NAME))]
    pub name: Option<String>,

    /// The nodes and pods of this cluster. It needs rights that the operator does not have: until an
    /// administrator binds the ClusterRole gill-hicks-collector to the collector's ServiceAccount, its
    /// pools are UNKNOWN and the condition SourcesReporting prints the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSource>,

    /// What Karpenter asks the cloud for in this cluster, and what comes of it. It needs the same
    /// ClusterRole as kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub karpenter: Option<KarpenterSource>,

    /// A region of Amazon EC2: what the account has reserved there, and what is not offered. The pod needs
    /// an identity in AWS, by collector.serviceAccountAnnotations or a Pod Identity association.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ec2: Option<Ec2Source>,

    /// Dedicated servers of OVHcloud, as its public API lists them: the pod asks it over the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovh: Option<OvhSource>,

    /// Two expressions of PromQL for each pool, or each group of them: units that there are, and units taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSource>,
}

impl CollectedSource {
    /// Its kind; none for an object that the rules of the CRD do not admit.
    #[must_use]
    pub fn kind(&self) -> Option<SourceKind> {
        let Self { name: _, kubernetes, karpenter, ec2, ovh, prometheus } = self;
        let kinds = [
            (kubernetes.is_some(), SourceKind::Kubernetes),
            (karpenter.is_some(), SourceKind::Karpenter),
            (ec2.is_some(), SourceKind::Ec2),
            (ovh.is_some(), SourceKind::Ovh),
            (prometheus.is_some(), SourceKind::Prometheus),
        ];
        kinds.into_iter().find_map(|(is_chosen, kind)| is_chosen.then_some(kind))
    }

    /// The name that was chosen, or that of its kind.
    #[must_use]
    pub fn resolved_name(&self) -> Option<&str> {
        self.name.as_deref().or_else(|| self.kind().map(SourceKind::default_name))
    }
}

/// Where the reports of a source come from.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum SourceKind {
    /// The nodes and pods of the portal's own cluster.
    Kubernetes,
    /// The requests of Karpenter in the portal's own cluster.
    Karpenter,
    /// A region of Amazon EC2.
    Ec2,
    /// The public list of OVHcloud.
    Ovh,
    /// A server that answers PromQL.
    Prometheus,
}

impl SourceKind {
    /// The name of a source of this kind that was given none: the word of the spec's member.
    #[must_use]
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Karpenter => "karpenter",
            Self::Ec2 => "ec2",
            Self::Ovh => "ovh",
            Self::Prometheus => "prometheus",
        }
    }

    /// Whether a source of this kind asks the API server of the portal's cluster.
    #[must_use]
    pub fn needs_kubernetes_api(self) -> bool {
        match self {
            Self::Kubernetes | Self::Karpenter => true,
            Self::Ec2 | Self::Ovh | Self::Prometheus => false,
        }
    }
}

/// The nodes and pods of this cluster. What the nodes have and the pods do not request is counted in slots.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesSource {
    /// What one unit of a node's CPU and memory is. Default: 1 CPU and 2Gi of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,

    /// Name of the provider of all nodes, as the list shows it, such as Lab. Default: what each node's
    /// spec.providerID says, such as aws. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub provider: Option<String>,

    /// Labels that a node must have to be counted. Default: every node is. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints that those who ask for hardware tolerate, as in a pod's spec. A node with another taint of
    /// effect NoSchedule or NoExecute is not counted. Default: none. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tolerations: Option<Vec<Toleration>>,
}

/// What one unit is.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Slot {
    /// CPU of one slot, as a Kubernetes quantity of CPUs. Default: 1.
    #[serde(default = "Slot::default_cpu")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("sources.kubernetes.slot.cpu: write an amount above 0, such as 500m or 2"))]
    pub cpu: Quantity,
    /// Memory of one slot, as a Kubernetes quantity of bytes. Default: 2Gi.
    #[serde(default = "Slot::default_memory")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("sources.kubernetes.slot.memory: write an amount above 0, such as 512Mi or 4Gi"))]
    pub memory: Quantity,
}

impl Slot {
    fn default_cpu() -> Quantity {
        Quantity("1".to_owned())
    }
    fn default_memory() -> Quantity {
        Quantity("2Gi".to_owned())
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self { cpu: Self::default_cpu(), memory: Self::default_memory() }
    }
}

/// What Karpenter asks the cloud for, and what comes of it.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KarpenterSource {
    /// Labels of the NodeClaims that are followed, such as karpenter.sh/nodepool: gpu. Default: every
    /// NodeClaim is. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Address of Karpenter's metrics, such as http://karpenter.kube-system:8080/metrics. The AWS provider
    /// says there which offerings it takes for available. Default: only NodeClaims are followed. At most
    /// 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@[:space:]]+/[^?#@[:space:]]+$')").message("sources.karpenter.metricsUrl: write the whole address without a login and a query, such as http://karpenter.kube-system:8080/metrics"))]
    pub metrics_url: Option<String>,
}

/// A region of Amazon EC2, as the account of the collector's role sees it.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ec2Source {
    /// The region, such as eu-west-1. 1 to 32 characters.
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[a-z]+(-[a-z0-9]+)+$"))]
    pub region: String,

    /// Instance types that are reported, such as p5.48xlarge. Default: every type that is reserved; what is
    /// not offered is reported of types that are named only. At most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 200),
        inner(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+[.][a-z0-9-]+$"))
    )]
    pub instance_types: Option<Vec<String>>,

    /// Address of the API, such as that of a VPC endpoint: https://HOST. Default: AWS's own for the region.
    /// At most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@[:space:]]+$')").message("sources.ec2.endpoint: write https://HOST, without a login, a path and a query"))]
    pub endpoint: Option<String>,
}

/// Dedicated servers of OVHcloud: in which datacenters one is delivered within the hour.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct OvhSource {
    /// Address of the list. Default: https://eu.api.ovh.com/v1/dedicated/server/datacenter/availabilities. At
    /// most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@[:space:]]+/[^?#@[:space:]]+$')").message("sources.ovh.url: write the whole address without a login and a query, such as https://ca.api.ovh.com/v1/dedicated/server/datacenter/availabilities"))]
    pub url: Option<String>,

    /// Datacenters that are reported, such as gra. Default: all. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub datacenters: Option<Vec<String>>,

    /// Servers that are reported, such as 24rise01. Default: all. At most 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 64)))]
    pub servers: Option<Vec<String>>,
}

/// A server that answers PromQL over the HTTP API of Prometheus.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct PrometheusSource {
    /// Its base address, such as http://prometheus.monitoring:9090. It is asked without a login, and
    /// redirects are not followed. At most 500 characters.
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@[:space:]]+(/[^?#@[:space:]]*)?$')").message("sources.prometheus.url: write http://HOST:PORT or https://HOST, without a login and a query"))]
    pub url: String,

    /// How often it is asked, from 5s to 24h. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(s|m|h))+$') && duration(self) >= duration('5s') && duration(self) <= duration('24h')").message("sources.prometheus.interval: write a time from 5s to 24h, such as 1m"))]
    pub interval: Option<String>,

    /// What it is asked. 1 to 32 entries.
    #[schemars(length(min = 1, max = 32))]
    pub pools: Vec<PrometheusPools>,
}

/// Two expressions, and how the pools are called that they give. In the names, {label} is a label of the
/// series; series of both expressions that give the same names are one pool.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusPools {
    /// PromQL that gives the units that there are, such as sum by (partition) (slurm_nodes_total).
    #[schemars(length(min = 1, max = 2000))]
    pub total: String,
    /// PromQL that gives the units that are taken.
    #[schemars(length(min = 1, max = 2000))]
    pub in_use: String,
    /// Who offers them, such as Slurm. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub provider: String,
    /// What they are called, such as {partition}. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Their region. Default: none. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// Their zone. Default: none. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub zone: Option<String>,
    /// How they are to be had. Default: owned. 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub tier: Option<String>,
    /// What is counted, such as node. Default: unit. 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub unit: Option<String>,
}

/// How the one pod runs that reports for all of `sources`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Collector {
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

    /// CPU and memory of the pod. Default: requests of 50m and 64Mi, limits of 500m and 128Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Which nodes the pod prefers or needs. It is one pod, so that it is not spread by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,

    /// More environment variables for the container. Names that the operator sets itself are
    /// refused. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::environment")]
    #[x_kube(validation = Rule::new("self.all(variable, !['HARDWARE_', 'ADMIN_'].exists(prefix, variable.name.startsWith(prefix)) && !(variable.name in ['SOURCES', 'SOURCE_TOKENS_FOLDER', 'DRAIN_DELAY', 'SHUTDOWN_DEADLINE']))").message("collector.extraEnv: the operator sets HARDWARE_*, ADMIN_*, SOURCES, SOURCE_TOKENS_FOLDER, DRAIN_DELAY and SHUTDOWN_DEADLINE itself; remove them"))]
    pub extra_env: Option<Vec<EnvVar>>,

    /// Annotations for the pod. Those of gill-hicks.dev/ are the operator's. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('gill-hicks.dev/'))").message("collector.podAnnotations: annotations of gill-hicks.dev/ are set by the operator; remove them"))]
    pub pod_annotations: Option<BTreeMap<String, String>>,

    /// Labels for the pod. Those of app.kubernetes.io/ and gill-hicks.dev/ are the operator's. At
    /// most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('gill-hicks.dev/'))").message("collector.podLabels: labels of app.kubernetes.io/ and gill-hicks.dev/ are set by the operator; choose another prefix"))]
    pub pod_labels: Option<BTreeMap<String, String>>,

    /// Annotations for the pod's ServiceAccount NAME-collector, by which a cloud gives it an identity,
    /// such as eks.amazonaws.com/role-arn. Those of gill-hicks.dev/ are the operator's. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('gill-hicks.dev/'))").message("collector.serviceAccountAnnotations: annotations of gill-hicks.dev/ are set by the operator; remove them"))]
    pub service_account_annotations: Option<BTreeMap<String, String>>,
}

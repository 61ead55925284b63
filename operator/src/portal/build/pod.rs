//! What the pods of all components have in common.

use std::{collections::BTreeMap, time::Duration};

use crds::Spot;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, KeyToPath,
            Lifecycle, LifecycleHandler, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm,
            PodSecurityContext, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe,
            SeccompProfile, SecretVolumeSource, SecurityContext, SleepAction,
            TopologySpreadConstraint, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ObjectMeta;

use super::shutdown;
pub use crate::rotation::pod_reports::ADMIN_PORT;
use crate::{
    cluster::labels::{self, Component},
    portal::{
        resolve::{ResolvedPortal, ResolvedWorkload},
        stored::as_stored,
    },
};

/// The unprivileged user of the images.
const USER: i64 = 65532;
/// How long a new pod must be ready before it counts as available, so that a crash soon after the start
/// stops a rollout.
const MIN_READY_SECONDS: i32 = 3;

/// What distinguishes one component's pods from another's.
#[derive(Debug)]
pub struct Parts {
    /// Which component.
    pub component: Component,
    /// Name of Deployment and ServiceAccount.
    pub name: String,
    /// Port that users are served on; none for a component that serves nobody.
    pub port: Option<i32>,
    /// Environment that the operator sets.
    pub env: Vec<EnvVar>,
    /// Volumes of the pod.
    pub volumes: Vec<Volume>,
    /// Where the volumes are in the container.
    pub mounts: Vec<VolumeMount>,
    /// Whether pods are replaced one by one; otherwise the old one ends before the new one starts.
    pub rolls: bool,
    /// Whether the token of its ServiceAccount is mounted, with which it asks the Kubernetes API.
    pub has_kubernetes_token: bool,
}

/// The Deployment of a component. It never names `spec.replicas`, which belongs to the autoscaler or
/// to the second field manager.
#[must_use]
pub fn deployment(
    portal: &ResolvedPortal,
    workload: &ResolvedWorkload,
    parts: Parts,
) -> Deployment {
    let strategy = if parts.rolls {
        DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::String("25%".to_owned())),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        }
    } else {
        DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
    };
    Deployment {
        metadata: labels::owned(portal, parts.component, parts.name.clone()),
        spec: Some(DeploymentSpec {
            min_ready_seconds: Some(MIN_READY_SECONDS),
            selector: labels::selector(portal, parts.component),
            strategy: Some(strategy),
            template: template(portal, workload, parts),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn template(portal: &ResolvedPortal, workload: &ResolvedWorkload, parts: Parts) -> PodTemplateSpec {
    let mut pod_labels = workload.spec.pod_labels.clone().unwrap_or_default();
    pod_labels.extend(labels::selecting(&portal.name, parts.component));
    let annotations = workload.spec.pod_annotations.clone().filter(|all| !all.is_empty());
    let topology_spread = spread(portal, workload, parts.component);
    let is_served = parts.port.is_some();
    let users_port = parts.port.map(|number| port("http", number));
    let mut env = parts.env;
    // Nobody sends requests to a pod that serves nobody, so there is nothing that it would have to wait for.
    let drain_delay = if is_served { shutdown::DRAIN_DELAY } else { Duration::ZERO };
    env.push(variable("DRAIN_DELAY", &seconds(drain_delay)));
    env.push(variable("SHUTDOWN_DEADLINE", &seconds(shutdown::DEADLINE)));
    env.extend(as_stored(workload.spec.extra_env.clone().unwrap_or_default()));
    let container = Container {
        name: parts.component.as_str().to_owned(),
        image: Some(workload.image.clone()),
        image_pull_policy: workload.pull_policy.clone(),
        args: Some(vec!["serve".to_owned()]),
        env: Some(env),
        ports: Some(users_port.into_iter().chain([port("admin", ADMIN_PORT)]).collect()),
        // A start may wait for a slow disk. After the start, a hang is noticed within half a minute.
        startup_probe: Some(probe("/livez", 1, 60)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        lifecycle: is_served.then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: whole_seconds(shutdown::PRE_STOP) }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(workload.resources.clone()),
        security_context: Some(confined()),
        volume_mounts: some(parts.mounts),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations,
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            topology_spread_constraints: topology_spread,
            automount_service_account_token: Some(parts.has_kubernetes_token),
            ..pod(workload, parts.name, container, parts.volumes)
        }),
    }
}

/// A pod of a workload, that the *restricted* Pod Security standard admits.
#[must_use]
pub fn pod(
    workload: &ResolvedWorkload,
    service_account: String,
    container: Container,
    volumes: Vec<Volume>,
) -> PodSpec {
    let scheduling = workload.spec.scheduling.clone().unwrap_or_default();
    PodSpec {
        node_selector: scheduling.node_selector.filter(|all| !all.is_empty()),
        tolerations: scheduling.tolerations.map(as_stored).and_then(some),
        affinity: affinity(scheduling.affinity.map(as_stored), scheduling.spot),
        image_pull_secrets: workload.spec.image_pull_secrets.clone().and_then(some),
        service_account_name: Some(service_account),
        automount_service_account_token: Some(false),
        // The services read no variables about other Services of the namespace.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(shutdown::grace_period()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: some(volumes),
        ..PodSpec::default()
    }
}

/// A container without any privilege.
#[must_use]
pub fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// An environment variable with a value.
#[must_use]
pub fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

/// None for an empty list: the API server stores no empty lists, so a rendered one would differ in every
/// pass.
#[must_use]
pub fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// The user's constraints; by default, over zones and over hosts as far as possible, except for the one pod
/// of the collector.
fn spread(
    portal: &ResolvedPortal,
    workload: &ResolvedWorkload,
    component: Component,
) -> Option<Vec<TopologySpreadConstraint>> {
    let scheduling = workload.spec.scheduling.as_ref();
    if let Some(chosen) = scheduling.and_then(|scheduling| scheduling.topology_spread.clone()) {
        return some(as_stored(chosen));
    }
    if component == Component::Collector {
        return None;
    }
    let over = |topology_key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(labels::selector(portal, component)),
        ..TopologySpreadConstraint::default()
    };
    Some(vec![over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")])
}

/// Adds the preference about spot nodes, one term per label that is in use. It is not a requirement, which
/// would leave pods Pending while there is no spot capacity.
fn affinity(chosen: Option<Affinity>, spot: Spot) -> Option<Affinity> {
    let operator = match spot {
        Spot::Prefer => "In",
        Spot::Avoid => "NotIn",
        Spot::Ignore => return chosen,
    };
    // EKS managed node groups write SPOT, Karpenter and Auto Mode write spot.
    let terms =
        [("eks.amazonaws.com/capacityType", "SPOT"), ("karpenter.sh/capacity-type", "spot")];
    let mut affinity = chosen.unwrap_or_default();
    let node = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let preferred =
        node.preferred_during_scheduling_ignored_during_execution.get_or_insert_default();
    preferred.extend(terms.map(|(key, value)| PreferredSchedulingTerm {
        weight: 50,
        preference: NodeSelectorTerm {
            match_expressions: Some(vec![NodeSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(vec![value.to_owned()]),
            }]),
            match_fields: None,
        },
    }));
    Some(affinity)
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).expect("a small constant")
}

/// Environment, volumes and mounts by which a container reads files that may change while it runs. None
/// of them is mounted with `subPath`, as the kubelet does not update such a mount.
#[derive(Debug, Default)]
pub struct Files {
    /// Environment that names the files.
    pub env: Vec<EnvVar>,
    /// Volumes with the files.
    pub volumes: Vec<Volume>,
    /// Where they are mounted.
    pub mounts: Vec<VolumeMount>,
}

impl Files {
    /// Adds a read-only volume at `folder` and a variable with the path of the file in it.
    pub fn add(&mut self, variable_name: &str, volume: Volume, folder: &str, file: &str) {
        self.env.push(variable(variable_name, &format!("{folder}/{file}")));
        self.mount(volume, folder);
    }

    /// Adds a read-only volume at `folder` and a variable with the path of that.
    pub fn add_folder(&mut self, variable_name: &str, volume: Volume, folder: &str) {
        self.env.push(variable(variable_name, folder));
        self.mount(volume, folder);
    }

    fn mount(&mut self, volume: Volume, folder: &str) {
        self.mounts.push(VolumeMount {
            name: volume.name.clone(),
            mount_path: folder.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        self.volumes.push(volume);
    }
}

/// A volume with these keys of a Secret; with all of them if none is named.
#[must_use]
pub fn secret_volume(name: &str, secret: String, items: Vec<KeyToPath>) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: some(items),
            // Readable by the pod's group, which is the container's.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume with all keys of a Secret, which is empty while there is no such Secret.
#[must_use]
pub fn optional_secret_volume(name: &str, secret: String) -> Volume {
    let mut volume = secret_volume(name, secret, Vec::new());
    if let Some(source) = &mut volume.secret {
        source.optional = Some(true);
    }
    volume
}

/// Owned strings of a map literal.
#[must_use]
pub fn strings<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value)))
}

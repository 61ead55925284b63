//! What is known of a cluster's nodes and pods, and the pools that follow from it. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use super::{
    amounts::{Amounts, CPU, MEMORY},
    devices::{DEVICES, Device},
    names,
    quantity::Thousandths,
    requests,
    tolerations::{blocking_taints, tolerates},
};
use crate::{
    sources::places::{REGION_LABELS, ZONE_LABELS, first_label},
    statement::{Pool, Pools, Seen},
};

/// How a cluster is counted.
#[derive(Clone, Debug)]
pub(super) struct Counting {
    /// Cores of one slot.
    pub(super) slot_cpu: Thousandths,
    /// Bytes of one slot.
    pub(super) slot_memory: Thousandths,
    /// The provider's name, instead of the one that nodes name.
    pub(super) provider: Option<String>,
    /// Taints that whoever asks for hardware tolerates.
    pub(super) tolerations: Vec<Toleration>,
}

/// Nodes and pods, each as far as pools depend on it.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    nodes: HashMap<String, NodeSummary>,
    pods: HashMap<String, PodSummary>,
    /// What the pods of a node take together, and how many there are.
    taken: HashMap<Arc<str>, Taken>,
}

#[derive(Debug, PartialEq)]
struct NodeSummary {
    provider: String,
    name: String,
    region: Option<String>,
    zone: Option<String>,
    /// Of each device, the model.
    models: Vec<(&'static Device, String)>,
    allocatable: Amounts,
    is_ready: bool,
    /// Taints that keep pods off it, a cordon among them.
    taints: Vec<Taint>,
}

#[derive(Debug, PartialEq, Eq)]
struct PodSummary {
    node: Arc<str>,
    requests: Amounts,
}

#[derive(Debug, Default)]
struct Taken {
    pods: u32,
    requests: Amounts,
}

impl Cluster {
    /// Takes a node as it is now. Says whether that made a difference.
    pub(super) fn apply_node(&mut self, node: &Node) -> bool {
        let Some(name) = node.metadata.name.clone() else { return false };
        let summary = NodeSummary::of(node);
        let before = self.nodes.get(&name);
        let is_other = before != Some(&summary);
        if is_other {
            self.nodes.insert(name, summary);
        }
        is_other
    }

    /// Forgets a node. Says whether that made a difference.
    pub(super) fn remove_node(&mut self, node: &Node) -> bool {
        node.metadata.name.as_ref().is_some_and(|name| self.nodes.remove(name).is_some())
    }

    /// Forgets all nodes, as they are listed anew.
    pub(super) fn clear_nodes(&mut self) {
        self.nodes.clear();
    }

    /// Takes a pod as it is now. Says whether that made a difference.
    pub(super) fn apply_pod(&mut self, pod: &Pod) -> bool {
        let Some(key) = pod_key(pod) else { return false };
        let summary = self.summarize(pod);
        if self.pods.get(&key) == summary.as_ref() {
            return false;
        }
        let before = match summary {
            Some(summary) => {
                let taken = self.taken.entry(Arc::clone(&summary.node)).or_default();
                taken.pods += 1;
                taken.requests.add(&summary.requests);
                self.pods.insert(key, summary)
            }
            None => self.pods.remove(&key),
        };
        self.give_back(before);
        true
    }

    /// Forgets a pod. Says whether that made a difference.
    pub(super) fn remove_pod(&mut self, pod: &Pod) -> bool {
        let before = pod_key(pod).and_then(|key| self.pods.remove(&key));
        let was_known = before.is_some();
        self.give_back(before);
        was_known
    }

    /// Forgets all pods, as they are listed anew.
    pub(super) fn clear_pods(&mut self) {
        self.pods.clear();
        self.taken.clear();
    }

    /// Nodes and pods that are known.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.nodes.len(), self.pods.len())
    }

    /// The pools of all nodes: slots, and devices.
    pub(super) fn pools(&self, counting: &Counting) -> Pools {
        let mut pools = BTreeMap::<Pool, (u64, u64)>::new();
        let nothing = Taken::default();
        for (name, node) in &self.nodes {
            let taken = self.taken.get(name.as_str()).unwrap_or(&nothing);
            let places = whole(node.allocatable.pods() - thousandths(taken.pods));
            let slots = node.slots(taken, places, counting);
            let slots = if node.accepts(counting, None) { slots } else { (0, 0) };
            count(&mut pools, node.pool(counting, &node.name, "slot"), slots);
            for (device, model) in &node.models {
                let devices = node.devices(device, taken, places);
                let devices = if node.accepts(counting, Some(device)) { devices } else { (0, 0) };
                count(&mut pools, node.pool(counting, model, device.unit), devices);
            }
        }
        let seen = |total: u64, free: u64| {
            let units = |number: u64| u32::try_from(number).unwrap_or(MOST_UNITS).min(MOST_UNITS);
            let total = units(total);
            Seen::Counts { total, in_use: total - units(free).min(total) }
        };
        pools.into_iter().map(|(pool, (total, free))| (pool, seen(total, free))).collect()
    }

    /// None of a pod that takes nothing of a node: it has none yet, or has ended. One that is being ended
    /// keeps what it takes until it is gone, for the scheduler too.
    fn summarize(&self, pod: &Pod) -> Option<PodSummary> {
        let node = pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())?;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let known = self.taken.get_key_value(node);
        let node = known.map_or_else(|| Arc::from(node), |(node, _)| Arc::clone(node));
        Some(PodSummary { node, requests: requests::of_pod(pod) })
    }

    fn give_back(&mut self, pod: Option<PodSummary>) {
        let Some(PodSummary { node, requests }) = pod else { return };
        let Some(taken) = self.taken.get_mut(&node) else { return };
        taken.pods = taken.pods.saturating_sub(1);
        taken.requests.subtract(&requests);
        if taken.pods == 0 {
            self.taken.remove(&node);
        }
    }
}

impl NodeSummary {
    fn of(node: &Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let allocatable = Amounts::read_some(status.and_then(|status| status.allocatable.as_ref()));
        let of_node = allocatable.names();
        let devices = of_node.filter_map(|name| DEVICES.iter().find(|it| it.resource == name));
        let models = devices.map(|device| (device, names::model(device, label))).collect();
        let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        Self {
            provider: names::provider(spec.and_then(|spec| spec.provider_id.as_deref())),
            name: names::instance_type(label),
            region: first_label(label, REGION_LABELS),
            zone: first_label(label, ZONE_LABELS),
            models,
            allocatable,
            is_ready: node.metadata.deletion_timestamp.is_none()
                && ready.is_some_and(|condition| condition.status == "True"),
            taints: blocking_taints(spec),
        }
    }

    /// Whether pods of whoever asks can be placed on it. A pod that asks for a device tolerates the taint
    /// of its name, which the admission plugin `ExtendedResourceToleration` sees to.
    fn accepts(&self, counting: &Counting, device: Option<&Device>) -> bool {
        let is_tolerated = |taint: &Taint| {
            device.is_some_and(|device| device.resource == taint.key)
                || counting.tolerations.iter().any(|toleration| tolerates(toleration, taint))
        };
        self.is_ready && self.taints.iter().all(is_tolerated)
    }

    /// Slots in all, and free ones.
    fn slots(&self, taken: &Taken, places: u64, counting: &Counting) -> (u64, u64) {
        let fit = |taken: &Amounts| {
            let by = |name, slot: Thousandths| {
                u64::try_from((self.allocatable.get(name) - taken.get(name)).max(0) / slot)
                    .unwrap_or(u64::MAX)
            };
            by(CPU, counting.slot_cpu).min(by(MEMORY, counting.slot_memory))
        };
        let total = fit(&Amounts::default()).min(whole(self.allocatable.pods()));
        (total, fit(&taken.requests).min(places))
    }

    /// Devices in all, and free ones. Each may be asked for by a pod of its own.
    fn devices(&self, device: &Device, taken: &Taken, places: u64) -> (u64, u64) {
        let total = self.allocatable.get(device.resource);
        let free = whole(total - taken.requests.get(device.resource));
        // Without a place for one more pod none of them can be had.
        (whole(total), if places == 0 { 0 } else { free })
    }

    fn pool(&self, counting: &Counting, name: &str, unit: &str) -> Pool {
        Pool {
            provider: counting.provider.clone().unwrap_or_else(|| self.provider.clone()),
            name: name.to_owned(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            tier: TIER.to_owned(),
            unit: unit.to_owned(),
        }
    }
}

/// What is in the cluster is its owner's.
const TIER: &str = "owned";

/// The most that the API takes.
const MOST_UNITS: u32 = i32::MAX.unsigned_abs();

fn count(pools: &mut BTreeMap<Pool, (u64, u64)>, pool: Pool, (total, free): (u64, u64)) {
    let (all, all_free) = pools.entry(pool).or_default();
    *all = all.saturating_add(total);
    *all_free = all_free.saturating_add(free);
}

fn whole(amount: Thousandths) -> u64 {
    u64::try_from(amount.max(0) / 1000).unwrap_or(u64::MAX)
}

fn thousandths(number: u32) -> Thousandths {
    Thousandths::from(number) * 1000
}

/// The uid of a pod: the next pod of a `StatefulSet` has the name of the one before.
fn pod_key(pod: &Pod) -> Option<String> {
    pod.metadata.uid.clone()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Cluster, Counting};
    use crate::statement::{Pools, Seen};

    const GI: i128 = 1024 * 1024 * 1024 * 1000;

    fn counting() -> Counting {
        Counting { slot_cpu: 1_000, slot_memory: 2 * GI, provider: None, tolerations: Vec::new() }
    }

    fn node(name: &str, change: impl FnOnce(&mut Value)) -> Node {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"node.kubernetes.io/instance-type": "m5.large",
                "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"}},
            "spec": {"providerID": "aws:///z/i-1"},
            "status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]},
        });
        change(&mut node);
        serde_json::from_value(node).expect("a node")
    }

    fn pod(uid: &str, node: &str, cpu: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": uid, "name": uid},
            "spec": {"nodeName": node, "containers": [{"name": "c",
                "resources": {"requests": {"cpu": cpu, "nvidia.com/gpu": "1"}}}]},
            "status": {"phase": phase},
        }))
        .expect("a pod")
    }

    /// A line for each pool: provider, name, unit, free and total.
    fn lines(pools: &Pools) -> Vec<String> {
        let line = |(pool, seen): (&crate::statement::Pool, &Seen)| {
            let Seen::Counts { total, in_use } = seen else { panic!("{pool:?} is counted") };
            let free = total - in_use;
            format!("{} {} {} {free}/{total}", pool.provider, pool.name, pool.unit)
        };
        pools.iter().map(line).collect()
    }

    #[test]
    fn pods_take_slots_while_they_run() {
        let mut cluster = Cluster::default();
        assert!(cluster.apply_node(&node("a", |_| {})));
        assert!(!cluster.apply_node(&node("a", |node| node["status"]["images"] = json!([]))));
        let mut takes = |uid: &str, cpu: &str, phase: &str| {
            let changed = cluster.apply_pod(&pod(uid, "a", cpu, phase));
            (changed, lines(&cluster.pools(&counting())).remove(0))
        };
        let slots = |free: u32| format!("Amazon m5.large slot {free}/4");
        assert_eq!(takes("1", "500m", "Running"), (true, slots(3)));
        assert_eq!(takes("1", "500m", "Running"), (false, slots(3)));
        assert_eq!(takes("2", "2", "Pending"), (true, slots(1)));
        assert_eq!(takes("2", "2", "Succeeded"), (true, slots(3)));
        assert_eq!(takes("2", "2", "Succeeded"), (false, slots(3)));
        assert_eq!(takes("3", "3500m", "Failed"), (false, slots(3)));
        assert_eq!(takes("1", "1500m", "Running"), (true, slots(2)), "resized");
        assert!(cluster.remove_pod(&pod("1", "a", "0", "Running")));
        assert!(!cluster.remove_pod(&pod("1", "a", "0", "Running")));
        assert_eq!(lines(&cluster.pools(&counting())), [slots(4)]);
    }

    #[test]
    fn a_node_that_takes_no_pods_has_no_slots() {
        let taint = |effect: &str| json!([{"key": "team", "value": "a", "effect": effect}]);
        let tolerated: Toleration =
            serde_json::from_value(json!({"key": "team", "operator": "Exists"}))
                .expect("a toleration");
        let not_ready = json!([{"type": "Ready", "status": "Unknown"}]);
        for (what, node, expected, expected_if_tolerated) in vec![
            ("as it is", node("a", |_| {}), 4, 4),
            ("cordoned", node("a", |it| it["spec"]["unschedulable"] = json!(true)), 0, 0),
            ("not ready", node("a", |it| it["status"]["conditions"] = not_ready), 0, 0),
            ("of unknown state", node("a", |it| it["status"]["conditions"] = json!([])), 0, 0),
            ("tainted", node("a", |it| it["spec"]["taints"] = taint("NoSchedule")), 0, 4),
            ("evicting", node("a", |it| it["spec"]["taints"] = taint("NoExecute")), 0, 4),
            ("avoided", node("a", |it| it["spec"]["taints"] = taint("PreferNoSchedule")), 4, 4),
            (
                "being deleted",
                node("a", |it| it["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
                0,
                0,
            ),
            ("of few pods", node("a", |it| it["status"]["allocatable"]["pods"] = json!("3")), 3, 3),
            ("of no pods", node("a", |it| it["status"]["allocatable"] = json!({"cpu": "4"})), 0, 0),
            (
                "of little memory",
                node("a", |it| it["status"]["allocatable"]["memory"] = json!("5Gi")),
                2,
                2,
            ),
        ] {
            let mut cluster = Cluster::default();
            cluster.apply_node(&node);
            let total = |counting: &Counting| {
                let pools = cluster.pools(counting);
                let seen = pools.values().next().expect("a pool");
                let Seen::Counts { total, in_use: 0 } = seen else { panic!("{seen:?}") };
                *total
            };
            assert_eq!(total(&counting()), expected, "{what}");
            let tolerating = Counting { tolerations: vec![tolerated.clone()], ..counting() };
            assert_eq!(total(&tolerating), expected_if_tolerated, "{what}");
        }
    }

    #[test]
    fn places_for_pods_run_out_before_cores_do() {
        let mut cluster = Cluster::default();
        cluster.apply_node(&node("a", |node| node["status"]["allocatable"]["pods"] = json!("3")));
        for uid in ["1", "2"] {
            cluster.apply_pod(&pod(uid, "a", "0", "Running"));
        }
        assert_eq!(lines(&cluster.pools(&counting())), ["Amazon m5.large slot 1/3"]);
    }

    #[test]
    fn devices_are_pools_of_their_model() {
        let gpus = |count: &'static str| {
            move |node: &mut Value| {
                node["status"]["allocatable"]["nvidia.com/gpu"] = json!(count);
                node["metadata"]["labels"]["nvidia.com/gpu.product"] = json!("NVIDIA-H100");
                // As operators of GPU nodes keep others off them.
                node["spec"]["taints"] = json!([{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]);
            }
        };
        let mut cluster = Cluster::default();
        cluster.apply_node(&node("a", gpus("8")));
        cluster.apply_node(&node("b", gpus("4")));
        cluster.apply_pod(&pod("1", "a", "1", "Running"));
        assert_eq!(
            lines(&cluster.pools(&counting())),
            ["Amazon NVIDIA-H100 gpu 11/12", "Amazon m5.large slot 0/0"]
        );
        // A device that fails is no longer allocatable, and its pod still runs.
        cluster.apply_node(&node("a", gpus("0")));
        assert_eq!(lines(&cluster.pools(&counting()))[0], "Amazon NVIDIA-H100 gpu 4/4");
    }

    #[test]
    fn pods_may_come_before_their_node_and_outlive_it() {
        let mut cluster = Cluster::default();
        assert!(cluster.apply_pod(&pod("1", "a", "1", "Running")));
        assert_eq!(lines(&cluster.pools(&counting())), Vec::<String>::new());
        cluster.apply_node(&node("a", |_| {}));
        assert_eq!(lines(&cluster.pools(&counting())), ["Amazon m5.large slot 3/4"]);
        assert!(cluster.remove_node(&node("a", |_| {})));
        assert_eq!(lines(&cluster.pools(&counting())), Vec::<String>::new());
        assert!(cluster.remove_pod(&pod("1", "a", "1", "Running")));
        assert_eq!(cluster.size(), (0, 0));
        assert!(cluster.taken.is_empty(), "nothing is left of it");
    }

    proptest! {
        /// Whatever happens to pods, in whatever order: what is free follows from those that are there now.
        #[test]
        fn what_is_free_follows_from_the_pods_that_are_there(
            steps in prop::collection::vec((0..6_u8, 0..3_u8, 0..4_u8, any::<bool>()), 0..60)
        ) {
            let names = ["a", "b", "c"];
            let phases = ["Pending", "Running", "Succeeded", "Failed"];
            let mut cluster = Cluster::default();
            for name in names {
                cluster.apply_node(&node(name, |_| {}));
            }
            let mut running = std::collections::BTreeMap::new();
            for (uid, node, phase, is_removed) in steps {
                let pod = pod(&uid.to_string(), names[usize::from(node)], "1", phases[usize::from(phase)]);
                if is_removed {
                    cluster.remove_pod(&pod);
                    running.remove(&uid);
                } else {
                    cluster.apply_pod(&pod);
                    if phase < 2 { running.insert(uid, node); } else { running.remove(&uid); }
                }
            }
            let taken: i128 = (0..3_u8)
                .map(|node| running.values().filter(|of| **of == node).count().min(4))
                .map(|pods| i128::try_from(pods).expect("few"))
                .sum();
            let expected = format!("Amazon m5.large slot {}/12", 12 - taken);
            prop_assert_eq!(lines(&cluster.pools(&counting())), vec![expected]);
        }
    }
}

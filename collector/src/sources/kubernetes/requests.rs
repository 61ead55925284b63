//! What a pod takes of its node, as the scheduler counts it: the computation of `PodRequests` in
//! `k8s.io/component-helpers/resource`, of Kubernetes 1.34.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus},
    apimachinery::pkg::api::resource::Quantity,
};

use super::amounts::{Amounts, CPU, MEMORY};

type Requests = BTreeMap<String, Quantity>;

/// Requests of a pod: its containers and sidecars together, or its hungriest init container if that is more;
/// what the pod as a whole asks for instead; and its overhead.
pub(super) fn of_pod(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let mut requests = of_containers(spec, &Running::of(pod.status.as_ref()));
    let whole = spec.resources.as_ref();
    let whole = Amounts::read_some(whole.and_then(|resources| resources.requests.as_ref()));
    for name in [CPU, MEMORY] {
        if whole.names().any(|given| given == name) {
            requests.set(name, whole.get(name));
        }
    }
    requests.add(&Amounts::read_some(spec.overhead.as_ref()));
    requests
}

fn of_containers(spec: &PodSpec, running: &Running<'_>) -> Amounts {
    let mut all = Amounts::default();
    for container in &spec.containers {
        all.add(&running.requests(container));
    }
    let (mut sidecars, mut most_of_init) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut at_this_step = sidecars.clone();
        if container.restart_policy.as_deref() == Some("Always") {
            let requests = running.requests(container);
            all.add(&requests);
            sidecars.add(&requests);
            at_this_step = sidecars.clone();
        } else {
            at_this_step.add(&declared(container));
        }
        most_of_init.raise_to(&at_this_step);
    }
    all.raise_to(&most_of_init);
    all
}

/// What a container asks for. The API server fills in a request for which there is only a limit.
fn declared(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    Amounts::read_some(resources.and_then(|resources| resources.requests.as_ref()))
}

/// What the kubelet says of containers that are being resized.
struct Running<'a> {
    containers: Vec<&'a ContainerStatus>,
    is_resize_infeasible: bool,
}

impl<'a> Running<'a> {
    fn of(status: Option<&'a PodStatus>) -> Self {
        let Some(status) = status else {
            return Self { containers: Vec::new(), is_resize_infeasible: false };
        };
        let of_init = status.init_container_statuses.iter().flatten();
        let containers = status.container_statuses.iter().flatten().chain(of_init).collect();
        let mut conditions = status.conditions.iter().flatten();
        let pending = conditions.find(|condition| condition.type_ == "PodResizePending");
        let is_resize_infeasible =
            pending.is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"));
        Self { containers, is_resize_infeasible }
    }

    /// The largest of what the container asks for, has and was promised; without what it asks for if that
    /// cannot be had on this node.
    fn requests(&self, container: &Container) -> Amounts {
        let mut status = self.containers.iter().filter(|status| status.name == container.name);
        let Some((status, resources)) =
            status.find_map(|status| Some((status, status.resources.as_ref()?)))
        else {
            return declared(container);
        };
        let asked =
            if self.is_resize_infeasible { Amounts::default() } else { declared(container) };
        let parts: [Option<&Requests>; 2] =
            [resources.requests.as_ref(), status.allocated_resources.as_ref()];
        parts.into_iter().fold(asked, |mut most, part| {
            most.raise_to(&Amounts::read_some(part));
            most
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::of_pod;

    /// Milli-cores, MiB and GPUs that a pod with this spec and status takes.
    fn requests(spec: &Value, status: &Value) -> (i128, i128, i128) {
        let pod: Pod =
            serde_json::from_value(json!({"spec": spec, "status": status})).expect("a pod");
        let all = of_pod(&pod);
        (all.get("cpu"), all.get("memory") / 1024 / 1024 / 1000, all.get("nvidia.com/gpu") / 1000)
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    fn sidecar(name: &str, cpu: &str, memory: &str) -> Value {
        let mut container = container(name, cpu, memory);
        container["restartPolicy"] = json!("Always");
        container
    }

    #[test]
    fn a_pod_takes_what_the_scheduler_counts() {
        let (a, b) = (container("a", "500m", "1Gi"), container("b", "1", "512Mi"));
        let gpus = json!({"name": "g", "resources": {"requests": {"nvidia.com/gpu": "2"},
            "limits": {"nvidia.com/gpu": "2"}}});
        for (what, spec, expected) in [
            ("nothing is asked for", json!({"containers": [{"name": "a"}]}), (0, 0, 0)),
            ("containers run together", json!({"containers": [a, b]}), (1500, 1536, 0)),
            ("devices", json!({"containers": [a, gpus]}), (500, 1024, 2)),
            (
                "init containers run one after the other, before the others",
                json!({"containers": [a], "initContainers":
                    [container("x", "2", "100Mi"), container("y", "100m", "3Gi")]}),
                (2000, 3072, 0),
            ),
            (
                "a small init container takes nothing more",
                json!({"containers": [a, b], "initContainers": [container("x", "1", "1Gi")]}),
                (1500, 1536, 0),
            ),
            (
                "a sidecar runs beside the containers",
                json!({"containers": [a], "initContainers": [sidecar("s", "200m", "100Mi")]}),
                (700, 1124, 0),
            ),
            (
                "a sidecar runs beside the init containers after it, not beside those before",
                json!({"containers": [a], "initContainers": [container("x", "1", "0"),
                    sidecar("s", "200m", "0"), container("y", "900m", "0")]}),
                (1100, 1024, 0),
            ),
            (
                "overhead comes on top",
                json!({"containers": [a], "overhead": {"cpu": "250m", "memory": "120Mi"}}),
                (750, 1144, 0),
            ),
            (
                "what the pod asks for as a whole goes before its containers",
                json!({"containers": [a, b, gpus], "resources": {"requests": {"cpu": "3"}},
                    "overhead": {"cpu": "1"}}),
                (4000, 1536, 2),
            ),
        ] {
            assert_eq!(requests(&spec, &json!({})), expected, "{what}");
        }
    }

    #[test]
    fn while_a_pod_is_resized_it_takes_the_most_of_what_it_has_and_asks_for() {
        let spec = json!({"containers": [container("a", "1", "1Gi")],
            "initContainers": [sidecar("s", "100m", "0"), container("x", "0", "0")]});
        let status = |asked: &str, allocated: &str, reason: &str| {
            json!({
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [{"name": "a", "image": "i", "imageID": "i", "ready": true,
                    "restartCount": 0, "allocatedResources": {"cpu": allocated},
                    "resources": {"requests": {"cpu": asked, "memory": "1Gi"}}}],
                "initContainerStatuses": [{"name": "s", "image": "i", "imageID": "i", "ready": true,
                    "restartCount": 0, "resources": {"requests": {"cpu": "300m"}}}],
            })
        };
        assert_eq!(requests(&spec, &status("2", "1", "Deferred")), (2300, 1024, 0));
        assert_eq!(requests(&spec, &status("500m", "1500m", "Deferred")), (1800, 1024, 0));
        assert_eq!(requests(&spec, &status("500m", "500m", "Deferred")), (1300, 1024, 0));
        assert_eq!(requests(&spec, &status("500m", "500m", "Infeasible")), (800, 1024, 0));
    }
}

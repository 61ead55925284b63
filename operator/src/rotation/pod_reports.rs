//! What the pods themselves report about the credential that they hold, and how their kubelet is made to
//! refresh it.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::json;

use super::machine::PodReport;
use crate::cluster::pod_http::PodHttp;

/// Patching any annotation of a pod makes the kubelet refresh its volumes: measured, 0.6 to 0.8 s
/// instead of up to a minute.
pub const NUDGE_ANNOTATION: &str = "gill-hicks.dev/credential-generation";

/// Port of a pod's administration: probes, metrics and what it reports of its credential.
pub const ADMIN_PORT: i32 = 8081;

/// Most bytes of an answer. A usual one has a hundred; a longer one is not read, as the sender is not
/// trusted.
const LONGEST_ANSWER: usize = 4096;
/// Pods that are asked at the same time.
const AT_ONCE: usize = 16;

/// Asks pods for what they hold.
#[derive(Clone, Debug)]
pub struct PodReports {
    http: PodHttp,
}

/// What a pod answers.
#[derive(Deserialize)]
struct Answer {
    generation: u64,
    #[serde(default)]
    connections: BTreeMap<u64, usize>,
}

impl PodReports {
    /// One that asks through `http`.
    #[must_use]
    pub fn new(http: PodHttp) -> Self {
        Self { http }
    }

    /// Every pod of a Deployment that is not on its way out, ready or not, with what it reports.
    pub async fn ask(
        &self,
        pods: &Api<Pod>,
        selector: &str,
        deployment: &str,
        admin_port: i32,
    ) -> Result<Vec<PodReport>, kube::Error> {
        let found = pods.list(&ListParams::default().labels(selector)).await?;
        let counted = found.items.into_iter().filter(|pod| counts(pod, deployment));
        let asked = stream::iter(counted).map(async |pod| self.ask_pod(&pod, admin_port).await);
        Ok(asked.buffered(AT_ONCE).collect().await)
    }

    async fn ask_pod(&self, pod: &Pod, admin_port: i32) -> PodReport {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let answer = match address {
            Some(address) => self.fetch(address, admin_port).await,
            None => None,
        };
        let nudged = pod.annotations().get(NUDGE_ANNOTATION).and_then(|text| parse_nudge(text));
        PodReport {
            name: pod.name_any(),
            generation: answer.as_ref().map(|answer| answer.generation),
            connections: answer.map(|answer| answer.connections).unwrap_or_default(),
            nudged,
        }
    }

    /// None if the pod does not answer, or answers something else. It then counts as a pod of an unknown
    /// generation.
    async fn fetch(&self, address: &str, port: i32) -> Option<Answer> {
        self.http.get(&admin_url(address, port, "credentials"), LONGEST_ANSWER).await.ok()
    }
}

/// Where something is on the admin port of a pod.
#[must_use]
pub fn admin_url(address: &str, port: i32, path: &str) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{port}/{path}")
}

/// Makes the kubelet of a pod refresh its volumes now.
pub async fn nudge(
    pods: &Api<Pod>,
    name: &str,
    generation: u64,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let value = format!("{generation} at {now}");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {NUDGE_ANNOTATION: value}}}));
    match pods.patch_metadata(name, &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // It ended meanwhile, and needs nothing any more.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

fn parse_nudge(text: &str) -> Option<(u64, Timestamp)> {
    let (generation, at) = text.split_once(" at ")?;
    Some((generation.parse().ok()?, at.parse().ok()?))
}

/// Whether a pod belongs to the Deployment and has not ended. A pod that only carries the labels does not
/// belong to it.
#[must_use]
pub fn counts(pod: &Pod, deployment: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    let is_of_deployment = pod.owner_references().iter().any(|owner| {
        owner.kind == "ReplicaSet"
            && owner.name.rsplit_once('-').is_some_and(|(prefix, _)| prefix == deployment)
    });
    is_of_deployment && !has_ended && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{admin_url, counts, parse_nudge};

    fn pod(changes: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "p-hardware-5d8-abc",
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "p-hardware-5d8",
                    "uid": "1", "controller": true,
                }],
            },
            "status": {"phase": "Running"},
        });
        for (path, value) in changes.as_object().into_iter().flatten() {
            let (parent, key) = path.rsplit_once('/').expect("a path");
            pod.pointer_mut(parent).expect("a parent")[key] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn pods_that_run_or_will_count_and_those_that_end_or_are_strangers_do_not() {
        assert!(counts(&pod(&json!({})), "p-hardware"));
        assert!(counts(&pod(&json!({"/status/phase": "Pending"})), "p-hardware"));
        assert!(!counts(&pod(&json!({"/status/phase": "Failed"})), "p-hardware"));
        let going = json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(!counts(&pod(&going), "p-hardware"));
        assert!(!counts(&pod(&json!({"/metadata/ownerReferences": []})), "p-hardware"));
        assert!(!counts(&pod(&json!({})), "p"), "another Deployment's name is a prefix only");
    }

    #[test]
    fn an_address_of_either_kind_is_put_into_an_url() {
        assert_eq!(admin_url("10.1.2.3", 8081, "watches"), "http://10.1.2.3:8081/watches");
        assert_eq!(admin_url("fd00::1", 8081, "watches"), "http://[fd00::1]:8081/watches");
    }

    #[test]
    fn a_nudge_is_read_back_and_anything_else_counts_as_none() {
        let read = parse_nudge("7 at 2026-01-01T00:00:00Z").expect("our own form");
        assert_eq!(read.0, 7);
        assert_eq!(parse_nudge("7"), None);
        assert_eq!(parse_nudge("x at y"), None);
    }
}

//! What a portal's pods report of the watches that they watch for. Any pod can answer for all of them, as it
//! answers from the database. However many watches a portal has, it is asked once in ten seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use kube_runtime::reflector::ObjectRef;
use serde::Deserialize;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    cluster::{
        Guarded, api_error,
        labels::{self, Component},
        names,
        pod_http::PodHttp,
    },
    rotation::pod_reports::{ADMIN_PORT, admin_url, counts},
};

/// How often a portal is asked at most.
const EVERY: Duration = Duration::from_secs(10);
/// How long the last answer counts while no pod answers, as one may be replaced by a rollout.
const KEPT: Duration = Duration::from_mins(1);
/// Most bytes of an answer: those of as many watches as fit into the document of the pods.
const LONGEST_ANSWER: usize = 2 * 1024 * 1024;
/// Pods that are tried.
const TRIED: usize = 3;

/// What a pod says of one watch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct WatchReport {
    /// Uid of the watch.
    pub uid: String,
    /// The generation that the pod has read.
    pub generation: i64,
    /// Whether it fires when the level is reached.
    pub armed: bool,
    /// Since when the level holds.
    pub holds_since: Option<Timestamp>,
    /// When it fired last.
    pub last_fired: Option<Timestamp>,
    /// When a receiver took a message last.
    pub last_delivered: Option<Timestamp>,
    /// Messages that are still to be delivered.
    pub pending: u32,
    /// What the last attempt to deliver one ended with, if it failed.
    pub error: Option<DeliveryError>,
}

/// A message that was not taken.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DeliveryError {
    /// Place of the receiver in what the pod has read.
    pub target: usize,
    /// Whether it is not tried any more.
    #[serde(default)]
    pub given_up: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// What the receiver or the network said.
    pub message: String,
    /// When it was tried last.
    pub at: Timestamp,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<WatchReport>,
}

/// By uid of the watch.
pub type ByUid = HashMap<String, WatchReport>;

/// What is known of a portal's watches.
#[derive(Clone, Debug)]
pub enum Reports {
    /// What a pod answered, at most a minute ago.
    Answered(Arc<ByUid>),
    /// Nothing, and why.
    Unanswered(String),
}

/// Asks the pods of portals. Clones share the answers.
#[derive(Clone)]
pub struct WatchReports {
    client: Client,
    http: PodHttp,
    asked: Arc<Mutex<AskedByPortal>>,
}

/// Each has a lock of its own, which is held while its pods are asked.
type AskedByPortal = HashMap<ObjectRef<Guarded>, Arc<AsyncMutex<Asked>>>;

#[derive(Default)]
struct Asked {
    last: Option<(Instant, Reports)>,
    answered: Option<(Instant, Arc<ByUid>)>,
}

impl Asked {
    /// The last answer, while it is recent enough.
    fn recent(&self) -> Option<Reports> {
        let (at, reports) = self.last.as_ref()?;
        (at.elapsed() < EVERY).then(|| reports.clone())
    }

    /// Takes what a pod answered, or why none did.
    fn take(&mut self, answer: Result<ByUid, String>) -> Reports {
        let now = Instant::now();
        let reports = match answer {
            Ok(items) => {
                let items = Arc::new(items);
                self.answered = Some((now, Arc::clone(&items)));
                Reports::Answered(items)
            }
            Err(why) => match &self.answered {
                Some((at, items)) if at.elapsed() < KEPT => Reports::Answered(Arc::clone(items)),
                _ => Reports::Unanswered(why),
            },
        };
        self.last = Some((now, reports.clone()));
        reports
    }
}

impl WatchReports {
    /// One that asks through `http`.
    #[must_use]
    pub fn new(client: Client, http: PodHttp) -> Self {
        Self { client, http, asked: Arc::default() }
    }

    /// What the pods of a portal report. Several that ask at the same time wait for one answer.
    pub async fn ask(&self, namespace: &str, portal: &str) -> Reports {
        let asked = self.with(|all| {
            let key = ObjectRef::new(portal).within(namespace);
            Arc::clone(all.entry(key).or_default())
        });
        let mut asked = asked.lock().await;
        if let Some(recent) = asked.recent() {
            return recent;
        }
        let answer = self.ask_pods(namespace, portal).await;
        asked.take(answer)
    }

    /// Forgets a portal that no longer exists.
    pub fn forget(&self, portal: &ObjectRef<Guarded>) {
        self.with(|all| all.remove(portal));
    }

    async fn ask_pods(&self, namespace: &str, portal: &str) -> Result<ByUid, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let selector: Vec<String> = labels::selecting(portal, Component::Hardware)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let found = pods.list(&ListParams::default().labels(&selector.join(","))).await;
        let found = found.map_err(|error| {
            format!(
                "the pods of {portal}-hardware cannot be listed: {}",
                api_error::in_words(&error)
            )
        })?;
        let mut why = format!("no pod of {} is ready", names::hardware(portal));
        for (name, address) in ready_pods(found.items, &names::hardware(portal)) {
            let url = admin_url(&address, ADMIN_PORT, "watches");
            match self.http.get::<Answer>(&url, LONGEST_ANSWER).await {
                Ok(Answer { items }) => {
                    return Ok(items.into_iter().map(|item| (item.uid.clone(), item)).collect());
                }
                Err(error) => {
                    why = format!("the pod {name} was asked what it watches for: {error}");
                }
            }
        }
        Err(why)
    }

    fn with<T>(&self, act: impl FnOnce(&mut AskedByPortal) -> T) -> T {
        act(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Names and addresses of the pods that are asked, in an order that stays: two pods of which one has read a
/// change earlier would otherwise answer in turns.
fn ready_pods(mut pods: Vec<Pod>, deployment: &str) -> Vec<(String, String)> {
    pods.retain(|pod| counts(pod, deployment) && is_ready(pod));
    pods.sort_by_key(ResourceExt::name_any);
    let with_address = pods.into_iter().filter_map(|pod| {
        let name = pod.name_any();
        Some((name, pod.status?.pod_ip?))
    });
    with_address.take(TRIED).collect()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let mut conditions = conditions.unwrap_or_default().iter();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use tokio::time::advance;

    use super::{Answer, Asked, ByUid, EVERY, KEPT, Reports, WatchReport, ready_pods};

    fn pod(name: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "demo-hardware-5d8", "uid": "1",
                }],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }))
        .expect("a pod")
    }

    #[test]
    fn ready_pods_of_the_deployment_are_asked_in_the_same_order() {
        let pods = vec![pod("b", "True"), pod("c", "False"), pod("a", "True")];
        let names: Vec<String> =
            ready_pods(pods, "demo-hardware").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(ready_pods(vec![pod("a", "True")], "demo").is_empty(), "of another Deployment");
    }

    #[test]
    fn an_answer_is_read_with_what_may_be_absent() {
        let answer: Answer = serde_json::from_value(json!({"items": [
            {
                "name": "h100", "uid": "u", "generation": 3, "armed": true, "holds_since": null,
                "last_fired": "2026-01-01T00:00:00Z", "last_delivered": null, "pending": 1,
                "error": {
                    "target": 1, "attempts": 3, "message": "status 503", "at": "2026-01-01T00:01:00Z",
                },
            },
            {"name": "new", "uid": "v", "generation": 1},
        ]}))
        .expect("as a pod answers");
        let [first, second] = answer.items.try_into().expect("two watches");
        assert_eq!((first.generation, first.armed, first.pending), (3, true, 1));
        assert_eq!(first.error.map(|error| (error.target, error.attempts)), Some((1, 3)));
        let bare = WatchReport { uid: "v".to_owned(), generation: 1, ..WatchReport::default() };
        assert_eq!(second, bare);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_counts_for_a_minute_while_no_pod_answers() {
        let mut asked = Asked::default();
        assert!(asked.recent().is_none());
        let report = WatchReport { uid: "u".to_owned(), ..WatchReport::default() };
        asked.take(Ok(ByUid::from([("u".to_owned(), report)])));
        assert!(matches!(asked.recent(), Some(Reports::Answered(_))));
        advance(EVERY).await;
        assert!(asked.recent().is_none(), "it is time to ask again");
        let kept = asked.take(Err("no pod is ready".to_owned()));
        assert!(matches!(kept, Reports::Answered(items) if items.contains_key("u")));
        advance(KEPT).await;
        let lost = asked.take(Err("no pod is ready".to_owned()));
        assert!(matches!(lost, Reports::Unanswered(why) if why == "no pod is ready"));
    }
}

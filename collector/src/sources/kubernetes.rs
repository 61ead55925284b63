//! The nodes and pods of a cluster: slots of CPU and memory, and devices, by the rules of its scheduler.
//!
//! Two watches follow nodes and pods. A watch that fails is begun anew with a list, so that what is counted
//! is always whole. Before a source speaks without a change, both kinds are asked for once more: a watch
//! that is open goes on after the right to it was withdrawn, and after its connection was lost.

mod amounts;
mod cluster;
mod devices;
mod followed;
mod names;
mod quantity;
mod requests;
mod tolerations;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use kube::{Api, Client, api::ListParams};
use serde::Deserialize;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::{
    cluster::{Cluster, Counting},
    followed::Event,
    quantity::Thousandths,
};
use super::{
    Silence, Source,
    api_server::{self, ask},
    watch::{self, Failure, Following},
};
use crate::statement::{Problem, Statement};

/// How often all pods are confirmed.
const INTERVAL: Duration = Duration::from_secs(30);
/// Changes within this time are said together: a rollout changes many pods.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Events that may wait while a batch is posted.
const WAITING: usize = 4096;

/// Pods that are placed on a node and have not ended.
const PLACED: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/// How the cluster is counted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Options {
    /// What one slot holds.
    slot: Slot,
    /// The provider's name, instead of the one that nodes name.
    provider: Option<String>,
    /// Labels of the nodes that count; all if there are none.
    node_selector: BTreeMap<String, String>,
    /// Taints that whoever asks for hardware tolerates.
    tolerations: Vec<Toleration>,
}

/// What one slot holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct Slot {
    cpu: String,
    memory: String,
}

impl Default for Slot {
    fn default() -> Self {
        Self { cpu: "1".to_owned(), memory: "2Gi".to_owned() }
    }
}

impl Options {
    /// What is wrong, if anything.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.counting().map(drop)
    }

    fn counting(&self) -> Result<Counting, String> {
        let amount = |field: &str, text: &str| -> Result<Thousandths, String> {
            quantity::parse(text).filter(|amount| *amount > 0).ok_or_else(|| {
                format!("kubernetes.slot.{field} is {text:?}, expected a quantity above 0 such as 1, 500m or 2Gi")
            })
        };
        Ok(Counting {
            slot_cpu: amount("cpu", &self.slot.cpu)?,
            slot_memory: amount("memory", &self.slot.memory)?,
            provider: self.provider.clone(),
            tolerations: self.tolerations.clone(),
        })
    }

    fn label_selector(&self) -> Option<String> {
        let terms: Vec<String> =
            self.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (!terms.is_empty()).then(|| terms.join(","))
    }
}

/// A cluster that is followed.
pub(crate) struct Kubernetes {
    counting: Counting,
    cluster: Cluster,
    nodes: Following,
    pods: Following,
    node_api: Api<Node>,
    pod_api: Api<Pod>,
    label_selector: Option<String>,
    events: mpsc::Receiver<Event>,
    /// When both kinds were last asked for.
    confirmed: Option<Instant>,
}

impl Kubernetes {
    /// Begins to follow the cluster of `client`. Ends with this value.
    pub(crate) fn follow(client: Client, options: &Options) -> Result<Self, String> {
        let (sender, events) = mpsc::channel(WAITING);
        let (node_api, pod_api) = (Api::all(client.clone()), Api::all(client));
        let label_selector = options.label_selector();
        tokio::spawn(watch::run(node_api.clone(), label_selector.clone(), None, sender.clone()));
        tokio::spawn(watch::run(pod_api.clone(), None, Some(PLACED.to_owned()), sender));
        Ok(Self {
            counting: options.counting()?,
            cluster: Cluster::default(),
            nodes: Following::default(),
            pods: Following::default(),
            node_api,
            pod_api,
            label_selector,
            events,
            confirmed: None,
        })
    }

    /// Takes an event. Says whether there may be something else to say.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Nodes(change) => self.nodes.take(change, &mut self.cluster),
            Event::Pods(change) => self.pods.take(change, &mut self.cluster),
        }
    }

    fn take_waiting(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// What keeps it from speaking, of what the watches said.
    fn trouble(&self) -> Option<Result<Problem, Silence>> {
        let of = |kind: &'static str, following: &Following| match following {
            Following::Current => None,
            Following::Listing => Some(Err(Silence::Starting)),
            Following::Failed(failure) => Some(explain(kind, failure)),
        };
        let (nodes, pods) = (of("nodes", &self.nodes), of("pods", &self.pods));
        // A right that is missing is said, also while the other list is still under way.
        match (nodes, pods) {
            (Some(Ok(problem)), _) | (_, Some(Ok(problem))) => Some(Ok(problem)),
            (nodes, pods) => nodes.or(pods),
        }
    }

    /// Asks for one object of each kind, which takes the same right and the same way as the watches.
    async fn confirm(&mut self) -> Result<(), (&'static str, Failure)> {
        let one = ListParams::default().limit(1);
        let of_nodes = ListParams { label_selector: self.label_selector.clone(), ..one.clone() };
        ask(self.node_api.list_metadata(&of_nodes)).await.map_err(|failure| ("nodes", failure))?;
        ask(self.pod_api.list_metadata(&one)).await.map_err(|failure| ("pods", failure))?;
        self.confirmed = Some(Instant::now());
        Ok(())
    }
}

impl Source for Kubernetes {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        self.take_waiting();
        if let Some(trouble) = self.trouble() {
            return trouble.map(Statement::Problem);
        }
        // What has just changed came by a watch that works.
        if self.confirmed.is_none_or(|at| at.elapsed() >= INTERVAL / 2)
            && let Err((kind, failure)) = self.confirm().await
        {
            return explain(kind, &failure).map(Statement::Problem);
        }
        self.take_waiting();
        if let Some(trouble) = self.trouble() {
            return trouble.map(Statement::Problem);
        }
        Ok(Statement::Pools(self.cluster.pools(&self.counting)))
    }

    async fn changed(&mut self) {
        loop {
            // The watches end with this value only.
            let Some(event) = self.events.recv().await else { return std::future::pending().await };
            if self.take(event) {
                break;
            }
        }
        sleep(DEBOUNCE).await;
        let (nodes, pods) = self.cluster.size();
        tracing::debug!(nodes, pods, "the cluster changed");
    }
}

/// A missing right is a problem that somebody can solve. Everything else passes, or is not known to be so.
fn explain(kind: &'static str, failure: &Failure) -> Result<Problem, Silence> {
    match failure {
        Failure::Forbidden(account) => Ok(Problem {
            code: if kind == "nodes" { "nodes_forbidden" } else { "pods_forbidden" },
            detail: api_server::describe_forbidden(kind, account.as_deref()),
        }),
        other => Err(api_server::silence(kind, other)),
    }
}

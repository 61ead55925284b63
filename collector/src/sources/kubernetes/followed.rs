//! The two kinds that are followed.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::cluster::Cluster;
use crate::sources::watch::{Change, Followed};

/// Something happened to one of the two kinds.
#[derive(Debug)]
pub(crate) enum Event {
    /// To nodes.
    Nodes(Change<Node>),
    /// To pods.
    Pods(Change<Pod>),
}

impl Followed for Node {
    type Known = Cluster;
    type Event = Event;

    fn event(change: Change<Self>) -> Event {
        Event::Nodes(change)
    }

    fn apply(&self, cluster: &mut Cluster) -> bool {
        cluster.apply_node(self)
    }

    fn remove(&self, cluster: &mut Cluster) -> bool {
        cluster.remove_node(self)
    }

    fn clear(cluster: &mut Cluster) {
        cluster.clear_nodes();
    }
}

impl Followed for Pod {
    type Known = Cluster;
    type Event = Event;

    fn event(change: Change<Self>) -> Event {
        Event::Pods(change)
    }

    fn apply(&self, cluster: &mut Cluster) -> bool {
        cluster.apply_pod(self)
    }

    fn remove(&self, cluster: &mut Cluster) -> bool {
        cluster.remove_pod(self)
    }

    fn clear(cluster: &mut Cluster) {
        cluster.clear_pods();
    }
}

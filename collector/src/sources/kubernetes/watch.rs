//! Follows all objects of a kind.

use std::{fmt::Debug, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube_runtime::watcher::{self, watcher};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};

use super::cluster::Cluster;
use crate::cause::innermost;

/// A watch is asked for again after this time, which also bounds how long a lost connection goes unnoticed.
const WATCH_SECONDS: u32 = 60;
/// Objects in one answer of a list: what is not needed of them is dropped before the next answer.
const PAGE: u32 = 200;
/// Pauses before a failed watch begins anew. The longest is short: somebody may be waiting for the effect of
/// a right that he granted.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Something happened to one of the two kinds.
#[derive(Debug)]
pub(super) enum Event {
    /// To nodes.
    Nodes(Change<Node>),
    /// To pods.
    Pods(Change<Pod>),
}

/// What happened to a kind.
#[derive(Debug)]
pub(super) enum Change<K> {
    /// All objects are listed from now on.
    Started,
    /// An object is there, as it is now.
    Applied(Box<K>),
    /// An object is gone.
    Deleted(Box<K>),
    /// All objects have been listed.
    Listed,
    /// Nothing more is heard until all are listed anew.
    Failed(Failure),
}

/// Why the API server gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A right is missing; the user that lacks it, as far as the API server names it.
    Forbidden(Option<String>),
    /// Anything else, in words.
    Other(String),
}

/// How far a kind is followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Following {
    /// Not all objects are known.
    #[default]
    Listing,
    /// All are known as they are.
    Current,
    /// They were known once, or never.
    Failed(Failure),
}

impl Following {
    /// Takes what happened to a kind. Says whether there may be something else to say.
    pub(super) fn take<K: Followed>(&mut self, change: Change<K>, cluster: &mut Cluster) -> bool {
        match change {
            Change::Started => {
                K::clear(cluster);
                self.list();
                false
            }
            Change::Applied(object) => object.apply(cluster) && *self == Self::Current,
            Change::Deleted(object) => object.remove(cluster),
            Change::Listed => self.complete(),
            Change::Failed(failure) => self.fail(failure),
        }
    }

    /// A list began. What is known of a failure stays until the list is complete.
    fn list(&mut self) {
        if *self == Self::Current {
            *self = Self::Listing;
        }
    }

    /// A list is complete, which is something to say.
    fn complete(&mut self) -> bool {
        *self = Self::Current;
        true
    }

    /// A watch failed. Says whether that is something else than before.
    fn fail(&mut self, failure: Failure) -> bool {
        let failed = Self::Failed(failure);
        let is_other = *self != failed;
        *self = failed;
        is_other
    }
}

impl Failure {
    /// What an error of a request means.
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 403 => {
                Self::Forbidden(refused_user(&status.message))
            }
            kube::Error::Api(status) => Self::Other(format!("{} {}", status.code, status.message)),
            other => Self::Other(innermost(other).to_string()),
        }
    }

    fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) if status.code == 403 => {
                Self::Forbidden(refused_user(&status.message))
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// The user of `nodes is forbidden: User "NAME" cannot list resource …`.
fn refused_user(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("User \"")?;
    rest.split_once('"').map(|(user, _)| user.to_owned())
}

/// A kind that can be followed.
pub(super) trait Followed:
    kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static
{
    /// As an event of this kind.
    fn event(change: Change<Self>) -> Event;

    /// Takes it as it is now. Says whether that made a difference.
    fn apply(&self, cluster: &mut Cluster) -> bool;

    /// Forgets it. Says whether that made a difference.
    fn remove(&self, cluster: &mut Cluster) -> bool;

    /// Forgets all of its kind.
    fn clear(cluster: &mut Cluster);
}

impl Followed for Node {
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

/// Says what happens to a kind, until nobody listens any more.
pub(super) async fn run<K: Followed>(
    api: Api<K>,
    label_selector: Option<String>,
    field_selector: Option<String>,
    events: mpsc::Sender<Event>,
) {
    let config = watcher::Config {
        label_selector,
        field_selector,
        ..watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
    };
    let mut pauses = pauses();
    loop {
        let mut watch = std::pin::pin!(watcher(api.clone(), config.clone()));
        let failure = loop {
            let change = match watch.next().await {
                Some(Ok(watcher::Event::Init)) => Change::Started,
                Some(Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => {
                    Change::Applied(Box::new(object))
                }
                Some(Ok(watcher::Event::Delete(object))) => Change::Deleted(Box::new(object)),
                Some(Ok(watcher::Event::InitDone)) => {
                    pauses = self::pauses();
                    Change::Listed
                }
                Some(Err(error)) => break Failure::of_watch(&error),
                None => break Failure::Other("the watch ended".to_owned()),
            };
            if events.send(K::event(change)).await.is_err() {
                return;
            }
        };
        if events.send(K::event(Change::Failed(failure))).await.is_err() {
            return;
        }
        sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(SHORTEST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::{Failure, Following, refused_user};

    #[test]
    fn the_refused_user_is_read_from_the_api_server_s_words() {
        let message = "nodes is forbidden: User \"system:serviceaccount:team:demo-collector\" cannot list \
                       resource \"nodes\" in API group \"\" at the cluster scope";
        assert_eq!(
            refused_user(message).as_deref(),
            Some("system:serviceaccount:team:demo-collector")
        );
        assert_eq!(refused_user("forbidden"), None);
    }

    #[test]
    fn a_failure_stays_until_all_is_listed_again() {
        let mut following = Following::default();
        assert!(following.complete());
        assert!(following.fail(Failure::Forbidden(None)));
        assert!(!following.fail(Failure::Forbidden(None)), "the same again is nothing new");
        following.list();
        assert_eq!(following, Following::Failed(Failure::Forbidden(None)));
        assert!(following.complete() && following == Following::Current);
        following.list();
        assert_eq!(following, Following::Listing);
    }
}

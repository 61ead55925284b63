//! Follows all objects of a kind.

use std::{fmt::Debug, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use kube::{Api, core::Status};
use kube_runtime::watcher::{self, watcher};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::sleep};

use crate::cause::innermost;

/// A watch is asked for again after this time, which also bounds how long a lost connection goes unnoticed.
const WATCH_SECONDS: u32 = 60;
/// Objects in one answer of a list: what is not needed of them is dropped before the next answer.
const PAGE: u32 = 200;
/// Pauses before a failed watch begins anew. The longest is short: somebody may be waiting for the effect of
/// a right that he granted.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What happened to a kind.
#[derive(Debug)]
pub(crate) enum Change<K> {
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
pub(crate) enum Failure {
    /// A right is missing; the user that lacks it, as far as the API server names it.
    Forbidden(Option<String>),
    /// The API server does not know the kind.
    UnknownKind,
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
    pub(super) fn take<K: Followed>(&mut self, change: Change<K>, known: &mut K::Known) -> bool {
        match change {
            Change::Started => {
                K::clear(known);
                self.list();
                false
            }
            Change::Applied(object) => object.apply(known) && *self == Self::Current,
            Change::Deleted(object) => object.remove(known),
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
    /// Of a question that was not answered in time.
    pub(super) fn no_answer(deadline: Duration) -> Self {
        Self::Other(format!("no answer within {} s", deadline.as_secs()))
    }

    /// What an error of a request means.
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            other => Self::Other(innermost(other).to_string()),
        }
    }

    fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) => Self::of_status(status),
            other @ watcher::Error::NoResourceVersion => Self::Other(other.to_string()),
        }
    }

    fn of_status(status: &Status) -> Self {
        match status.code {
            403 => Self::Forbidden(refused_user(&status.message)),
            404 => Self::UnknownKind,
            code => Self::Other(format!("{code} {}", status.message)),
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
    /// What is known of all objects of this kind, and of those that are followed together with it.
    type Known;
    /// What happens to any of the kinds that are followed together.
    type Event: Send;

    /// As an event of this kind.
    fn event(change: Change<Self>) -> Self::Event;

    /// Takes it as it is now. Says whether that made a difference.
    fn apply(&self, known: &mut Self::Known) -> bool;

    /// Forgets it. Says whether that made a difference.
    fn remove(&self, known: &mut Self::Known) -> bool;

    /// Forgets all of its kind.
    fn clear(known: &mut Self::Known);
}

/// Says what happens to a kind, until nobody listens any more.
pub(super) async fn run<K: Followed>(
    api: Api<K>,
    label_selector: Option<String>,
    field_selector: Option<String>,
    events: mpsc::Sender<K::Event>,
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

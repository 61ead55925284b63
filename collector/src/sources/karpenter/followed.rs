//! The two kinds that are followed.

use k8s_openapi::api::core::v1;

use super::{node_claim::NodeClaim, requests::Requests};
use crate::sources::watch::{Change, Followed};

/// Something happened to one of the two kinds.
#[derive(Debug)]
pub(crate) enum Event {
    /// To NodeClaims.
    NodeClaims(Change<NodeClaim>),
    /// To events.
    Events(Change<v1::Event>),
}

impl Followed for NodeClaim {
    type Known = Requests;
    type Event = Event;

    fn event(change: Change<Self>) -> Event {
        Event::NodeClaims(change)
    }

    fn apply(&self, requests: &mut Requests) -> bool {
        requests.apply(self)
    }

    fn remove(&self, requests: &mut Requests) -> bool {
        requests.remove(self);
        false
    }

    fn clear(requests: &mut Requests) {
        requests.remove_all();
    }
}

impl Followed for v1::Event {
    type Known = Requests;
    type Event = Event;

    fn event(change: Change<Self>) -> Event {
        Event::Events(change)
    }

    fn apply(&self, requests: &mut Requests) -> bool {
        requests.apply_event(self)
    }

    /// What happened stays true after its event is gone.
    fn remove(&self, _: &mut Requests) -> bool {
        false
    }

    fn clear(_: &mut Requests) {}
}

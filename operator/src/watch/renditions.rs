//! What became of each watch in the last pass over its portal that reached the pods' Secret. The passes over
//! portals record it, and the watches of which it has changed get a pass of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::channel::mpsc;
use kube_runtime::reflector::ObjectRef;

use super::render::{Outcome, Outcomes};
use crate::cluster::{Guarded, GuardedWatch};

/// The outcomes of every portal's watches. Clones share the content.
#[derive(Clone)]
pub struct Renditions {
    by_portal: Arc<Mutex<HashMap<ObjectRef<Guarded>, Outcomes>>>,
    changed: mpsc::UnboundedSender<ObjectRef<GuardedWatch>>,
}

impl Renditions {
    /// Without any outcome, and the stream of watches of which one has changed.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ObjectRef<GuardedWatch>>) {
        let (sender, receiver) = mpsc::unbounded();
        (Self { by_portal: Arc::default(), changed: sender }, receiver)
    }

    /// Records what became of the watches of a portal.
    pub fn record(&self, namespace: &str, portal: &str, outcomes: &Outcomes) {
        let before = self.with(|all| all.insert(key(namespace, portal), outcomes.clone()));
        let before = before.unwrap_or_default();
        let changed = outcomes.iter().filter(|(uid, new)| before.get(*uid) != Some(new));
        self.announce(namespace, changed.map(|(_, outcome)| outcome));
    }

    /// Whether anything was recorded of a portal, and what became of one of its watches.
    #[must_use]
    pub fn get(&self, namespace: &str, portal: &str, uid: &str) -> (bool, Option<Outcome>) {
        self.with(|all| match all.get(&key(namespace, portal)) {
            Some(outcomes) => (true, outcomes.get(uid).cloned()),
            None => (false, None),
        })
    }

    /// Forgets a portal that no longer exists.
    pub fn forget(&self, portal: &ObjectRef<Guarded>) {
        let forgotten = self.with(|all| all.remove(portal)).unwrap_or_default();
        let namespace = portal.namespace.as_deref().unwrap_or_default();
        self.announce(namespace, forgotten.values());
    }

    fn announce<'a>(&self, namespace: &str, outcomes: impl Iterator<Item = &'a Outcome>) {
        for outcome in outcomes {
            let watch = ObjectRef::new(&outcome.name).within(namespace);
            // After shutdown nobody listens any more.
            let _sent = self.changed.unbounded_send(watch);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<ObjectRef<Guarded>, Outcomes>) -> T) -> T {
        act(&mut self.by_portal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn key(namespace: &str, portal: &str) -> ObjectRef<Guarded> {
    ObjectRef::new(portal).within(namespace)
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc::UnboundedReceiver;
    use kube_runtime::reflector::ObjectRef;

    use super::Renditions;
    use crate::{
        cluster::GuardedWatch,
        watch::render::{Outcome, Outcomes},
    };

    fn outcomes(watches: &[(&str, i64)]) -> Outcomes {
        let outcome = |(name, generation): &(&str, i64)| {
            let outcome =
                Outcome { name: (*name).to_owned(), generation: *generation, problems: Vec::new() };
            (format!("uid-{name}"), outcome)
        };
        watches.iter().map(outcome).collect()
    }

    fn told(changes: &mut UnboundedReceiver<ObjectRef<GuardedWatch>>) -> Vec<String> {
        std::iter::from_fn(|| changes.try_recv().ok()).map(|watch| watch.name).collect()
    }

    #[test]
    fn only_watches_of_which_the_outcome_changed_are_told() {
        let (renditions, mut changes) = Renditions::new();
        assert_eq!(renditions.get("team", "demo", "uid-a"), (false, None));
        renditions.record("team", "demo", &outcomes(&[("a", 1), ("b", 1)]));
        assert_eq!(told(&mut changes), ["a", "b"]);
        renditions.record("team", "demo", &outcomes(&[("a", 1), ("b", 2)]));
        assert_eq!(told(&mut changes), ["b"]);
        renditions.record("team", "demo", &outcomes(&[("a", 1)]));
        assert_eq!(told(&mut changes), [""; 0], "b was deleted, or refers to another portal");
        assert_eq!(renditions.get("team", "demo", "uid-b"), (true, None));
        assert_eq!(renditions.get("other", "demo", "uid-a"), (false, None));
    }

    #[test]
    fn the_watches_of_a_portal_that_is_gone_are_told() {
        let (renditions, mut changes) = Renditions::new();
        renditions.record("team", "demo", &outcomes(&[("a", 1)]));
        told(&mut changes);
        renditions.forget(&ObjectRef::new("demo").within("team"));
        assert_eq!(told(&mut changes), ["a"]);
        assert_eq!(renditions.get("team", "demo", "uid-a"), (false, None));
    }
}

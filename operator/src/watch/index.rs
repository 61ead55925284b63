//! Which watches there are, and which portals have to be reconciled when one changes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crds::HardwareWatch;
use futures::{Stream, StreamExt, channel::mpsc};
use kube::{Client, Resource, ResourceExt};
use kube_runtime::{
    Predicate, PredicateConfig, WatchStreamExt, predicates,
    reflector::{self, ObjectRef, Store},
    watcher::{self, Event, watcher},
};
use tracing::warn;

use crate::cluster::{
    Guarded, GuardedWatch,
    cache::{PAGE, describe_watch_error, unlisted_message},
    scope::Scope,
};

/// The watches of one scope, as the API server last delivered them. Clones share the content.
#[derive(Clone)]
pub struct WatchIndex {
    scope: Scope,
    store: Store<GuardedWatch>,
    /// Why the last list or watch failed.
    failure: Arc<RwLock<Option<String>>>,
}

/// An index, and the streams that come with it.
pub struct Followed<S> {
    /// The index, which is up to date as long as `watches` is polled.
    pub index: WatchIndex,
    /// Every watch whose spec or metadata changed.
    pub watches: S,
    /// Every portal that a changed watch refers to, or referred to before.
    pub portals: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
}

impl WatchIndex {
    /// Starts to follow the watches of a scope.
    #[must_use]
    pub fn follow(
        client: &Client,
        scope: &Scope,
    ) -> Followed<impl Stream<Item = Result<GuardedWatch, watcher::Error>> + Send + 'static> {
        let (store, writer) = reflector::store();
        let index = Self { scope: scope.clone(), store, failure: Arc::default() };
        let (sender, portals) = mpsc::unbounded();
        let references = Mutex::new(References::default());
        let observer = index.clone();
        let watches = watcher(scope.api(client), watcher::Config::default().page_size(PAGE))
            .modify(|watch: &mut GuardedWatch| watch.meta_mut().managed_fields = None)
            // Before the portals are told, so that their passes find what has changed.
            .reflect(writer)
            .inspect(move |event| {
                observer.record_failure(event.as_ref());
                let Ok(event) = event else { return };
                let mut references = references.lock().unwrap_or_else(PoisonError::into_inner);
                for portal in references.observe(event) {
                    // After shutdown nobody listens any more.
                    let _sent = sender.unbounded_send(portal);
                }
            })
            .applied_objects()
            // A change of the status is this operator's own and needs no pass.
            .predicate_filter(
                predicates::generation.combine(predicates::labels),
                PredicateConfig::default(),
            );
        Followed { index, watches, portals }
    }

    /// The watches of a store that a test fills.
    #[cfg(test)]
    pub(super) fn of(store: Store<GuardedWatch>) -> Self {
        Self { scope: Scope::Cluster, store, failure: Arc::default() }
    }

    /// Every watch.
    #[must_use]
    pub fn store(&self) -> Store<GuardedWatch> {
        self.store.clone()
    }

    /// The watches that refer to a portal, by name. Those that cannot be read refer to none.
    #[must_use]
    pub fn of_portal(&self, namespace: &str, portal: &str) -> Vec<Arc<GuardedWatch>> {
        let mut found = self.store.state_filter(|watch| {
            let refers = |watch: &HardwareWatch| watch.spec.portal_ref.name == portal;
            watch.meta().namespace.as_deref() == Some(namespace)
                && watch.0.as_ref().is_ok_and(refers)
        });
        found.sort_by_key(|watch| watch.name_any());
        found
    }

    /// Waits until the initial list is complete. Before that, a portal's document would lack watches.
    pub async fn wait_until_listed(&self) {
        if self.store.wait_until_ready().await.is_err() {
            // The process is about to end, and nothing may be decided from what is not known.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the list fails, and is not merely late.
    #[must_use]
    pub fn has_failed_list(&self) -> bool {
        self.failure.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A message that says why the watches have not been listed.
    #[must_use]
    pub fn describe_unlisted(&self) -> String {
        let failure = self.failure.read().unwrap_or_else(PoisonError::into_inner);
        let why = failure.as_deref().unwrap_or("no answer yet");
        unlisted_message(&[format!("HardwareWatch ({why})")], &self.scope)
    }

    fn record_failure(&self, event: Result<&Event<GuardedWatch>, &watcher::Error>) {
        let failure = match event {
            // The watcher emits it before each list, even if the list then fails.
            Ok(Event::Init) => return,
            Ok(_) => None,
            Err(error) => {
                warn!(%error, "the watch on HardwareWatch was interrupted and starts again");
                Some(describe_watch_error(error))
            }
        };
        *self.failure.write().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// A watch that a portal's document may hold. Two that are equal are rendered alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference {
    portal: ObjectRef<Guarded>,
    uid: Option<String>,
    generation: Option<i64>,
}

/// Which portal each watch refers to.
#[derive(Default)]
struct References {
    known: HashMap<ObjectRef<GuardedWatch>, Reference>,
    /// What the list that is under way has given so far.
    listed: HashMap<ObjectRef<GuardedWatch>, Reference>,
}

impl References {
    /// Takes an event, and gives the portals whose document it may change.
    fn observe(&mut self, event: &Event<GuardedWatch>) -> HashSet<ObjectRef<Guarded>> {
        match event {
            Event::Init => {
                self.listed.clear();
                HashSet::new()
            }
            Event::InitApply(watch) => {
                if let Some(reference) = reference_of(watch) {
                    self.listed.insert(ObjectRef::from_obj(watch), reference);
                }
                HashSet::new()
            }
            // Only now the store holds what was listed.
            Event::InitDone => {
                let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listed));
                let gone_or_old =
                    before.iter().filter(|(key, old)| self.known.get(key) != Some(old));
                let new = self.known.iter().filter(|(key, new)| before.get(key) != Some(new));
                gone_or_old.chain(new).map(|(_, reference)| reference.portal.clone()).collect()
            }
            Event::Apply(watch) => self.replace(&ObjectRef::from_obj(watch), reference_of(watch)),
            Event::Delete(watch) => self.replace(&ObjectRef::from_obj(watch), None),
        }
    }

    fn replace(
        &mut self,
        key: &ObjectRef<GuardedWatch>,
        new: Option<Reference>,
    ) -> HashSet<ObjectRef<Guarded>> {
        let old = match new.clone() {
            Some(new) => self.known.insert(key.clone(), new),
            None => self.known.remove(key),
        };
        if old == new {
            return HashSet::new();
        }
        old.into_iter().chain(new).map(|reference| reference.portal).collect()
    }
}

fn reference_of(watch: &GuardedWatch) -> Option<Reference> {
    let watch = watch.0.as_ref().ok()?;
    let portal = ObjectRef::new(&watch.spec.portal_ref.name);
    Some(Reference {
        portal: portal.within(watch.meta().namespace.as_deref().unwrap_or_default()),
        uid: watch.uid(),
        generation: watch.meta().generation,
    })
}

#[cfg(test)]
mod tests {
    use kube_runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::References;
    use crate::cluster::GuardedWatch;

    fn watch(name: &str, generation: i64, portal: &str) -> GuardedWatch {
        let slack = json!({"slack": {"urlFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}});
        let spec = json!({
            "portalRef": {"name": portal}, "match": {"name": "p5"}, "deliver": [slack],
        });
        object(name, generation, &spec)
    }

    fn object(name: &str, generation: i64, spec: &Value) -> GuardedWatch {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwareWatch",
            "metadata": {
                "name": name, "namespace": "team", "generation": generation, "uid": format!("u-{name}"),
            },
            "spec": spec,
        }))
        .expect("an object")
    }

    fn told(references: &mut References, event: &Event<GuardedWatch>) -> Vec<String> {
        let mut told: Vec<String> =
            references.observe(event).into_iter().map(|portal| portal.name).collect();
        told.sort();
        told
    }

    #[test]
    fn a_watch_that_is_made_moved_or_deleted_concerns_its_portals_and_its_status_does_not() {
        let mut known = References::default();
        assert_eq!(told(&mut known, &Event::Apply(watch("w", 1, "a"))), ["a"]);
        assert_eq!(told(&mut known, &Event::Apply(watch("w", 1, "a"))), [""; 0], "its status");
        assert_eq!(told(&mut known, &Event::Apply(watch("w", 2, "a"))), ["a"]);
        assert_eq!(told(&mut known, &Event::Apply(watch("w", 3, "b"))), ["a", "b"]);
        assert_eq!(told(&mut known, &Event::Delete(watch("w", 3, "b"))), ["b"]);
        assert_eq!(told(&mut known, &Event::Delete(watch("w", 3, "b"))), [""; 0], "once");
    }

    #[test]
    fn one_that_cannot_be_read_any_more_is_taken_from_its_portal() {
        let mut known = References::default();
        assert_eq!(told(&mut known, &Event::Apply(watch("w", 1, "a"))), ["a"]);
        let malformed = object("w", 2, &json!({"portalRef": 7}));
        assert!(malformed.0.is_err(), "it is no watch");
        assert_eq!(told(&mut known, &Event::Apply(malformed)), ["a"]);
    }

    #[test]
    fn a_new_list_concerns_only_the_portals_of_what_was_missed_and_only_once_it_is_complete() {
        let mut known = References::default();
        for event in [watch("same", 1, "a"), watch("moved", 1, "b"), watch("gone", 1, "c")] {
            told(&mut known, &Event::Apply(event));
        }
        for event in [
            Event::Init,
            Event::InitApply(watch("same", 1, "a")),
            Event::InitApply(watch("moved", 2, "d")),
            Event::InitApply(watch("new", 1, "e")),
        ] {
            assert_eq!(told(&mut known, &event), [""; 0], "the store does not hold it yet");
        }
        assert_eq!(told(&mut known, &Event::InitDone), ["b", "c", "d", "e"]);
    }
}

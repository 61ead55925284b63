//! What was written of each child, so that nothing is written twice and at rest nothing is compared.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::cluster::cache::Child;

/// A watch that has not shown a write for this long has lost it, or somebody has undone it.
pub(super) const LAG: Duration = Duration::from_secs(10);

/// The last write of one child.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Of the child as it was rendered.
    pub(super) hash: [u8; 32],
    /// The version that is known to hold everything rendered.
    version: String,
    /// Until the watch shows that version.
    pending: Option<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    /// The version that the watch showed when it was written.
    before: Option<String>,
    /// What the API server answered.
    answer: Arc<Child>,
    at: Instant,
}

impl Record {
    /// A write that was just answered; `before` is the version that the watch showed until then.
    pub(super) fn new(hash: [u8; 32], before: Option<String>, answer: Arc<Child>) -> Self {
        let version = answer.version.clone();
        Self { hash, version, pending: Some(Pending { before, answer, at: Instant::now() }) }
    }

    /// A child that was found to hold everything rendered.
    pub(super) fn found(hash: [u8; 32], seen: &Child) -> Self {
        Self { hash, version: seen.version.clone(), pending: None }
    }

    /// The child as it is, if what the watch shows is known to hold everything rendered, or to be
    /// older than the write. `has_ended` says of a uid whether the watch has shown its end: what was made
    /// and deleted since looks like what was never shown.
    pub(super) fn settle(
        &mut self,
        seen: Option<&Arc<Child>>,
        has_ended: impl FnOnce(&str) -> bool,
    ) -> Option<Arc<Child>> {
        let version = seen.map(|child| &child.version);
        if version == Some(&self.version) {
            self.pending = None;
            return seen.cloned();
        }
        let pending = self.pending.as_ref()?;
        let is_lagging = pending.before.as_ref() == version
            && pending.at.elapsed() < LAG
            && !has_ended(&pending.answer.uid);
        is_lagging.then(|| Arc::clone(&pending.answer))
    }

    /// Whether the watch has not shown the write yet.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// A second write, by another field manager, that follows the first.
    pub(super) fn supersede(&mut self, answer: &Arc<Child>) {
        self.version.clone_from(&answer.version);
        if let Some(pending) = &mut self.pending {
            pending.answer = Arc::clone(answer);
        }
    }

    /// Takes note that another version holds everything rendered as well.
    pub(super) fn confirm(&mut self, seen: &Child) {
        self.version.clone_from(&seen.version);
        self.pending = None;
    }
}

/// The records of all portals, by uid of the portal and then by kind and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    records: Arc<Mutex<HashMap<String, Records>>>,
}

type Records = HashMap<(String, String), Record>;

impl Written {
    pub(super) fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.retain(|uid, _| is_alive(uid));
    }

    /// Looks at the records of one portal, or changes them.
    pub(super) fn of<T>(&self, uid: &str, act: impl FnOnce(&mut Records) -> T) -> T {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        act(records.entry(uid.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::api::DynamicObject;
    use serde_json::json;
    use tokio::time::advance;

    use super::{LAG, Record};
    use crate::cluster::cache::Child;

    fn child(version: &str) -> Arc<Child> {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a", "uid": version, "resourceVersion": version},
        }))
        .expect("an object");
        Arc::new(Child::new("Service", object))
    }

    fn never(_: &str) -> bool {
        false
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_lags_behind_a_write_is_no_difference_for_a_while() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert_eq!(record.settle(None, never).expect("not shown yet").version, "5");
        advance(LAG).await;
        assert!(record.settle(None, never).is_none(), "it was deleted, or the watch has lost it");
        let mut record = Record::new([0; 32], Some("3".to_owned()), child("5"));
        assert_eq!(record.settle(Some(&child("3")), never).expect("not shown yet").version, "5");
        assert!(record.settle(None, never).is_none(), "it was deleted meanwhile");
        assert!(record.settle(Some(&child("6")), never).is_none(), "somebody has changed it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_before_the_watch_showed_it_is_gone() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.settle(None, |uid| uid == "5").is_none());
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.settle(None, |uid| uid == "4").is_some(), "that was the one before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_was_confirmed_is_not_looked_at_again() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.settle(Some(&child("5")), never).is_some());
        assert!(record.settle(None, never).is_none(), "once it was shown, absent is deleted");
        record.confirm(&child("9"));
        assert!(record.settle(Some(&child("9")), never).is_some());
        assert!(record.settle(Some(&child("5")), never).is_none());
    }
}

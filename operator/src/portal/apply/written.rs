//! Records of what was written of each child. With them an unchanged child is neither written again nor
//! compared field by field.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::cluster::cache::Child;

/// A write that the watch does not show within this time is taken as undone.
pub(super) const LAG: Duration = Duration::from_secs(10);

/// The last write of one child.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Of the child as it was rendered.
    pub(super) hash: [u8; 32],
    /// The resourceVersion that is known to hold everything rendered.
    resource_version: String,
    /// Set until the watch shows that resourceVersion.
    pending: Option<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    /// The resourceVersion that the watch showed at the time of the write.
    before: Option<String>,
    /// The child in the response of the API server.
    answer: Arc<Child>,
    at: Instant,
}

impl Record {
    /// A write that just succeeded; `before` is the resourceVersion that the watch showed until then.
    pub(super) fn new(hash: [u8; 32], before: Option<String>, answer: Arc<Child>) -> Self {
        let resource_version = answer.resource_version.clone();
        Self {
            hash,
            resource_version,
            pending: Some(Pending { before, answer, at: Instant::now() }),
        }
    }

    /// A child that was found to hold everything rendered.
    pub(super) fn found(hash: [u8; 32], seen: &Child) -> Self {
        Self { hash, resource_version: seen.resource_version.clone(), pending: None }
    }

    /// The current child, if the version that the watch shows is known to hold everything rendered or to be
    /// older than the write. `was_deleted` tells of a uid whether the watch has shown its deletion: a child
    /// that was created and deleted is missing like one that the watch has not shown yet.
    pub(super) fn current(
        &mut self,
        seen: Option<&Arc<Child>>,
        was_deleted: impl FnOnce(&str) -> bool,
    ) -> Option<Arc<Child>> {
        let shown = seen.map(|child| &child.resource_version);
        if shown == Some(&self.resource_version) {
            self.pending = None;
            return seen.cloned();
        }
        let pending = self.pending.as_ref()?;
        let is_lagging = pending.before.as_ref() == shown
            && pending.at.elapsed() < LAG
            && !was_deleted(&pending.answer.uid);
        is_lagging.then(|| Arc::clone(&pending.answer))
    }

    /// Whether the watch has not shown the write yet.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Records a second write of the same child, by another field manager.
    pub(super) fn supersede(&mut self, answer: &Arc<Child>) {
        let version = answer.resource_version.clone();
        let first = std::mem::replace(&mut self.resource_version, version);
        // Without a pending write, the watch shows the version that was known until now.
        let before = self.pending.take().map_or(Some(first), |pending| pending.before);
        self.pending = Some(Pending { before, answer: Arc::clone(answer), at: Instant::now() });
    }

    /// Records that another version holds everything rendered as well.
    pub(super) fn confirm(&mut self, seen: &Child) {
        self.resource_version.clone_from(&seen.resource_version);
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

    /// Reads or changes the records of one portal.
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
    async fn a_watch_that_lags_behind_a_write_shows_no_difference_until_the_lag_is_over() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert_eq!(record.current(None, never).expect("not shown yet").resource_version, "5");
        advance(LAG).await;
        assert!(record.current(None, never).is_none(), "it was deleted, or the watch has lost it");
        let mut record = Record::new([0; 32], Some("3".to_owned()), child("5"));
        assert_eq!(
            record.current(Some(&child("3")), never).expect("not shown yet").resource_version,
            "5"
        );
        assert!(record.current(None, never).is_none(), "it was deleted meanwhile");
        assert!(record.current(Some(&child("6")), never).is_none(), "somebody has changed it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_deleted_before_the_watch_showed_it_is_not_current() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.current(None, |uid| uid == "5").is_none());
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.current(None, |uid| uid == "4").is_some(), "that was the one before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_write_is_current_until_the_watch_shows_it() {
        let mut written = Record::new([0; 32], Some("3".to_owned()), child("5"));
        let mut found = Record::found([0; 32], &child("3"));
        for record in [&mut written, &mut found] {
            record.supersede(&child("6"));
            let lagging = record.current(Some(&child("3")), never).expect("not shown yet");
            assert_eq!(lagging.resource_version, "6");
            assert!(record.current(Some(&child("7")), never).is_none(), "somebody has changed it");
            assert!(record.current(Some(&child("6")), never).is_some());
            assert!(!record.is_pending(), "it was shown");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_was_confirmed_is_not_compared_again() {
        let mut record = Record::new([0; 32], None, child("5"));
        assert!(record.current(Some(&child("5")), never).is_some());
        assert!(record.current(None, never).is_none(), "once it was shown, absent is deleted");
        record.confirm(&child("9"));
        assert!(record.current(Some(&child("9")), never).is_some());
        assert!(record.current(Some(&child("5")), never).is_none());
    }
}

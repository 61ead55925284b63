//! Writes the status of a watch when it differs from the last one, and the events that go with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crds::{HardwareWatch, HardwareWatchStatus, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::cluster::{events::Events, merge_patch::difference};

/// Writes the statuses of all watches.
pub struct WatchPublisher {
    client: Client,
    events: Events,
    /// The last status of each watch, by its uid.
    last: Mutex<HashMap<String, Last>>,
}

/// A status that was written.
struct Last {
    /// The watch's version when it was decided. As long as the reflector shows that, `status` is newer than
    /// what the watch holds.
    decided_on: Option<String>,
    status: HardwareWatchStatus,
}

impl WatchPublisher {
    /// A publisher that has written nothing yet.
    #[must_use]
    pub fn new(client: Client, events: Events) -> Self {
        Self { client, events, last: Mutex::default() }
    }

    /// Forgets watches that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        self.with(|last| last.retain(|uid, _| is_alive(uid)));
    }

    /// The watch with the status that was written last, where the reflector lags behind it.
    #[must_use]
    pub fn up_to_date(&self, watch: &HardwareWatch) -> HardwareWatch {
        let uid = watch.uid().unwrap_or_default();
        let newer = self.with(|last| {
            last.retain(|its, one| *its != uid || one.decided_on == watch.resource_version());
            last.get(&uid).map(|one| one.status.clone())
        });
        HardwareWatch { status: newer.or_else(|| watch.status.clone()), ..watch.clone() }
    }

    /// Writes a status if it differs from that of the watch.
    pub async fn publish(
        &self,
        watch: &HardwareWatch,
        status: &HardwareWatchStatus,
    ) -> Result<(), kube::Error> {
        if watch.status.as_ref() == Some(status) {
            return Ok(());
        }
        let name = watch.name_any();
        let namespace = watch.namespace().unwrap_or_default();
        let watches: Api<HardwareWatch> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"status": difference(&json!(watch.status), json!(status))});
        match watches.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {}
            // Deleted meanwhile.
            Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
            Err(error) => return Err(error),
        }
        let written = Last { decided_on: watch.resource_version(), status: status.clone() };
        self.with(|last| last.insert(watch.uid().unwrap_or_default(), written));
        let old = watch.status.as_ref().map(|old| old.conditions.as_slice());
        for condition in news(old.unwrap_or_default(), &status.conditions) {
            let Condition { type_, status, reason, message, .. } = condition;
            let note = format!("{type_} is {status}: {message}");
            let is_good = status == "True";
            self.events.publish(watch.object_ref(&()), is_good, reason, note).await;
        }
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Last>) -> T) -> T {
        act(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The conditions worth an event: those that somebody has to do something about, and those that are good
/// again. A message that changes by itself, such as the number of attempts, is none.
fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_ordinary = |condition: &Condition| {
        [Reason::RolloutPending, Reason::SuspendedBySpec, Reason::HardwareUnreachable]
            .iter()
            .any(|reason| reason.as_str() == condition.reason)
    };
    let is_news = |condition: &&Condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let differs = before.is_none_or(|before| {
            (&before.status, &before.reason) != (&condition.status, &condition.reason)
        });
        let is_mended = condition.status == "True"
            && before.is_some_and(|before| before.status != "True" && !is_ordinary(before));
        differs && (is_mended || condition.status == "False" && !is_ordinary(condition))
    };
    new.iter().filter(is_news).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::news;

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
        serde_json::from_value(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .expect("a condition")
    }

    #[test]
    fn failures_and_their_ends_are_news_and_what_every_watch_goes_through_is_not() {
        let pending = condition("Ready", "False", "RolloutPending", "m");
        let watching = condition("Ready", "True", "Watching", "m");
        let missing = condition("Ready", "False", "SecretNotFound", "m");
        let failing = |message| condition("Delivering", "False", "DeliveryFailing", message);
        let delivered = condition("Delivering", "True", "AsExpected", "");
        for (old, new, expected) in [
            (None, &pending, false),
            (Some(&pending), &watching, false),
            (Some(&watching), &missing, true),
            (Some(&missing), &watching, true),
            (None, &missing, true),
            (Some(&delivered), &failing("tried once"), true),
            (Some(&failing("tried once")), &failing("tried 2 times"), false),
            (Some(&failing("tried 2 times")), &delivered, true),
        ] {
            let old: Vec<Condition> = old.into_iter().cloned().collect();
            let found = news(&old, std::slice::from_ref(new));
            assert_eq!(!found.is_empty(), expected, "{old:?} to {new:?}");
        }
    }
}

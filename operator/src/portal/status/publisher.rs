//! Writes the status when it differs from the last one, and the events that go with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crds::{ConditionType, HardwarePortal, HardwarePortalStatus};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::transitions::publish_transitions;
use crate::cluster::{events::Events, merge_patch::difference};

/// During a rollout, counts and reasons change several times. A new status waits until the last one is
/// this old, unless the portal became ready or ceased to be.
pub const PAUSE: Duration = Duration::from_secs(5);
/// The same for the steps of a rotation, at most: they are watched by whoever asked for it.
const PAUSE_OF_CREDENTIALS: Duration = Duration::from_secs(1);

/// Writes the statuses of all portals.
pub struct StatusPublisher {
    client: Client,
    events: Events,
    pause: Duration,
    /// The last status of each portal, by its uid.
    last: Mutex<HashMap<String, Last>>,
}

/// A status that was written.
struct Last {
    at: Instant,
    /// The portal's version when it was decided. As long as the watch shows that, `status` is newer
    /// than what the portal holds.
    decided_on: Option<String>,
    /// None once the watch has shown another version.
    status: Option<HardwarePortalStatus>,
}

impl StatusPublisher {
    /// A publisher that has written nothing yet, and pauses between two statuses: see [`PAUSE`].
    #[must_use]
    pub fn new(client: Client, events: Events, pause: Duration) -> Self {
        Self { client, events, pause, last: Mutex::default() }
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|uid, _| is_alive(uid));
    }

    /// The portal with the status that was written last, where the watch lags behind it.
    #[must_use]
    pub fn up_to_date(&self, portal: &HardwarePortal) -> HardwarePortal {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = last.get_mut(&portal.uid().unwrap_or_default()).and_then(|last| {
            last.status.take_if(|_| last.decided_on != portal.resource_version());
            last.status.clone()
        });
        HardwarePortal { status: newer.or_else(|| portal.status.clone()), ..portal.clone() }
    }

    /// Writes a status if it differs from that of the portal. Gives the time after which to try again, if
    /// it is too early for one that is not urgent.
    pub async fn publish(
        &self,
        portal: &HardwarePortal,
        status: HardwarePortalStatus,
        is_urgent: bool,
    ) -> Result<Option<Duration>, kube::Error> {
        if portal.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        if let Some(early) = self.is_early(portal, &status).filter(|_| !is_urgent) {
            return Ok(Some(early));
        }
        let name = portal.name_any();
        let namespace = portal.namespace().unwrap_or_default();
        let portals: Api<HardwarePortal> = Api::namespaced(self.client.clone(), &namespace);
        let patch =
            Patch::Merge(json!({"status": difference(&json!(portal.status), json!(status))}));
        match portals.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            // Deleted meanwhile.
            Err(kube::Error::Api(error)) if error.code == 404 => return Ok(None),
            Err(error) => return Err(error),
        }
        self.remember(portal, &status);
        publish_transitions(&self.events, portal, &status).await;
        Ok(None)
    }

    fn is_early(&self, portal: &HardwarePortal, new: &HardwarePortalStatus) -> Option<Duration> {
        let old = portal.status.as_ref()?;
        if readiness(old) != readiness(new) {
            return None;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let age = last.get(&portal.uid().unwrap_or_default())?.at.elapsed();
        let rotates = old.credentials != new.credentials;
        let pause = if rotates { self.pause.min(PAUSE_OF_CREDENTIALS) } else { self.pause };
        pause.checked_sub(age).filter(|left| !left.is_zero())
    }

    fn remember(&self, portal: &HardwarePortal, status: &HardwarePortalStatus) {
        let written = Last {
            at: Instant::now(),
            decided_on: portal.resource_version(),
            status: Some(status.clone()),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(portal.uid().unwrap_or_default(), written);
    }
}

/// The generation that the status is of, and the one that is ready, if one is. Both are waited for.
fn readiness(status: &HardwarePortalStatus) -> (Option<i64>, Option<i64>) {
    let mut conditions = status.conditions.iter();
    let ready =
        conditions.find(|one| one.type_ == ConditionType::Ready.as_str() && one.status == "True");
    (status.observed_generation, ready.map(|ready| ready.observed_generation.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::{future, io, time::Duration};

    use crds::{CredentialsStatus, HardwarePortal, HardwarePortalStatus};
    use http::{Request, Response};
    use kube::{Client, client::Body};
    use serde_json::json;
    use tokio::time::advance;
    use tower::service_fn;

    use super::{PAUSE, StatusPublisher};
    use crate::cluster::events::Events;

    /// One whose API server fails.
    fn publisher() -> StatusPublisher {
        let service = service_fn(|request: Request<Body>| {
            let error = io::Error::other(format!("{} was asked for", request.uri()));
            future::ready(Err::<Response<Body>, _>(error))
        });
        let client = Client::new(service, "default");
        StatusPublisher::new(client.clone(), Events::new(client, "test".to_owned()), PAUSE)
    }

    fn status(ready: &str, reason: &str) -> HardwarePortalStatus {
        let condition = json!({
            "type": "Ready", "status": ready, "reason": reason, "message": "",
            "lastTransitionTime": "2026-06-01T12:00:00Z",
        });
        serde_json::from_value(json!({"observedGeneration": 1, "conditions": [condition]}))
            .expect("a status")
    }

    fn portal(version: &str, status: &HardwarePortalStatus) -> HardwarePortal {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p", "uid": "u", "resourceVersion": version},
            "spec": {}, "status": status,
        }))
        .expect("a portal")
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_waits_unless_readiness_or_a_rotation_changed() {
        let (publisher, last) = (publisher(), status("False", "Progressing"));
        let portal = portal("1", &last);
        let other_reason = status("False", "ImagePullBackOff");
        assert_eq!(publisher.is_early(&portal, &other_reason), None, "nothing was written yet");
        publisher.remember(&portal, &last);
        advance(Duration::from_secs(1)).await;
        assert_eq!(publisher.is_early(&portal, &other_reason), Some(Duration::from_secs(4)));
        assert_eq!(publisher.is_early(&portal, &status("True", "AsExpected")), None);
        let of_another_spec = HardwarePortalStatus { observed_generation: Some(2), ..last.clone() };
        assert_eq!(publisher.is_early(&portal, &of_another_spec), None);
        let rotating =
            HardwarePortalStatus { credentials: Some(CredentialsStatus::default()), ..last };
        assert_eq!(publisher.is_early(&portal, &rotating), None);
        advance(PAUSE).await;
        assert_eq!(publisher.is_early(&portal, &other_reason), None);
    }

    #[tokio::test]
    async fn the_status_that_was_written_counts_until_the_watch_shows_another_version() {
        let (publisher, old, new) = (publisher(), status("False", "A"), status("True", "B"));
        publisher.remember(&portal("1", &old), &new);
        assert_eq!(publisher.up_to_date(&portal("1", &old)).status, Some(new.clone()));
        let by_somebody = status("True", "C");
        assert_eq!(publisher.up_to_date(&portal("2", &by_somebody)).status, Some(by_somebody));
        assert_eq!(publisher.up_to_date(&portal("3", &new)).status, Some(new));
    }
}

//! Events of a portal: one for each turn of a condition that a person would want to know of.

use crds::{
    ConditionType, HardwarePortal, HardwarePortalStatus, Reason, RotationOutcome, RotationRecord,
};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ObjectMeta, PostParams},
};
use tracing::warn;

/// Bytes of a note, by the API's own rule.
const LONGEST_NOTE: usize = 1024;

/// Writes events in the portals' namespaces.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
}

impl Events {
    /// Events that name `instance`, the operator's pod, as their reporter.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance }
    }

    /// Publishes an event for each condition that turned, and for Ready also when the reason or the
    /// message did. An event that is lost is only logged: the status says the same.
    pub async fn publish_transitions(&self, portal: &HardwarePortal, new: &HardwarePortalStatus) {
        let before = portal.status.as_ref();
        let old = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
        for condition in turned(old, &new.conditions) {
            let Condition { type_, status, reason, message, .. } = condition;
            let note = format!("{type_} is {status}: {message}");
            let is_good = status == "True" || is_on_its_way(reason);
            self.publish(portal, self.event(portal, is_good, reason, note)).await;
        }
        for entry in ended(before, new) {
            let RotationRecord { generation, reason, outcome, .. } = entry;
            let is_good = *outcome == RotationOutcome::Completed;
            let note = format!(
                "the credential's rotation ended with generation {generation} ({reason:?})"
            );
            let word = if is_good { Reason::Rotated } else { Reason::RolledBack };
            self.publish(portal, self.event(portal, is_good, word.as_str(), note)).await;
        }
    }

    /// Says which accounts a deleted portal leaves on its server. Nothing else will remember them.
    pub async fn publish_accounts_left(
        &self,
        portal: &HardwarePortal,
        accounts: &[String],
        why: &str,
    ) {
        let note = format!("left on the database server: {}; {why}", accounts.join(", "));
        self.publish(portal, self.event(portal, false, Reason::AccountsLeft.as_str(), note)).await;
    }

    /// Says why an object is no portal.
    pub async fn publish_malformed(&self, object: &DynamicObject, message: String) {
        let regarding = object.object_ref(&ApiResource::erase::<HardwarePortal>(&()));
        let event = self.event_about(regarding, false, Reason::InvalidSpec.as_str(), message);
        self.publish(object, event).await;
    }

    async fn publish(&self, object: &impl ResourceExt, event: Event) {
        let namespace = object.namespace().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            warn!(namespace, name = object.name_any(), %error, "failed to publish an event");
        }
    }

    fn event(&self, portal: &HardwarePortal, is_good: bool, reason: &str, note: String) -> Event {
        self.event_about(portal.object_ref(&()), is_good, reason, note)
    }

    fn event_about(
        &self,
        regarding: ObjectReference,
        is_good: bool,
        reason: &str,
        mut note: String,
    ) -> Event {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        Event {
            metadata: ObjectMeta {
                generate_name: regarding.name.as_ref().map(|name| format!("{name}-")),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(jiff::Timestamp::now())),
            note: Some(note),
            reason: Some(reason.to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some("gill-hicks.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if is_good { "Normal" } else { "Warning" }.to_owned()),
            ..Event::default()
        }
    }
}

/// The rotations that ended since the last status.
fn ended<'a>(
    before: Option<&HardwarePortalStatus>,
    new: &'a HardwarePortalStatus,
) -> impl Iterator<Item = &'a RotationRecord> {
    let of = |status: &HardwarePortalStatus| {
        status.credentials.as_ref().and_then(|it| it.history.first()).map(|one| one.generation)
    };
    let last = before.and_then(of).unwrap_or_default();
    let history = new.credentials.iter().flat_map(|credentials| &credentials.history);
    history.filter(move |entry| entry.generation > last)
}

/// What every portal goes through: no reason to worry anybody.
fn is_on_its_way(reason: &str) -> bool {
    let ordinary = [
        Reason::NotCreated,
        Reason::RollingOut,
        Reason::MinimumReplicasUnavailable,
        Reason::Migrating,
    ];
    ordinary.iter().any(|one| one.as_str() == reason)
}

/// Whether progress has come to an end that somebody has to know of. What the API server fails to do
/// comes and goes.
fn is_stuck(condition: &Condition) -> bool {
    let calm = [Reason::AsExpected, Reason::SuspendedBySpec, Reason::ApiError];
    condition.status == "False" && !calm.iter().any(|one| one.as_str() == condition.reason)
}

/// The conditions worth an event. Suspended turns with what the user does, and AutoscalingActive with
/// every start.
fn turned<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |condition: &&Condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let has_turned = before.is_some_and(|before| before.status != condition.status);
        let says_else = before.is_none_or(|before| {
            (&before.reason, &before.message) != (&condition.reason, &condition.message)
        });
        match condition.type_.as_str() {
            kind if kind == ConditionType::Ready.as_str() => has_turned || says_else,
            // Where it is in the way of Ready, that says it already.
            kind if kind == ConditionType::Progressing.as_str() => {
                is_stuck(condition) && says_else && !is_said_by_ready(condition, new)
            }
            kind if kind == ConditionType::CredentialsReady.as_str()
                || kind == ConditionType::DatabaseReady.as_str() =>
            {
                has_turned
            }
            _ => false,
        }
    };
    new.iter().filter(is_news).collect()
}

fn is_said_by_ready(condition: &Condition, new: &[Condition]) -> bool {
    let ready = new.iter().find(|one| one.type_ == ConditionType::Ready.as_str());
    ready.is_some_and(|ready| ready.status == "False" && ready.reason == condition.reason)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::{is_on_its_way, turned};

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
        serde_json::from_value(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .expect("a condition")
    }

    fn published(old: &[Condition], new: &[Condition]) -> Vec<String> {
        turned(old, new).into_iter().map(|it| format!("{} {}", it.type_, it.reason)).collect()
    }

    #[test]
    fn a_refusal_that_leaves_a_portal_serving_is_told_once() {
        let serving = condition("Ready", "True", "AsExpected", "");
        let before = [serving.clone(), condition("Progressing", "False", "AsExpected", "")];
        let after = [serving, condition("Progressing", "False", "Refused", "by policy p")];
        assert_eq!(published(&before, &after), ["Progressing Refused"]);
        assert_eq!(published(&after, &after), [""; 0], "nothing new");
    }

    #[test]
    fn what_is_in_the_way_of_ready_is_told_by_ready_alone() {
        let after = [
            condition("Ready", "False", "Refused", "by quota q"),
            condition("Progressing", "False", "Refused", "by quota q"),
        ];
        assert_eq!(published(&[], &after), ["Ready Refused"]);
    }

    #[test]
    fn a_faltering_api_server_and_ordinary_steps_warn_nobody() {
        let before = [condition("Progressing", "False", "AsExpected", "")];
        for (status, reason) in
            [("False", "ApiError"), ("False", "SuspendedBySpec"), ("True", "RollingOut")]
        {
            let after = [condition("Progressing", status, reason, "m")];
            assert_eq!(published(&before, &after), [""; 0], "{reason}");
        }
        assert!(is_on_its_way("Migrating") && !is_on_its_way("ImagePullBackOff"));
    }
}

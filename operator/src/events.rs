//! Events of a portal: one for each turn of a condition that a person would want to know of.

use crds::{
    ConditionType, HardwarePortal, HardwarePortalStatus, Reason, RotationOutcome, RotationRecord,
};
use k8s_openapi::{
    api::events::v1::Event,
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
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
            self.publish(portal, self.event(portal, status == "True", reason, note)).await;
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

    async fn publish(&self, portal: &HardwarePortal, event: Event) {
        let namespace = portal.namespace().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            warn!(namespace, name = portal.name_any(), %error, "failed to publish an event");
        }
    }

    fn event(
        &self,
        portal: &HardwarePortal,
        is_good: bool,
        reason: &str,
        mut note: String,
    ) -> Event {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", portal.name_any())),
                namespace: portal.namespace(),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(jiff::Timestamp::now())),
            note: Some(note),
            reason: Some(reason.to_owned()),
            regarding: Some(portal.object_ref(&())),
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

/// The conditions worth an event. Progressing and Suspended turn with what the user does, and
/// AutoscalingActive with every start.
fn turned<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |condition: &&Condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let has_turned = before.is_some_and(|before| before.status != condition.status);
        let says_else = before.is_none_or(|before| {
            (&before.reason, &before.message) != (&condition.reason, &condition.message)
        });
        match condition.type_.as_str() {
            kind if kind == ConditionType::Ready.as_str() => has_turned || says_else,
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

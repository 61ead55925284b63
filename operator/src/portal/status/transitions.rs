//! Events about a portal: one for each condition that changed in a way that a person should know of.

use crds::{
    ConditionType, HardwarePortal, HardwarePortalStatus, Reason, RotationOutcome, RotationRecord,
};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::Resource;

use crate::cluster::events::Events;

/// Publishes an event for each condition whose status changed, for Ready also when its reason or its message
/// changed, and for `SourcesReporting` also when its reason did.
pub async fn publish_transitions(
    events: &Events,
    portal: &HardwarePortal,
    new: &HardwarePortalStatus,
) {
    let before = portal.status.as_ref();
    let old = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    for condition in changed(old, &new.conditions) {
        let Condition { type_, status, reason, message, .. } = condition;
        let note = format!("{type_} is {status}: {message}");
        let is_good = status == "True" || is_on_its_way(reason);
        events.publish(portal.object_ref(&()), is_good, reason, note).await;
    }
    for entry in ended(before, new) {
        let RotationRecord { generation, reason, outcome, .. } = entry;
        let is_good = *outcome == RotationOutcome::Completed;
        let note =
            format!("the credential's rotation ended with generation {generation} ({reason:?})");
        let word = if is_good { Reason::Rotated } else { Reason::RolledBack };
        events.publish(portal.object_ref(&()), is_good, word.as_str(), note).await;
    }
}

/// Names the accounts that a deleted portal leaves on its server.
pub async fn publish_accounts_left(
    events: &Events,
    regarding: ObjectReference,
    accounts: &[String],
    why: &str,
) {
    let note = format!("left on the database server: {}; {why}", accounts.join(", "));
    let reason = Reason::AccountsLeft.as_str();
    events.publish(regarding, false, reason, note).await;
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

/// What every portal goes through, or was scaled to: not worth a warning.
fn is_on_its_way(reason: &str) -> bool {
    let ordinary = [
        Reason::NotCreated,
        Reason::RollingOut,
        Reason::ScaledToZero,
        Reason::MinimumReplicasUnavailable,
        Reason::VolumePending,
        Reason::Migrating,
        Reason::ReportPending,
    ];
    ordinary.iter().any(|one| one.as_str() == reason)
}

/// Whether progress has come to an end that somebody has to know of. What the API server fails to do
/// comes and goes.
fn is_stuck(condition: &Condition) -> bool {
    let calm = [Reason::AsExpected, Reason::SuspendedBySpec, Reason::ApiError];
    condition.status == "False" && !calm.iter().any(|one| one.as_str() == condition.reason)
}

/// The conditions worth an event. Suspended changes with what the user does, AutoscalingActive with every
/// start, and Reconciling and Stalled repeat others.
fn changed<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_news = |condition: &&Condition| {
        let before = old.iter().find(|before| before.type_ == condition.type_);
        let has_changed = before.is_some_and(|before| before.status != condition.status);
        let differs = before.is_none_or(|before| {
            (&before.reason, &before.message) != (&condition.reason, &condition.message)
        });
        match condition.type_.as_str() {
            kind if kind == ConditionType::Ready.as_str() => has_changed || differs,
            // Where it is in the way of Ready, the event about that has it already.
            kind if kind == ConditionType::Progressing.as_str() => {
                is_stuck(condition) && differs && !is_in_ready(condition, new)
            }
            kind if kind == ConditionType::CredentialsReady.as_str()
                || kind == ConditionType::DatabaseReady.as_str() =>
            {
                has_changed
            }
            // From a first report that is awaited to a right that is missing, its status stays.
            kind if kind == ConditionType::SourcesReporting.as_str() => {
                before.is_some_and(|before| before.reason != condition.reason)
            }
            _ => false,
        }
    };
    new.iter().filter(is_news).collect()
}

fn is_in_ready(condition: &Condition, new: &[Condition]) -> bool {
    let ready = new.iter().find(|one| one.type_ == ConditionType::Ready.as_str());
    ready.is_some_and(|ready| ready.status == "False" && ready.reason == condition.reason)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    use super::{changed, is_on_its_way};

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
        serde_json::from_value(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }))
        .expect("a condition")
    }

    fn published(old: &[Condition], new: &[Condition]) -> Vec<String> {
        changed(old, new).into_iter().map(|it| format!("{} {}", it.type_, it.reason)).collect()
    }

    #[test]
    fn a_refusal_that_leaves_a_portal_serving_is_published_once() {
        let serving = condition("Ready", "True", "AsExpected", "");
        let before = [serving.clone(), condition("Progressing", "False", "AsExpected", "")];
        let after = [serving, condition("Progressing", "False", "Refused", "by policy p")];
        assert_eq!(published(&before, &after), ["Progressing Refused"]);
        assert_eq!(published(&after, &after), [""; 0], "nothing new");
    }

    #[test]
    fn what_is_in_the_way_of_ready_is_published_for_ready_alone() {
        let after = [
            condition("Ready", "False", "Refused", "by quota q"),
            condition("Progressing", "False", "Refused", "by quota q"),
        ];
        assert_eq!(published(&[], &after), ["Ready Refused"]);
    }

    #[test]
    fn a_failing_api_server_and_ordinary_steps_are_no_warning() {
        let before = [condition("Progressing", "False", "AsExpected", "")];
        for (status, reason) in
            [("False", "ApiError"), ("False", "SuspendedBySpec"), ("True", "RollingOut")]
        {
            let after = [condition("Progressing", status, reason, "m")];
            assert_eq!(published(&before, &after), [""; 0], "{reason}");
        }
        assert!(is_on_its_way("Migrating") && is_on_its_way("ScaledToZero"));
        assert!(!is_on_its_way("ImagePullBackOff"));
    }

    #[test]
    fn a_source_that_changes_its_flaw_is_published_and_a_new_portals_wait_is_not() {
        let pending = [condition("SourcesReporting", "False", "ReportPending", "not yet")];
        let forbidden = [condition("SourcesReporting", "False", "SourceForbidden", "grant it")];
        let silent = |message| [condition("SourcesReporting", "False", "SourceSilent", message)];
        assert_eq!(published(&[], &pending), [""; 0]);
        assert_eq!(published(&pending, &forbidden), ["SourcesReporting SourceForbidden"]);
        assert_eq!(published(&silent("for 5 minutes"), &silent("for an hour")), [""; 0]);
        assert!(is_on_its_way("ReportPending") && !is_on_its_way("SourceForbidden"));
    }

    #[test]
    fn reconciling_and_stalled_get_no_events_of_their_own() {
        let before = [condition("Stalled", "False", "AsExpected", "")];
        let after = [
            condition("Stalled", "True", "Refused", "by quota q"),
            condition("Reconciling", "True", "RollingOut", "m"),
        ];
        assert_eq!(published(&before, &after), [""; 0]);
        assert_eq!(published(&after, &before), [""; 0]);
    }
}

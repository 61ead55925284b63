//! The status of a watch: pure, from what was rendered and what the pods report.

use std::time::Duration;

use crds::{Delivery, HardwareWatch, HardwareWatchStatus, Reason, WatchConditionType};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    render::Outcome,
    reports::{DeliveryError, Reports, WatchReport},
};

/// Most characters of what a pod says, which is not trusted.
const LONGEST_REPORTED: usize = 300;

/// Time until the next pass while something is about to change.
const SOON: Duration = Duration::from_secs(5);
/// The same at rest.
const AT_REST: Duration = Duration::from_mins(1);

/// What was seen of a watch.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its portal.
    pub portal: SeenPortal,
    /// What became of it in the last pass over its portal.
    pub outcome: Option<Outcome>,
    /// What the pods of its portal report.
    pub reports: Reports,
}

/// The portal that a watch refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenPortal {
    /// There is none.
    Missing,
    /// It is there, and its operator writes nothing for it.
    Suspended,
    /// It is there.
    Present,
}

/// The status after a pass. Transition times of conditions whose status did not change stay.
#[must_use]
pub fn compute(watch: &HardwareWatch, seen: &Seen, now: Timestamp) -> HardwareWatchStatus {
    let old = watch.status.clone().unwrap_or_default();
    let is_watched_for = seen.portal != SeenPortal::Missing && !watch.spec.suspend;
    let report = find_report(watch, &seen.reports).filter(|_| is_watched_for);
    let is_answered = matches!(seen.reports, Reports::Answered(_));
    let conditions = [
        Some(ready(watch, seen, report)),
        delivering(watch, report, is_answered || !is_watched_for),
    ];
    let mut new = conditions.into_iter().flatten();
    let conditions = [WatchConditionType::Ready, WatchConditionType::Delivering].map(|kind| {
        let judged = new.find(|one| one.kind == kind);
        match judged {
            Some(judged) => Some(judged.into_condition(&old, watch.metadata.generation, now)),
            // Nothing was seen of it.
            None => last(&old, kind).cloned(),
        }
    });
    let status = HardwareWatchStatus {
        observed_generation: watch.metadata.generation,
        conditions: conditions.into_iter().flatten().collect(),
        ..old
    };
    match report {
        Some(report) => HardwareWatchStatus {
            armed: Some(report.armed),
            holds_since: report.holds_since.map(Time),
            last_fired: report.last_fired.map(Time).or(status.last_fired),
            last_delivered: report.last_delivered.map(Time).or(status.last_delivered),
            pending_deliveries: Some(i64::from(report.pending)),
            ..status
        },
        None if is_answered || !is_watched_for => HardwareWatchStatus {
            armed: None,
            holds_since: None,
            pending_deliveries: None,
            ..status
        },
        None => status,
    }
}

/// Time until the next pass: short while something is about to change.
#[must_use]
pub fn next_pass(status: &HardwareWatchStatus) -> Duration {
    let is_awaited = |condition: &Condition| {
        [Reason::RolloutPending, Reason::HardwareUnreachable, Reason::DeliveryFailing]
            .iter()
            .any(|reason| reason.as_str() == condition.reason)
    };
    let is_moving = status.pending_deliveries.is_some_and(|pending| pending > 0)
        || status.holds_since.is_some() && status.armed == Some(true)
        || status.conditions.iter().any(is_awaited);
    if is_moving { SOON } else { AT_REST }
}

/// What the pods say of this very object.
fn find_report<'a>(watch: &HardwareWatch, reports: &'a Reports) -> Option<&'a WatchReport> {
    let Reports::Answered(items) = reports else { return None };
    items.get(watch.metadata.uid.as_deref()?)
}

/// A condition before it has times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Judgement {
    kind: WatchConditionType,
    status: &'static str,
    reason: Reason,
    message: String,
}

impl Judgement {
    fn into_condition(
        self,
        old: &HardwareWatchStatus,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let Self { kind, status, reason, message } = self;
        let same = last(old, kind).filter(|old| old.status == status);
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
        }
    }
}

fn last(status: &HardwareWatchStatus, kind: WatchConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|old| old.type_ == kind.as_str())
}

/// Whether the pods watch for it, and otherwise the first thing that is in the way.
fn ready(watch: &HardwareWatch, seen: &Seen, report: Option<&WatchReport>) -> Judgement {
    let judge = |status, reason, message: String| Judgement {
        kind: WatchConditionType::Ready,
        status,
        reason,
        message,
    };
    let portal = &watch.spec.portal_ref.name;
    let generation = watch.metadata.generation.unwrap_or_default();
    if watch.spec.suspend {
        let message = "spec.suspend is true: nothing is watched for and nothing is sent".to_owned();
        return judge("False", Reason::SuspendedBySpec, message);
    }
    if seen.portal == SeenPortal::Missing {
        let message = format!(
            "the HardwarePortal \"{portal}\" does not exist in this namespace; create it, or correct portalRef.name"
        );
        return judge("False", Reason::PortalNotFound, message);
    }
    let outcome = seen.outcome.as_ref().filter(|outcome| outcome.generation == generation);
    if let Some(problem) = outcome.and_then(|outcome| outcome.problems.first()) {
        let problems = outcome.iter().flat_map(|outcome| &outcome.problems);
        let messages: Vec<&str> = problems.map(|problem| problem.message.as_str()).collect();
        return judge("False", problem.reason, messages.join("; "));
    }
    if let Reports::Unanswered(why) = &seen.reports {
        return judge("Unknown", Reason::HardwareUnreachable, why.clone());
    }
    if report.is_some_and(|report| report.generation == generation) {
        let message = format!("the pods of the HardwarePortal \"{portal}\" watch for it");
        return judge("True", Reason::Watching, message);
    }
    let message = match (outcome, seen.portal) {
        (None, SeenPortal::Suspended) => format!(
            "the HardwarePortal \"{portal}\" is suspended, so its pods are not told; set its spec.suspend: false"
        ),
        (None, _) => format!(
            "the HardwarePortal \"{portal}\" has not been given it yet; if that lasts, its conditions say why"
        ),
        (Some(_), _) => format!(
            "the pods of the HardwarePortal \"{portal}\" have not read it yet; the kubelet brings it within a minute or two"
        ),
    };
    judge("False", Reason::RolloutPending, message)
}

/// Whether what it sent has arrived; none if nothing is known of it.
fn delivering(
    watch: &HardwareWatch,
    report: Option<&WatchReport>,
    is_known: bool,
) -> Option<Judgement> {
    let judge = |status, reason, message: String| Judgement {
        kind: WatchConditionType::Delivering,
        status,
        reason,
        message,
    };
    if let Some(error) = report.and_then(|report| report.error.as_ref()) {
        let message = describe_error(watch, error);
        return Some(judge("False", Reason::DeliveryFailing, message));
    }
    if !is_known {
        return None;
    }
    let pending = report.map(|report| report.pending).unwrap_or_default();
    let old = watch.status.as_ref().and_then(|status| status.last_delivered.as_ref());
    let was_delivered =
        old.is_some() || report.is_some_and(|report| report.last_delivered.is_some());
    Some(match (pending, was_delivered) {
        (0, true) => judge("True", Reason::AsExpected, String::new()),
        (0, false) => {
            judge("True", Reason::NotNeeded, "nothing has had to be delivered".to_owned())
        }
        _ => judge("True", Reason::AsExpected, "a message is being delivered".to_owned()),
    })
}

/// Names the receiver as the spec has it.
fn describe_error(watch: &HardwareWatch, error: &DeliveryError) -> String {
    let DeliveryError { target, given_up, attempts, message, at } = error;
    let kind = watch.spec.deliver.get(*target).and_then(Delivery::kind);
    let kind = kind.map(|kind| format!(".{}", kind.as_str())).unwrap_or_default();
    let said: String =
        message.chars().filter(|one| !one.is_control()).take(LONGEST_REPORTED).collect();
    let what_now = if *given_up { "it was given up" } else { "it is tried again for 24 h" };
    let times = if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
    format!("deliver[{target}]{kind}: tried {times}, the last time at {at:.0}: {said}; {what_now}")
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crds::{HardwareWatch, HardwareWatchStatus, Reason};
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Seen, SeenPortal, compute, next_pass};
    use crate::watch::{
        render::Outcome,
        reports::{ByUid, Reports, WatchReport},
        target::Problem,
    };

    fn watch(changes: &Value) -> HardwareWatch {
        let reference = json!({"secretKeyRef": {"name": "s", "key": "url"}});
        let mut object = json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwareWatch",
            "metadata": {"name": "w", "namespace": "team", "uid": "u", "generation": 3},
            "spec": {
                "portalRef": {"name": "demo"}, "match": {"name": "p5*"},
                "deliver": [{"slack": {"urlFrom": reference}}, {"ntfy": {"urlFrom": reference}}],
            },
        });
        for (field, value) in changes.as_object().expect("fields") {
            object["spec"][field] = value.clone();
        }
        serde_json::from_value(object).expect("a watch")
    }

    fn outcome(generation: i64, problems: &[Reason]) -> Outcome {
        let problems = problems
            .iter()
            .map(|reason| Problem { reason: *reason, message: format!("because of {reason}") });
        let name = "w".to_owned();
        Outcome { name, generation, problems: problems.collect() }
    }

    /// A pod that answers with this about the watch, and with nothing else.
    fn answered(report: Value) -> Reports {
        let mut report: WatchReport = serde_json::from_value(report).expect("a report");
        report.uid = "u".to_owned();
        Reports::Answered(Arc::new(ByUid::from([("u".to_owned(), report)])))
    }

    fn silent() -> Reports {
        Reports::Unanswered("no pod of demo-hardware is ready".to_owned())
    }

    fn empty() -> Reports {
        Reports::Answered(Arc::default())
    }

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().expect("a time")
    }

    fn present(outcome: impl Into<Option<Outcome>>, reports: Reports) -> Seen {
        Seen { portal: SeenPortal::Present, outcome: outcome.into(), reports }
    }

    /// Status, reason and message of a condition.
    fn found(status: &HardwareWatchStatus, kind: &str) -> (String, String, String) {
        let condition = status.conditions.iter().find(|one| one.type_ == kind);
        let condition = condition.unwrap_or_else(|| panic!("no {kind} in {status:?}"));
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }

    #[test]
    fn ready_says_what_is_in_the_way_first() {
        use SeenPortal::{Missing, Present, Suspended};
        let of_3 = || answered(json!({"generation": 3, "armed": true}));
        let of_2 = || answered(json!({"generation": 2, "armed": true}));
        let good = || Some(outcome(3, &[]));
        let suspended = json!({"suspend": true});
        let portal = |portal, outcome, reports| Seen { portal, outcome, reports };
        for (changes, seen, status, reason, words) in [
            (json!({}), portal(Present, good(), of_3()), "True", Reason::Watching, "watch for it"),
            (
                json!({}),
                portal(Missing, good(), of_3()),
                "False",
                Reason::PortalNotFound,
                "\"demo\" does not exist",
            ),
            (
                suspended.clone(),
                portal(Missing, None, silent()),
                "False",
                Reason::SuspendedBySpec,
                "spec.suspend is true",
            ),
            (
                suspended,
                portal(Present, good(), of_3()),
                "False",
                Reason::SuspendedBySpec,
                "nothing is sent",
            ),
            (
                json!({}),
                portal(Present, Some(outcome(3, &[Reason::InvalidSpec])), empty()),
                "False",
                Reason::InvalidSpec,
                "because of InvalidSpec",
            ),
            (
                json!({}),
                portal(
                    Present,
                    Some(outcome(3, &[Reason::SecretNotFound, Reason::SecretInvalid])),
                    of_3(),
                ),
                "False",
                Reason::SecretNotFound,
                "because of SecretNotFound; because of SecretInvalid",
            ),
            (
                json!({}),
                portal(Present, Some(outcome(3, &[Reason::TooManyWatches])), empty()),
                "False",
                Reason::TooManyWatches,
                "because of",
            ),
            (
                json!({}),
                portal(Present, good(), silent()),
                "Unknown",
                Reason::HardwareUnreachable,
                "no pod of demo-hardware",
            ),
            (
                json!({}),
                portal(Present, good(), of_2()),
                "False",
                Reason::RolloutPending,
                "have not read it yet",
            ),
            (
                json!({}),
                portal(Present, good(), empty()),
                "False",
                Reason::RolloutPending,
                "have not read it yet",
            ),
            // What was wrong with an earlier generation may be mended.
            (
                json!({}),
                portal(Present, Some(outcome(2, &[Reason::SecretInvalid])), of_2()),
                "False",
                Reason::RolloutPending,
                "has not been given it yet",
            ),
            (
                json!({}),
                portal(Suspended, None, empty()),
                "False",
                Reason::RolloutPending,
                "is suspended",
            ),
            (json!({}), portal(Suspended, None, of_3()), "True", Reason::Watching, "watch for it"),
        ] {
            assert_ready(&compute(&watch(&changes), &seen, now()), status, reason, words);
        }
    }

    fn assert_ready(computed: &HardwareWatchStatus, status: &str, reason: Reason, words: &str) {
        let (found_status, found_reason, message) = found(computed, "Ready");
        let expected = (status, reason.as_str());
        assert_eq!((found_status.as_str(), found_reason.as_str()), expected, "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(computed.observed_generation, Some(3));
    }

    #[test]
    fn what_the_pods_report_is_shown_and_kept_while_they_do_not_answer() {
        let report = json!({
            "generation": 3, "armed": false, "holds_since": "2026-06-01T11:00:00Z",
            "last_fired": "2026-06-01T11:02:00Z", "last_delivered": "2026-06-01T11:02:01Z", "pending": 2,
        });
        let mut watch = watch(&json!({}));
        let shown = compute(&watch, &present(outcome(3, &[]), answered(report)), now());
        assert_eq!((shown.armed, shown.pending_deliveries), (Some(false), Some(2)));
        let text = serde_json::to_value(&shown).expect("plain data");
        assert_eq!(text["holdsSince"], "2026-06-01T11:00:00Z");
        assert_eq!(text["lastFired"], "2026-06-01T11:02:00Z");
        assert_eq!(text["lastDelivered"], "2026-06-01T11:02:01Z");
        assert_eq!(found(&shown, "Delivering").0, "True");

        watch.status = Some(shown.clone());
        let kept = compute(&watch, &present(outcome(3, &[]), silent()), now());
        assert_eq!((kept.armed, &kept.holds_since), (Some(false), &shown.holds_since));
        assert_eq!(found(&kept, "Delivering"), found(&shown, "Delivering"));

        watch.spec.suspend = true;
        let suspended = compute(&watch, &present(None, silent()), now());
        assert_eq!((suspended.armed, &suspended.holds_since), (None, &None));
        assert_eq!(suspended.pending_deliveries, None);
        assert_eq!(suspended.last_fired, shown.last_fired, "that it fired stays true");
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_named_as_the_spec_has_it() {
        let long = "no\n".repeat(500);
        let report = json!({"generation": 3, "pending": 1, "error": {
            "target": 1, "attempts": 4, "message": format!("status 503 {long}"), "at": "2026-06-01T11:59:00.25Z",
        }});
        let status =
            compute(&watch(&json!({})), &present(outcome(3, &[]), answered(report)), now());
        let (condition, reason, message) = found(&status, "Delivering");
        assert_eq!((condition.as_str(), reason.as_str()), ("False", "DeliveryFailing"));
        let beginning =
            "deliver[1].ntfy: tried 4 times, the last time at 2026-06-01T11:59:00Z: status 503 no";
        assert!(message.starts_with(beginning), "{message}");
        assert!(message.ends_with("; it is tried again for 24 h"), "{message}");
        assert!(message.len() < 500 && !message.contains('\n'), "{message}");
    }

    #[test]
    fn nothing_is_said_of_deliveries_that_nobody_has_reported() {
        let never = compute(&watch(&json!({})), &present(None, silent()), now());
        assert!(never.conditions.iter().all(|one| one.type_ == "Ready"), "{never:?}");
        let nothing_sent = compute(&watch(&json!({})), &present(outcome(3, &[]), empty()), now());
        assert_eq!(found(&nothing_sent, "Delivering").1, "NotNeeded");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_transition() {
        let mut watch = watch(&json!({}));
        let seen = present(outcome(3, &[]), answered(json!({"generation": 3})));
        watch.status = Some(compute(&watch, &seen, now()));
        let later = now() + Duration::from_mins(1);
        assert_eq!(compute(&watch, &seen, later), watch.status.clone().expect("it was set"));
        let missing = Seen { portal: SeenPortal::Missing, ..seen };
        let status = compute(&watch, &missing, later);
        assert_eq!(status.conditions[0].last_transition_time.0, later);
    }

    #[test]
    fn the_next_pass_is_soon_while_something_is_about_to_change() {
        let seconds = |seen: &Seen| next_pass(&compute(&watch(&json!({})), seen, now())).as_secs();
        let reported = |report| present(outcome(3, &[]), answered(report));
        let since = "2026-06-01T11:59:00Z";
        for (seen, expected) in [
            (reported(json!({"generation": 3, "armed": true})), 60),
            (reported(json!({"generation": 2, "armed": true})), 5),
            (reported(json!({"generation": 3, "armed": true, "holds_since": since})), 5),
            (reported(json!({"generation": 3, "armed": false, "holds_since": since})), 60),
            (reported(json!({"generation": 3, "pending": 1})), 5),
            (present(outcome(3, &[Reason::SecretNotFound]), empty()), 60),
            (present(outcome(3, &[]), silent()), 5),
        ] {
            assert_eq!(seconds(&seen), expected, "{seen:?}");
        }
    }
}

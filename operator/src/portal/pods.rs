//! Why pods do not start. A Deployment or a Job says only how many are missing, so the pods are listed,
//! and where a Job has none, the events about it. Both happen only after something has not been as it
//! should be for a while: at rest, and while all goes well, they cost no request.

use std::time::Duration;

use crds::{ConditionType, HardwarePortalStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    core::v1::{ContainerState, ContainerStatus, Pod},
    events::v1::Event,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tracing::warn;

use super::live::{Live, Migration};
use crate::cluster::{
    api_error,
    labels::{self, Component},
};

/// How long something may not be as it should be before the pods are listed: longer than a start takes
/// when the images are on the node.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// The pods are listed again after as long as it has lasted already, but at least this often.
const SELDOM: SignedDuration = SignedDuration::from_mins(2);
/// Enough to find a cause in; all pods of a Deployment are made alike.
const PODS: u32 = 50;
/// Enough to find the latest refusal in: events about the same cause are counted in one.
const EVENTS: u32 = 50;

/// Reasons, besides those of the Deployments, that the pods can explain or that came from them.
const ABOUT_PODS: [Reason; 7] = [
    Reason::Migrating,
    Reason::MigrationFailed,
    Reason::ImagePullBackOff,
    Reason::CrashLoopBackOff,
    Reason::ContainerNotCreated,
    Reason::Unschedulable,
    Reason::ProgressDeadlineExceeded,
];

/// Why one pod does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProblem {
    /// The word for machines.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

/// The first problem of each component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodProblems(Vec<(&'static str, PodProblem)>);

impl PodProblems {
    /// One component's problem.
    #[must_use]
    pub fn one(component: Component, problem: PodProblem) -> Self {
        Self(vec![(component.as_str(), problem)])
    }

    fn with(mut self, component: Component, problem: PodProblem) -> Self {
        self.0.retain(|(its, _)| *its != component.as_str());
        self.0.push((component.as_str(), problem));
        self
    }

    /// The problem of one component, if it has one.
    #[must_use]
    pub fn of(&self, component: Component) -> Option<&PodProblem> {
        let mut all = self.0.iter();
        all.find(|(its, _)| *its == component.as_str()).map(|(_, problem)| problem)
    }
}

/// What keeps a portal's pods from working; nothing unless its last status has been bad for a while.
pub async fn find_problems(
    client: &Client,
    namespace: &str,
    portal: &str,
    live: &Live,
    last: Option<&HardwarePortalStatus>,
    now: Timestamp,
) -> PodProblems {
    if bad_for(last, now).is_none_or(|time| time < PATIENCE) {
        return PodProblems::default();
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{}={portal}", labels::INSTANCE);
    let found = match pods.list(&ListParams::default().labels(&selector).limit(PODS)).await {
        Ok(pods) => find(&pods.items),
        Err(error) => {
            warn!(namespace, name = portal, %error, "failed to list the pods of a portal");
            PodProblems::default()
        }
    };
    let Some(job) = job_without_pods(live, now) else { return found };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let selector = format!("regarding.name={job},reason=FailedCreate");
    let events = match events.list(&ListParams::default().fields(&selector).limit(EVENTS)).await {
        Ok(events) => events.items,
        Err(error) => {
            warn!(namespace, name = portal, %error, "failed to list the events about a Job");
            Vec::new()
        }
    };
    found.with(Component::Migration, explain_missing_pods(job, &events))
}

/// When to list the pods, or to list them again. The end of a problem moves the Deployment and needs no
/// request.
#[must_use]
pub fn next_search(last: Option<&HardwarePortalStatus>, now: Timestamp) -> Option<Duration> {
    let bad = bad_for(last, now)?;
    let rest = if bad < PATIENCE { PATIENCE - bad } else { bad.min(SELDOM) };
    Some(rest.unsigned_abs().max(Duration::from_secs(1)))
}

/// How long the pods have not been as they should be.
fn bad_for(last: Option<&HardwarePortalStatus>, now: Timestamp) -> Option<SignedDuration> {
    let conditions = last?.conditions.iter();
    let is_bad = |kind: &str, status: &str, reason: &str| {
        let is = |wanted: ConditionType| kind == wanted.as_str();
        let is_about_pods = ABOUT_PODS.iter().any(|word| word.as_str() == reason);
        if is(ConditionType::Progressing) {
            status == "True" || is_about_pods
        } else if is(ConditionType::DatabaseReady) {
            // Refused is said of the Job's pods only, and only as long as the events are listed.
            is_about_pods || reason == Reason::Refused.as_str()
        } else if is(ConditionType::SourcesReporting) {
            // What sources report themselves, no pod's state explains.
            let awaited = [Reason::RollingOut, Reason::MinimumReplicasUnavailable];
            let is_awaited = awaited.iter().any(|word| word.as_str() == reason);
            status == "False" && (is_awaited || is_about_pods)
        } else {
            let is_of_pods =
                is(ConditionType::HardwareAvailable) || is(ConditionType::PortalAvailable);
            is_of_pods && status == "False" && reason != Reason::ScaledToZero.as_str()
        }
    };
    let since = conditions
        .filter(|condition| is_bad(&condition.type_, &condition.status, &condition.reason))
        .map(|condition| condition.last_transition_time.0)
        .min()?;
    Some(now.duration_since(since))
}

/// A migration that has been running for a while without a pod.
fn job_without_pods(live: &Live, now: Timestamp) -> Option<&str> {
    let is_without = |job: &Migration| match job {
        Migration::Running { since: Some(since), had_pods: false } => {
            now.duration_since(*since) >= PATIENCE
        }
        Migration::Running { .. } | Migration::Succeeded | Migration::Failed { .. } => false,
    };
    live.jobs.iter().find(|(_, job)| is_without(job)).map(|(name, _)| name.as_str())
}

/// Why a Job has no pod: its controller publishes an event when the API server refuses one.
fn explain_missing_pods(job: &str, events: &[Event]) -> PodProblem {
    let latest = events.iter().max_by_key(|event| last_seen(event));
    match latest.and_then(|event| event.note.as_deref()) {
        Some(note) => refused_pods(note),
        None => PodProblem {
            reason: Reason::Migrating,
            message: format!(
                "no pod of Job {job} has been made; kubectl describe job {job} says why"
            ),
        },
    }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let legacy = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
    [series, legacy, first, created].into_iter().flatten().max()
}

/// Pods that the API server refused, in the words of the controller that tried to make them.
#[must_use]
pub fn refused_pods(message: &str) -> PodProblem {
    // What comes before names the pod, which is another one at each try.
    let why = message.split_once("is forbidden: ").map_or(message, |(_, why)| why);
    let advice = api_error::advice(message).map(|advice| format!("; {advice}"));
    PodProblem {
        reason: Reason::Refused,
        message: format!("its pods are refused: {why}{}", advice.unwrap_or_default()),
    }
}

/// The first problem of each component, in the order of the pods' names.
fn find(pods: &[Pod]) -> PodProblems {
    let mut pods: Vec<&Pod> =
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
    pods.sort_by_key(|pod| pod.name_any());
    let of = |component: Component| {
        let mut its = pods.iter().filter(|pod| {
            pod.labels().get(labels::COMPONENT).map(String::as_str) == Some(component.as_str())
        });
        its.find_map(|pod| problem(pod, component)).map(|found| (component.as_str(), found))
    };
    let all = [Component::Hardware, Component::Portal, Component::Collector, Component::Migration];
    PodProblems(all.into_iter().filter_map(of).collect())
}

fn problem(pod: &Pod, component: Component) -> Option<PodProblem> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let scheduled = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled");
    if let Some(waiting) = scheduled.filter(|one| one.status == "False") {
        let why = waiting.message.clone().unwrap_or_default();
        return Some(PodProblem {
            reason: Reason::Unschedulable,
            message: format!("no node takes pod {name}: {why}"),
        });
    }
    let containers = status.container_statuses.iter().flatten();
    containers.filter(|container| !container.ready).find_map(|it| waiting(&name, it, component))
}

fn waiting(pod: &str, container: &ContainerStatus, component: Component) -> Option<PodProblem> {
    let ContainerState { waiting, running, .. } = container.state.as_ref()?;
    if running.is_some() {
        return Some(PodProblem {
            reason: Reason::MinimumReplicasUnavailable,
            message: format!(
                "pod {pod} runs but does not report itself ready; its log says why: kubectl logs {pod}"
            ),
        });
    }
    let waiting = waiting.as_ref()?;
    let why = waiting.message.clone().unwrap_or_default();
    let (reason, message) = match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            // The migration runs the API's image.
            let field = match component {
                Component::Hardware | Component::Migration => "hardware",
                Component::Portal => "portal",
                Component::Collector => "collector",
            };
            let why = lasting_part(&why);
            let message = format!(
                "pod {pod} does not get its image {}: {why}; check {field}.image, {field}.imagePullPolicy and {field}.imagePullSecrets",
                container.image
            );
            (Reason::ImagePullBackOff, message)
        }
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            let how = last.map(|last| {
                let reason = last.reason.clone().unwrap_or_default();
                format!(" with exit code {} ({reason})", last.exit_code)
            });
            let message = format!(
                "pod {pod} ends again and again{}; its log says why: kubectl logs {pod} --previous",
                how.unwrap_or_default()
            );
            (Reason::CrashLoopBackOff, message)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
            Reason::ContainerNotCreated,
            format!("the container of pod {pod} cannot be started: {why}"),
        ),
        _ => return None,
    };
    Some(PodProblem { reason, message })
}

/// The part of a pull's message that stays the same from try to try: a status that differs each time
/// would be written each time.
fn lasting_part(message: &str) -> String {
    let message = message.split_once("ErrImagePull: ").map_or(message, |(_, cause)| cause);
    // "read udp 10.0.0.2:45985->10.0.0.1:53": the local port is another one each time.
    match message.split_once("->") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
            format!("{}->{after}", before.trim_end_matches(':'))
        }
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crds::{HardwarePortalStatus, Reason};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{
        Component, Live, Migration, PodProblems, bad_for, explain_missing_pods, find,
        job_without_pods, next_search,
    };

    fn pod(name: &str, component: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
            "status": status,
        }))
        .expect("a pod")
    }

    fn waiting(reason: &str, message: &str) -> Value {
        json!({"containerStatuses": [{
            "name": "c", "image": "registry.example/missing:1", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}},
        }]})
    }

    fn status(conditions: &Value) -> HardwarePortalStatus {
        serde_json::from_value(json!({"conditions": conditions})).expect("a status")
    }

    fn condition(kind: &str, status: &str, reason: &str, since: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": since,
        })
    }

    #[test]
    fn a_pull_says_the_same_at_each_try_and_which_field_to_look_at() {
        let tries = [
            ("ErrImagePull", "failed to pull: read udp 10.0.0.2:45985->10.0.0.1:53: i/o timeout"),
            (
                "ImagePullBackOff",
                "Back-off pulling image \"registry.example/missing:1\": ErrImagePull: failed to pull: read udp 10.0.0.2:1234->10.0.0.1:53: i/o timeout",
            ),
        ];
        for (reason, message) in tries {
            let found = find(&[pod("p-portal-1", "portal", &waiting(reason, message))]);
            let problem = found.of(Component::Portal).expect("a problem");
            assert_eq!(problem.reason, Reason::ImagePullBackOff);
            assert_eq!(
                problem.message,
                "pod p-portal-1 does not get its image registry.example/missing:1: failed to pull: read udp 10.0.0.2->10.0.0.1:53: i/o timeout; check portal.image, portal.imagePullPolicy and portal.imagePullSecrets"
            );
            assert_eq!(found.of(Component::Hardware), None);
        }
    }

    #[test]
    fn each_way_not_to_start_has_a_word_of_its_own() {
        let crashed = json!({"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]});
        let unready = json!({"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"running": {}},
        }]});
        let no_node = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }]});
        let cases = [
            (crashed, Reason::CrashLoopBackOff, "exit code 137 (OOMKilled)"),
            (unready, Reason::MinimumReplicasUnavailable, "kubectl logs p-1"),
            (no_node, Reason::Unschedulable, "1 Insufficient cpu"),
            (waiting("InvalidImageName", "bad"), Reason::ImagePullBackOff, "hardware.image"),
            (
                waiting("CreateContainerConfigError", "secret \"x\" not found"),
                Reason::ContainerNotCreated,
                "secret \"x\" not found",
            ),
        ];
        for (status, reason, part) in cases {
            let found = find(&[pod("p-1", "hardware", &status)]);
            let problem = found.of(Component::Hardware).unwrap_or_else(|| panic!("{status}"));
            assert_eq!(problem.reason, reason, "{status}");
            assert!(problem.message.contains(part), "{}", problem.message);
        }
    }

    #[test]
    fn pods_that_work_start_or_end_have_no_problem() {
        let mut going = pod("p-1", "hardware", &waiting("ImagePullBackOff", "m"));
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let ready = json!({"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}},
        }]});
        let pods = [
            going,
            pod("p-2", "hardware", &waiting("ContainerCreating", "")),
            pod("p-3", "hardware", &ready),
            pod("p-4", "hardware", &json!({"phase": "Failed", "reason": "Evicted"})),
        ];
        assert_eq!(find(&pods), PodProblems::default());
    }

    #[test]
    fn pods_are_listed_after_ten_seconds_and_then_less_and_less_often() {
        let started: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let bad = status(&json!([condition(
            "HardwareAvailable",
            "False",
            "MinimumReplicasUnavailable",
            "2026-01-01T00:00:00Z"
        )]));
        let after = |seconds: i64| started + SignedDuration::from_secs(seconds);
        for (passed, expected) in [(0, 10), (4, 6), (10, 10), (40, 40), (90, 90), (4000, 120)] {
            let look = next_search(Some(&bad), after(passed)).expect("a time");
            assert_eq!(look.as_secs(), expected, "after {passed} s");
        }
    }

    #[test]
    fn at_rest_and_where_no_pod_knows_more_none_is_listed() {
        let at = "2026-01-01T00:00:00Z";
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        for (kind, value, reason, is_bad) in [
            ("HardwareAvailable", "True", "AsExpected", false),
            ("Progressing", "False", "AsExpected", false),
            ("Progressing", "False", "SuspendedBySpec", false),
            ("CredentialsReady", "False", "RootRejected", false),
            ("DatabaseReady", "False", "HostNotAllowed", false),
            ("Progressing", "False", "SourceNotFound", false),
            // By the Deployment's own word, or of another child: no pod knows more.
            ("Progressing", "False", "Refused", false),
            ("HardwareAvailable", "False", "ScaledToZero", false),
            ("DatabaseReady", "False", "DatabaseUnreachable", false),
            ("Progressing", "False", "Paused", false),
            ("DatabaseReady", "False", "Migrating", true),
            // The Job is made anew after a minute.
            ("DatabaseReady", "False", "MigrationFailed", true),
            // Of the Job's pods: without a look at the events, the next status would not know.
            ("DatabaseReady", "False", "Refused", true),
            ("Progressing", "True", "RollingOut", true),
            ("Progressing", "False", "ImagePullBackOff", true),
            ("Progressing", "False", "ProgressDeadlineExceeded", true),
            ("PortalAvailable", "False", "MinimumReplicasUnavailable", true),
            ("SourcesReporting", "False", "MinimumReplicasUnavailable", true),
            ("SourcesReporting", "False", "CrashLoopBackOff", true),
            // What a source says itself, no pod knows better.
            ("SourcesReporting", "False", "SourceForbidden", false),
            ("SourcesReporting", "False", "HardwareUnreachable", false),
        ] {
            let last = status(&json!([condition(kind, value, reason, at)]));
            assert_eq!(bad_for(Some(&last), now).is_some(), is_bad, "{kind} {value} {reason}");
        }
        assert_eq!(next_search(None, now), None);
    }

    #[test]
    fn a_job_whose_pods_are_refused_is_found_by_its_events() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let live = |seconds: i64, had_pods: bool| {
            let since = Some(now - SignedDuration::from_secs(seconds));
            let job = Migration::Running { since, had_pods };
            Live { jobs: [("p-migrate-1".to_owned(), job)].into(), ..Live::default() }
        };
        assert_eq!(job_without_pods(&live(10, false), now), Some("p-migrate-1"));
        assert_eq!(job_without_pods(&live(9, false), now), None, "it may come");
        assert_eq!(job_without_pods(&live(60, true), now), None, "its pods can be looked at");

        let event = |time: &str, note: &str| {
            serde_json::from_value(json!({
                "metadata": {"name": time, "namespace": "n"},
                "regarding": {"kind": "Job", "name": "p-migrate-1"}, "reason": "FailedCreate",
                "note": note, "deprecatedLastTimestamp": time, "eventTime": null,
            }))
            .expect("an event")
        };
        let quota = |pod: &str, quota: &str| {
            format!("Error creating: pods \"{pod}\" is forbidden: exceeded quota: {quota}")
        };
        let events = [
            event("2026-01-01T00:00:20Z", &quota("p-migrate-1-x", "newer")),
            event("2026-01-01T00:00:10Z", &quota("p-migrate-1-y", "older")),
        ];
        let found = explain_missing_pods("p-migrate-1", &events);
        assert_eq!(found.reason, Reason::Refused);
        assert_eq!(
            found.message,
            "its pods are refused: exceeded quota: newer; raise the ResourceQuota of this namespace, or lower what the spec asks for"
        );
        let found = explain_missing_pods("p-migrate-1", &[]);
        assert_eq!(found.reason, Reason::Migrating);
        assert_eq!(
            found.message,
            "no pod of Job p-migrate-1 has been made; kubectl describe job p-migrate-1 says why"
        );
    }
}

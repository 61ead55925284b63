//! Why pods do not start. A Deployment says only how many are missing, so the pods are asked, but not
//! before something has been amiss for a while: at rest, and while all goes well, they cost no request.

use std::time::Duration;

use crds::{ConditionType, HardwarePortalStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tracing::warn;

use crate::cluster::labels::{self, Component};

/// How long something may be amiss before the pods are asked: longer than a start takes when the
/// images are on the node.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// The pods are asked again after as long as it has been amiss already, but at least this often.
const SELDOM: SignedDuration = SignedDuration::from_mins(2);
/// Enough to find a cause in; all pods of a Deployment are made alike.
const PODS: u32 = 50;

/// Reasons, besides those of the Deployments, that the pods can explain or that came from them.
const ABOUT_PODS: [Reason; 5] = [
    Reason::Migrating,
    Reason::ImagePullBackOff,
    Reason::CrashLoopBackOff,
    Reason::ContainerNotCreated,
    Reason::Unschedulable,
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

    /// The problem of one component, if it has one.
    #[must_use]
    pub fn of(&self, component: Component) -> Option<&PodProblem> {
        let mut all = self.0.iter();
        all.find(|(its, _)| *its == component.as_str()).map(|(_, problem)| problem)
    }
}

/// What keeps a portal's pods from working; nothing unless its last status has been bad for a while.
pub async fn ask(
    client: &Client,
    namespace: &str,
    portal: &str,
    last: Option<&HardwarePortalStatus>,
    now: Timestamp,
) -> PodProblems {
    if amiss_for(last, now).is_none_or(|time| time < PATIENCE) {
        return PodProblems::default();
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{}={portal}", labels::INSTANCE);
    match pods.list(&ListParams::default().labels(&selector).limit(PODS)).await {
        Ok(pods) => find(&pods.items),
        Err(error) => {
            warn!(namespace, name = portal, %error, "failed to ask the pods what keeps them");
            PodProblems::default()
        }
    }
}

/// When to ask the pods, or to ask them again. The end of a problem moves the Deployment and needs no
/// look.
#[must_use]
pub fn next_look(last: Option<&HardwarePortalStatus>, now: Timestamp) -> Option<Duration> {
    let amiss = amiss_for(last, now)?;
    let rest = if amiss < PATIENCE { PATIENCE - amiss } else { amiss.min(SELDOM) };
    Some(rest.unsigned_abs().max(Duration::from_secs(1)))
}

/// How long the pods have not been as they should be.
fn amiss_for(last: Option<&HardwarePortalStatus>, now: Timestamp) -> Option<SignedDuration> {
    let conditions = last?.conditions.iter();
    let is_amiss = |kind: &str, status: &str, reason: &str| {
        let is = |wanted: ConditionType| kind == wanted.as_str();
        let is_about_pods = ABOUT_PODS.iter().any(|word| word.as_str() == reason);
        if is(ConditionType::Progressing) {
            status == "True" || is_about_pods
        } else if is(ConditionType::DatabaseReady) {
            is_about_pods
        } else {
            let is_of_pods =
                is(ConditionType::HardwareAvailable) || is(ConditionType::PortalAvailable);
            is_of_pods && status == "False"
        }
    };
    let since = conditions
        .filter(|condition| is_amiss(&condition.type_, &condition.status, &condition.reason))
        .map(|condition| condition.last_transition_time.0)
        .min()?;
    Some(now.duration_since(since))
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
    let all = [Component::Hardware, Component::Portal, Component::Migration];
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

    use super::{Component, PodProblems, amiss_for, find, next_look};

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
    fn pods_that_work_start_or_go_are_no_trouble() {
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
    fn pods_are_asked_after_ten_seconds_and_ever_more_seldom() {
        let started: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let amiss = status(&json!([condition(
            "HardwareAvailable",
            "False",
            "MinimumReplicasUnavailable",
            "2026-01-01T00:00:00Z"
        )]));
        let after = |seconds: i64| started + SignedDuration::from_secs(seconds);
        for (passed, expected) in [(0, 10), (4, 6), (10, 10), (40, 40), (90, 90), (4000, 120)] {
            let look = next_look(Some(&amiss), after(passed)).expect("a time to look");
            assert_eq!(look.as_secs(), expected, "after {passed} s");
        }
    }

    #[test]
    fn a_portal_at_rest_asks_nobody() {
        let at = "2026-01-01T00:00:00Z";
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        for (kind, value, reason, is_amiss) in [
            ("HardwareAvailable", "True", "AsExpected", false),
            ("Progressing", "False", "AsExpected", false),
            ("Progressing", "False", "SuspendedBySpec", false),
            ("CredentialsReady", "False", "RootRejected", false),
            ("DatabaseReady", "False", "HostNotAllowed", false),
            ("Progressing", "False", "SourceNotFound", false),
            // By the Deployment's own word, or of another child: no pod knows more.
            ("Progressing", "False", "Refused", false),
            ("DatabaseReady", "False", "Migrating", true),
            ("Progressing", "True", "RollingOut", true),
            ("Progressing", "False", "ImagePullBackOff", true),
            ("PortalAvailable", "False", "MinimumReplicasUnavailable", true),
        ] {
            let last = status(&json!([condition(kind, value, reason, at)]));
            assert_eq!(amiss_for(Some(&last), now).is_some(), is_amiss, "{kind} {value} {reason}");
        }
        assert_eq!(next_look(None, now), None);
    }
}

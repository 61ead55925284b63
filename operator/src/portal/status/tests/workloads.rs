//! Availability and progress of Deployments.

use crds::Reason;
use serde_json::{Value, json};

use super::{
    available, deployment, missing_image, paused, replica_failure, rolling, scaled_to_zero, serving,
};
use crate::{
    cluster::labels::Component,
    portal::{
        live::LiveDeployment,
        pods::{PodProblem, PodProblems},
        status::workloads::{availability, rollout_progress},
    },
};

fn live(state: &Value) -> LiveDeployment {
    LiveDeployment::read(&deployment("p-hardware", state)).expect("it has a spec")
}

fn with_conditions(conditions: &Value) -> LiveDeployment {
    live(&json!({"status": {"conditions": conditions}}))
}

fn late() -> Value {
    json!({
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "ReplicaSet p-hardware-1 has timed out progressing.",
    })
}

#[test]
fn missing_pods_are_explained_by_their_refusal_then_by_their_own_problem() {
    let problem = |reason, message: &str| {
        let problem = PodProblem { reason, message: message.to_owned() };
        PodProblems::one(Component::Hardware, problem)
    };
    let slow = problem(Reason::MinimumReplicasUnavailable, "pod p-hardware-1 is slow");
    let no_node = problem(Reason::Unschedulable, "no node takes pod p-hardware-1");
    let cases = [
        (
            json!([available("False")]),
            PodProblems::default(),
            Reason::MinimumReplicasUnavailable,
            "",
        ),
        (
            json!([available("False")]),
            missing_image(),
            Reason::ImagePullBackOff,
            ": pod p-hardware-1 does not get its image",
        ),
        (
            json!([available("False"), replica_failure()]),
            missing_image(),
            Reason::Refused,
            ": its pods are refused: exceeded quota: q, limited: pods=0; raise the ResourceQuota of this namespace, or lower what the spec asks for",
        ),
        (
            json!([available("False"), late()]),
            PodProblems::default(),
            Reason::ProgressDeadlineExceeded,
            ": ReplicaSet p-hardware-1 has timed out progressing.",
        ),
        (
            json!([available("False"), late()]),
            slow,
            Reason::ProgressDeadlineExceeded,
            ": pod p-hardware-1 is slow",
        ),
        (
            json!([available("False")]),
            no_node.clone(),
            Reason::Unschedulable,
            ": no node takes pod p-hardware-1",
        ),
        (
            json!([available("False"), late()]),
            no_node,
            Reason::ProgressDeadlineExceeded,
            ": no node takes pod p-hardware-1",
        ),
        (
            json!([available("False"), late()]),
            missing_image(),
            Reason::ImagePullBackOff,
            ": pod p-hardware-1 does not get its image",
        ),
    ];
    for (conditions, pod_problems, reason, why) in cases {
        let live = with_conditions(&conditions);
        let found = availability(Component::Hardware, "p-hardware", Some(&live), &pod_problems);
        assert_eq!((found.is_true, found.reason), (false, reason), "{}", found.message);
        let expected = format!("Deployment p-hardware has 0 of 2 pods available{why}");
        assert_eq!(found.message, expected);
    }
}

#[test]
fn old_pods_go_on_serving_while_new_ones_do_not_start_and_progress_says_why() {
    let mut late_state = rolling();
    late_state["status"]["conditions"] = json!([available("True"), late()]);
    let stuck = "hardware makes no progress: ";
    let none = PodProblems::default;
    let cases = [
        (rolling(), none(), (true, Reason::RollingOut), "pods of hardware are being started"),
        (rolling(), missing_image(), (false, Reason::ImagePullBackOff), stuck),
        (late_state, none(), (false, Reason::ProgressDeadlineExceeded), stuck),
        (
            paused(),
            missing_image(),
            (false, Reason::Paused),
            "Deployment p-hardware is paused, so that its new pods are not started; kubectl rollout resume deployment/p-hardware",
        ),
        (serving(), missing_image(), (false, Reason::AsExpected), "everything is as"),
    ];
    for (state, pod_problems, expected, message) in cases {
        let live = live(&state);
        let found = availability(Component::Hardware, "p-hardware", Some(&live), &pod_problems);
        assert!(found.is_true, "{}", found.message);
        let found = rollout_progress(&[(Component::Hardware, Some(&live))], &pod_problems);
        assert_eq!((found.is_true, found.reason), expected, "{}", found.message);
        assert!(found.message.starts_with(message), "{}", found.message);
    }
}

#[test]
fn pods_that_merely_are_not_ready_yet_are_still_on_their_way() {
    let problem = PodProblem { reason: Reason::MinimumReplicasUnavailable, message: "slow".into() };
    let pod_problems = PodProblems::one(Component::Portal, problem);
    let live = with_conditions(&json!([available("False")]));
    let found = rollout_progress(&[(Component::Portal, Some(&live))], &pod_problems);
    assert_eq!((found.is_true, found.reason), (true, Reason::RollingOut));
}

#[test]
fn a_deployment_without_pods_serves_nobody_and_one_that_is_paused_at_rest_is_at_rest() {
    let none = PodProblems::default();
    let live_zero = live(&scaled_to_zero());
    let found = availability(Component::Hardware, "p-hardware", Some(&live_zero), &none);
    assert_eq!((found.is_true, found.reason), (false, Reason::ScaledToZero));
    let found = rollout_progress(&[(Component::Hardware, Some(&live_zero))], &none);
    assert_eq!((found.is_true, found.reason), (false, Reason::AsExpected));

    let mut resting = serving();
    resting["spec"] = json!({"paused": true});
    let found = rollout_progress(&[(Component::Hardware, Some(&live(&resting)))], &none);
    assert_eq!((found.is_true, found.reason), (false, Reason::AsExpected));
}

#[test]
fn a_new_spec_that_its_controller_has_not_seen_leaves_the_old_pods_serving() {
    let none = PodProblems::default();
    let mut state = serving();
    state["status"]["observedGeneration"] = json!(1);
    let unseen = live(&state);
    assert!(unseen.has_old_pods(), "as far as anybody knows");
    assert!(availability(Component::Hardware, "p-hardware", Some(&unseen), &none).is_true);
    let found = rollout_progress(&[(Component::Hardware, Some(&unseen))], &none);
    assert_eq!((found.is_true, found.reason), (true, Reason::RollingOut));

    state["status"]["conditions"] = json!([]);
    let found = availability(Component::Hardware, "p-hardware", Some(&live(&state)), &none);
    assert_eq!((found.is_true, found.reason), (false, Reason::RollingOut));
}

use crds::{ConditionType, HardwarePortal, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::{
    Failure, ReconcileOutcome, missing_job, readiness, report,
    workloads::{availability, progress_of},
};
use crate::{
    cluster::labels::Component,
    portal::{
        live::{Live, LiveDeployment, Migration},
        pods::{PodProblem, PodProblems},
    },
};

fn deployment(conditions: &Value) -> LiveDeployment {
    let status = json!({"observedGeneration": 2, "conditions": conditions});
    LiveDeployment {
        replicas: 2,
        generation: 2,
        status: serde_json::from_value(status).expect("a status"),
        rolls: true,
        ..LiveDeployment::default()
    }
}

fn unavailable() -> Value {
    json!({"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"})
}

fn refused() -> Value {
    json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"p-hardware-1-x7f\" is forbidden: exceeded quota: q, limited: pods=0",
    })
}

fn missing_image() -> PodProblems {
    let message = "pod p-hardware-1 does not get its image".to_owned();
    PodProblems::one(Component::Hardware, PodProblem { reason: Reason::ImagePullBackOff, message })
}

#[test]
fn missing_pods_are_explained_by_their_refusal_then_by_their_own_trouble() {
    let cases = [
        (json!([unavailable()]), PodProblems::default(), Reason::MinimumReplicasUnavailable, ""),
        (
            json!([unavailable()]),
            missing_image(),
            Reason::ImagePullBackOff,
            ": pod p-hardware-1 does not get its image",
        ),
        (
            json!([unavailable(), refused()]),
            missing_image(),
            Reason::Refused,
            ": its pods are refused: exceeded quota: q, limited: pods=0; raise the ResourceQuota of this namespace, or lower what the spec asks for",
        ),
    ];
    for (conditions, pod_problems, reason, why) in cases {
        let live = deployment(&conditions);
        let found = availability(Component::Hardware, "p-hardware", Some(&live), &pod_problems);
        assert_eq!((found.is_true, found.reason), (false, reason), "{}", found.message);
        let expected = format!("Deployment p-hardware has 0 of 2 pods available{why}");
        assert_eq!(found.message, expected);
    }
}

#[test]
fn old_pods_go_on_serving_while_new_ones_do_not_start_and_progress_says_why() {
    let mut live = deployment(&json!([{"type": "Available", "status": "True"}]));
    live.status.available_replicas = Some(2);
    live.status.updated_replicas = Some(1);
    let found = availability(Component::Hardware, "p-hardware", Some(&live), &missing_image());
    assert!(found.is_true, "{}", found.message);
    let found = progress_of([(Component::Hardware, Some(&live))], &missing_image());
    assert_eq!((found.is_true, found.reason), (false, Reason::ImagePullBackOff));
    assert!(found.message.starts_with("hardware makes no progress: pod p-hardware-1"));
    let found = progress_of([(Component::Hardware, Some(&live))], &PodProblems::default());
    assert_eq!((found.is_true, found.reason), (true, Reason::RollingOut));
}

#[test]
fn pods_that_merely_are_not_ready_yet_are_still_on_their_way() {
    let problem = PodProblem { reason: Reason::MinimumReplicasUnavailable, message: "slow".into() };
    let pod_problems = PodProblems::one(Component::Portal, problem);
    let live = deployment(&json!([unavailable()]));
    let found = progress_of([(Component::Portal, Some(&live))], &pod_problems);
    assert_eq!((found.is_true, found.reason), (true, Reason::RollingOut));
}

#[test]
fn a_migration_that_was_never_made_is_no_obstacle_of_its_own() {
    let job = || Some("p-migrate-1".to_owned());
    let missing = missing_job(job(), &Live::default()).expect("it is not there");
    let failure = Failure {
        concerns: ConditionType::Progressing,
        reason: Reason::Refused,
        message: "a policy is in the way".to_owned(),
    };
    let ready = readiness(&[missing], Some(&failure));
    assert_eq!((ready.reason, &*ready.message), (Reason::Refused, "a policy is in the way"));
    let jobs = [("p-migrate-1".to_owned(), Migration::Running)].into();
    let live = Live { jobs, ..Live::default() };
    assert_eq!((missing_job(job(), &live), missing_job(None, &live)), (None, None));
}

#[test]
fn a_new_portal_that_is_stuck_at_its_first_step_says_in_ready_what_it_is() {
    let portal: HardwarePortal = serde_json::from_value(json!({
        "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
        "metadata": {"name": "p", "generation": 1}, "spec": {},
    }))
    .expect("a portal");
    for concerns in [ConditionType::Progressing, ConditionType::DatabaseReady] {
        let message = "a policy is in the way".to_owned();
        let failure = Failure { concerns, reason: Reason::Refused, message };
        let outcome = ReconcileOutcome::Failed(&failure);
        let now = Timestamp::UNIX_EPOCH;
        let status = report(&portal, &outcome, &Live::default(), &PodProblems::default(), now);
        let ready: Option<&Condition> = status.conditions.iter().find(|one| one.type_ == "Ready");
        let ready = ready.expect("Ready is always there");
        assert_eq!((&*ready.reason, &*ready.message), ("Refused", "a policy is in the way"));
    }
}

//! What the readers of Reconciling and Stalled make of a portal.

use crds::{ConditionType, HardwarePortal, Reason, RotationMode};
use serde_json::{Value, json};

use super::{
    World, failure, missing_image, on_mysql, paused, refused, rolling, scaled_to_zero, serving,
    starting,
};
use crate::{
    cluster::labels::Component,
    portal::{
        build::{migration, tests::example},
        live::Migration,
        pods::{PodProblem, PodProblems, refused_pods},
        status::ReconcileOutcome,
    },
    rotation::{DatabaseProblem, Trouble},
};

/// The rules of kstatus (sigs.k8s.io/cli-utils) for kinds that it does not know.
fn kstatus(portal: &HardwarePortal) -> &'static str {
    let Some(status) = &portal.status else { return "Current" };
    if status.observed_generation.is_some_and(|it| Some(it) != portal.metadata.generation) {
        return "InProgress";
    }
    let is = |kind: &str, wanted: &str| {
        status.conditions.iter().any(|one| one.type_ == kind && one.status == wanted)
    };
    if is("Reconciling", "True") {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "False") {
        "InProgress"
    } else {
        "Current"
    }
}

/// `kubectl wait --for=condition=Ready`.
fn ends_wait(portal: &HardwarePortal) -> bool {
    let mut conditions = portal.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|one| {
        one.type_ == "Ready"
            && one.status == "True"
            && one.observed_generation >= portal.metadata.generation
    })
}

fn expect(world: &World, status: &str, is_waited_for: bool, why: &str) {
    let conditions = &world.status().conditions;
    assert_eq!(kstatus(&world.portal), status, "{why}: {conditions:#?}");
    assert_eq!(ends_wait(&world.portal), is_waited_for, "{why}: {conditions:#?}");
    let (reconciling, stalled) = (world.condition("Reconciling"), world.condition("Stalled"));
    assert!(reconciling.0 == "False" || stalled.0 == "False", "{why}: both");
    assert_eq!(world.status().conditions.len(), ConditionType::ALL.len(), "{why}");
    for (is_true, found) in [(reconciling.0, "Reconciling"), (stalled.0, "Stalled")] {
        let has_message = !world.find(found).message.is_empty();
        assert_eq!(is_true == "True", has_message, "{why}: {found}");
    }
}

fn with_deployments(world: World, state: &Value) -> World {
    let mut world = world;
    world.set_deployments(state);
    world.apply();
    world
}

/// One on MySQL whose migration has succeeded.
fn mysql(state: Option<&Value>) -> World {
    let mut world = World::new(on_mysql());
    let job = migration::name(&world.resolved).expect("it is on MySQL");
    world.live.jobs.insert(job, Migration::Succeeded);
    world.credentials = Some(example::credentials(RotationMode::AlternatingUsers));
    if let Some(state) = state {
        world.set_deployments(state);
    }
    world.apply();
    world
}

fn trouble(reason: Reason) -> Trouble {
    Trouble::new(reason, "m")
}

#[test]
fn a_new_object_is_in_progress_before_the_operator_has_seen_it() {
    let world = World::new(json!({}));
    assert_eq!((kstatus(&world.portal), ends_wait(&world.portal)), ("InProgress", false));
}

#[test]
fn rollouts_are_in_progress_until_somebody_has_to_act() {
    let new = || World::new(json!({}));
    let edited = || World::serving(json!({})).edited();
    expect(&with_deployments(new(), &starting()), "InProgress", false, "the first pods start");
    expect(&with_deployments(new(), &serving()), "Current", true, "it serves");
    expect(&with_deployments(edited(), &rolling()), "InProgress", false, "old pods are left");
    expect(&with_deployments(edited(), &serving()), "Current", true, "rolled out");
    expect(&with_deployments(edited(), &refused()), "Failed", false, "quota refuses new pods");
    expect(&with_deployments(edited(), &paused()), "Failed", false, "paused");
    let mut world = edited();
    world.problems = missing_image();
    expect(&with_deployments(world, &rolling()), "Failed", false, "an image is missing");
    let mut world = edited();
    let message = "no node takes pod demo-hardware-1".to_owned();
    let no_node = PodProblem { reason: Reason::Unschedulable, message };
    world.problems = PodProblems::one(Component::Hardware, no_node);
    let mut world = with_deployments(world, &rolling());
    expect(&world, "InProgress", false, "an autoscaler may add a node");
    let mut late = rolling();
    let deadline = json!({
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
    });
    late["status"]["conditions"] = json!([super::available("True"), deadline]);
    world.set_deployments(&late);
    world.apply();
    expect(&world, "Failed", false, "none came");
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)), "old pods serve");
}

#[test]
fn a_portal_without_wanted_pods_is_neither_reconciling_nor_stalled() {
    let world = with_deployments(World::serving(json!({})).edited(), &scaled_to_zero());
    expect(&world, "InProgress", false, "scaled to zero");
    assert_eq!(world.condition("Ready"), ("False", "ScaledToZero", Some(2)));
    assert_eq!(world.condition("Reconciling").0, "False");

    let spec = json!({"database": {"embedded": {"storage": {}}}});
    let mut world = World::new(spec);
    world.live.claim = Some("Pending".to_owned());
    let world = with_deployments(world, &scaled_to_zero());
    expect(&world, "InProgress", false, "nothing binds its claim");
    assert_eq!(world.condition("Ready").1, "ScaledToZero");
    assert_eq!(world.condition("Reconciling").0, "False");
}

#[test]
fn what_ends_a_pass_is_tried_again_or_waits_for_somebody() {
    for (reason, word) in [
        (Reason::InvalidSpec, "Failed"),
        (Reason::SourceNotFound, "Failed"),
        (Reason::SourceNotAllowed, "Failed"),
        (Reason::SourceInvalid, "Failed"),
        (Reason::StateRefused, "Failed"),
        (Reason::HostNotNamed, "Failed"),
        (Reason::RootRejected, "Failed"),
        (Reason::Refused, "Failed"),
        (Reason::ListForbidden, "Failed"),
        (Reason::ApiError, "InProgress"),
        (Reason::SourceUnavailable, "InProgress"),
        (Reason::StateLocked, "InProgress"),
        (Reason::RootUnreachable, "InProgress"),
        (Reason::Rotating, "InProgress"),
    ] {
        let failure = failure(ConditionType::CredentialsReady, reason);
        let beginnings: [fn() -> World; 2] =
            [|| World::new(json!({})), || World::serving(json!({})).edited()];
        for begin in beginnings {
            let mut world = begin();
            world.finish(&ReconcileOutcome::Failed(&failure));
            expect(&world, word, false, reason.as_str());
            world.apply_in_vain(&failure, true);
            expect(&world, word, false, reason.as_str());
        }
    }
}

#[test]
fn a_suspended_portal_is_as_what_runs() {
    let mut world = World::serving(json!({})).edited();
    world.finish(&ReconcileOutcome::Suspended);
    expect(&world, "Current", false, "it serves an older generation");
    let mut world = World::new(json!({}));
    world.finish(&ReconcileOutcome::Suspended);
    expect(&world, "InProgress", false, "nothing was ever made");
}

#[test]
fn a_problem_of_a_rotation_stalls_a_portal_only_where_it_keeps_pods_from_serving() {
    let mut world = mysql(Some(&serving()));
    expect(&world, "Current", true, "it serves");
    for reason in [Reason::RootRejected, Reason::SourceNotFound, Reason::RotationStalled] {
        world.credentials.as_mut().expect("set").trouble = Some(trouble(reason));
        world.apply();
        assert_eq!(world.condition("CredentialsReady").1, reason.as_str());
        expect(&world, "Current", true, "the pods go on serving");
    }
    world.credentials.as_mut().expect("set").trouble = Some(trouble(Reason::RootRejected));
    world.set_deployments(&starting());
    world.apply();
    expect(&world, "Failed", false, "the pods cannot be given another login");
    assert_eq!(world.condition("Stalled").1, "RootRejected");
}

#[test]
fn a_database_that_is_away_stalls_nothing_as_it_heals_by_itself() {
    let mut world = mysql(Some(&serving()));
    let message = "the database db.example:3306 does not answer".to_owned();
    world.credentials.as_mut().expect("set").database =
        Some(DatabaseProblem { message, is_confirmed: true });
    world.apply();
    expect(&world, "InProgress", false, "away");
    assert_eq!(world.condition("DatabaseReady"), ("False", "DatabaseUnreachable", Some(1)));
    assert_eq!(world.condition("Ready"), ("False", "DatabaseUnreachable", Some(1)));
    assert_eq!(world.find("Ready").message, "the database db.example:3306 does not answer");
    assert_eq!(
        (world.condition("Reconciling").0, world.condition("Stalled").0),
        ("False", "False")
    );
    world.credentials.as_mut().expect("set").database = None;
    world.apply();
    expect(&world, "Current", true, "healed");
}

#[test]
fn a_migration_is_in_progress_until_it_fails_or_its_pods_are_refused() {
    let mut world = mysql(None);
    let job = migration::name(&world.resolved).expect("it is on MySQL");
    let running = Migration::Running { since: None, had_pods: false };
    world.live.jobs.insert(job.clone(), running);
    world.apply();
    expect(&world, "InProgress", false, "it runs");
    let refused = refused_pods("pods \"x\" is forbidden: exceeded quota: q");
    world.problems = PodProblems::one(Component::Migration, refused);
    world.apply();
    expect(&world, "Failed", false, "its pods are refused");
    assert_eq!(world.condition("Ready").1, "Refused");
    let failed = Migration::Failed { why: "late".to_owned(), had_pods: false };
    world.live.jobs.insert(job, failed);
    world.apply();
    expect(&world, "Failed", false, "it gave up");
    assert_eq!(world.condition("Progressing"), ("False", "MigrationFailed", Some(1)));
}

#[test]
fn a_claim_that_lost_its_volume_waits_for_somebody() {
    let mut world = World::new(json!({"database": {"embedded": {"storage": {}}}}));
    world.live.claim = Some("Pending".to_owned());
    let mut world = with_deployments(world, &serving());
    expect(&world, "InProgress", false, "it is being bound");
    world.live.claim = Some("Lost".to_owned());
    world.apply();
    expect(&world, "Failed", false, "its volume is gone");
}

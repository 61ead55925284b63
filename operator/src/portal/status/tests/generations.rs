//! The generation of the spec that each condition is of.

use crds::{ConditionType, Reason};
use serde_json::json;

use super::{World, failure, on_mysql, refused, rolling, serving, starting};
use crate::portal::{
    build::tests::example,
    live::Migration,
    status::{ReconcileOutcome, database::missing_job, readiness::ready},
};

#[test]
fn a_portal_is_ready_for_a_new_generation_once_no_old_pod_is_left() {
    let mut world = World::serving(json!({})).edited();
    // Only the page has anything to roll out.
    for _ in 0..2 {
        world.set_page(&rolling());
        world.apply();
        assert_eq!(world.status().observed_generation, Some(2));
        assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
        assert_eq!(world.condition("PortalAvailable"), ("True", "AsExpected", Some(1)));
        assert_eq!(world.condition("HardwareAvailable"), ("True", "AsExpected", Some(2)));
        assert_eq!(world.condition("Progressing"), ("True", "RollingOut", Some(2)));
        assert_eq!(world.condition("Reconciling"), ("True", "RollingOut", Some(2)));
        // An old pod that fails meanwhile does not make the new generation the one that is judged.
        let mut state = rolling();
        state["status"]["conditions"] = json!([super::available("False")]);
        world.set_page(&state);
        world.apply();
        assert_eq!(world.condition("Ready"), ("False", "MinimumReplicasUnavailable", Some(2)));
    }
    world.set_page(&serving());
    world.apply();
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(2)));
    assert_eq!(world.condition("Reconciling"), ("False", "AsExpected", Some(2)));
    // A pod that an autoscaler adds is of the same template.
    let mut growing = serving();
    growing["spec"] = json!({"replicas": 4});
    world.set_page(&growing);
    world.apply();
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(2)));
}

#[test]
fn a_refused_deployment_leaves_ready_at_the_generation_that_serves() {
    // The Deployment was written, and its pods are refused.
    let mut world = World::serving(json!({})).edited();
    world.set_deployments(&refused());
    world.apply();
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
    assert_eq!(world.condition("HardwareAvailable"), ("True", "AsExpected", Some(1)));
    assert_eq!(world.condition("Progressing"), ("False", "Refused", Some(2)));
    assert_eq!(world.condition("Stalled"), ("True", "Refused", Some(2)));
    assert!(world.find("Stalled").message.contains("exceeded quota: q"));

    // The Deployment itself is refused.
    let mut world = World::serving(json!({})).edited();
    world.apply_in_vain(&failure(ConditionType::Progressing, Reason::Refused), true);
    assert_eq!(world.status().observed_generation, Some(2));
    for kind in ["Ready", "HardwareAvailable", "PortalAvailable"] {
        assert_eq!(world.condition(kind), ("True", "AsExpected", Some(1)), "{kind}");
    }
    assert_eq!(world.find("AutoscalingActive").observed_generation, Some(1));
    assert_eq!(world.condition("Progressing"), ("False", "Refused", Some(2)));
    assert_eq!(world.condition("Stalled"), ("True", "Refused", Some(2)));
    assert_eq!(world.condition("Reconciling"), ("False", "AsExpected", Some(2)));

    // Without pods, nothing is ready.
    let mut world = World::new(json!({}));
    world.apply_in_vain(&failure(ConditionType::Progressing, Reason::Refused), true);
    assert_eq!(world.condition("Ready"), ("False", "Refused", Some(1)));
    assert_eq!(world.condition("HardwareAvailable"), ("False", "NotCreated", Some(0)));
}

#[test]
fn a_spec_that_cannot_be_resolved_is_judged_by_what_it_concerns_alone() {
    let mut world = World::serving(json!({})).edited();
    let invalid = failure(ConditionType::CredentialsReady, Reason::InvalidSpec);
    world.finish(&ReconcileOutcome::Failed(&invalid));
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
    assert_eq!(world.condition("DatabaseReady"), ("True", "EmbeddedEphemeral", Some(1)));
    assert_eq!(world.condition("CredentialsReady"), ("False", "InvalidSpec", Some(2)));
    assert_eq!(world.condition("Progressing"), ("False", "InvalidSpec", Some(2)));
    assert_eq!(world.condition("Stalled"), ("True", "InvalidSpec", Some(2)));
    assert_eq!(world.condition("Suspended"), ("False", "NotSuspended", Some(2)));
    // The pods of the generation that serves end.
    world.set_deployments(&starting());
    world.finish(&ReconcileOutcome::Failed(&invalid));
    assert_eq!(world.condition("HardwareAvailable").0, "False");
    assert_eq!(world.condition("HardwareAvailable").2, Some(1));
    world.set_deployments(&serving());
    world.finish(&ReconcileOutcome::Failed(&invalid));
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
}

#[test]
fn a_suspended_portal_is_judged_by_what_runs_for_the_generation_that_was_applied() {
    let mut world = World::serving(json!({})).edited();
    world.finish(&ReconcileOutcome::Suspended);
    assert_eq!(world.status().observed_generation, Some(2));
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
    assert_eq!(world.condition("DatabaseReady"), ("True", "EmbeddedEphemeral", Some(1)));
    assert_eq!(world.condition("Suspended"), ("True", "SuspendedBySpec", Some(2)));
    assert_eq!(world.condition("Stalled"), ("False", "SuspendedBySpec", Some(2)));
    world.set_deployments(&starting());
    world.finish(&ReconcileOutcome::Suspended);
    assert_eq!(world.condition("Ready"), ("False", "MinimumReplicasUnavailable", Some(2)));
}

#[test]
fn a_generation_that_waits_for_its_migration_is_not_the_one_whose_pods_are_available() {
    let mut world = World::new(on_mysql());
    let job = crate::portal::build::migration::name(&world.resolved).expect("it is on MySQL");
    world.credentials = Some(example::credentials(crds::RotationMode::AlternatingUsers));
    world.live.jobs.insert(job.clone(), Migration::Succeeded);
    world.set_deployments(&serving());
    world.apply();
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));

    let mut world = world.edited();
    world.live.jobs.insert(job, Migration::Running { since: None, had_pods: true });
    let applied = super::applied(world.page.iter(), true);
    let (resolved, credentials) = (world.resolved.clone(), world.credentials.clone());
    world.finish(&ReconcileOutcome::Applied {
        resolved: &resolved,
        credentials: credentials.as_ref(),
        applied: &applied,
    });
    assert_eq!(world.condition("HardwareAvailable"), ("True", "AsExpected", Some(1)));
    assert_eq!(world.condition("DatabaseReady"), ("False", "Migrating", Some(2)));
    assert_eq!(world.condition("Ready"), ("False", "Migrating", Some(2)));
    assert_eq!(world.condition("Reconciling"), ("True", "Migrating", Some(2)));
}

#[test]
fn a_status_of_another_object_says_nothing_of_this_one() {
    let mut world = World::serving(json!({}));
    let restored = world.portal.status.as_mut().expect("a status");
    restored.conditions.iter_mut().for_each(|one| one.observed_generation = Some(7));
    world.finish(&ReconcileOutcome::Suspended);
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(0)));
}

#[test]
fn a_migration_that_was_never_made_is_no_obstacle_of_its_own() {
    let mut world = World::new(on_mysql());
    let job = || Some("demo-migrate-1".to_owned());
    let missing = missing_job(job(), &world.live).expect("it is not there");
    let refused = failure(ConditionType::Progressing, Reason::Refused);
    let found = ready(&[missing], Some(&refused));
    assert_eq!((found.reason, &*found.message), (Reason::Refused, "something is in the way"));
    let running = Migration::Running { since: None, had_pods: true };
    world.live.jobs.insert("demo-migrate-1".to_owned(), running);
    assert_eq!((missing_job(job(), &world.live), missing_job(None, &world.live)), (None, None));
}

#[test]
fn old_pods_serve_although_the_database_of_the_new_generation_is_not_there_yet() {
    let mut world = World::serving(json!({})).edited();
    world.resolved = example::validated(
        json!({"database": {"embedded": {"storage": {}}}}),
        &example::settings(),
    );
    world.apply_in_vain(&failure(ConditionType::Progressing, Reason::Refused), true);
    assert_eq!(world.condition("DatabaseReady"), ("False", "VolumePending", Some(2)));
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
}

#[test]
fn a_new_portal_that_is_stuck_at_its_first_step_says_in_ready_what_it_is() {
    for concerns in [ConditionType::Progressing, ConditionType::DatabaseReady] {
        let mut world = World::new(json!({}));
        world.finish(&ReconcileOutcome::Failed(&failure(concerns, Reason::Refused)));
        assert_eq!(world.condition("Ready"), ("False", "Refused", Some(1)));
        assert_eq!(world.find("Ready").message, "something is in the way");
    }
}

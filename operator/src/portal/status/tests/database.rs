//! Where the data are, by the objects that are there.

use crds::Reason;
use serde_json::{Value, json};

use super::{World, deployment, object, on_mysql};
use crate::{
    cluster::labels::Component,
    portal::{
        build::migration,
        live::{LiveDeployment, Migration},
        pods::{PodProblem, PodProblems},
        status::database::{embedded, migrated},
    },
};

fn hardware(volumes: &Value) -> LiveDeployment {
    let spec = json!({"template": {"spec": {"containers": [{"image": "i"}], "volumes": volumes}}});
    LiveDeployment::read(&deployment("p-hardware", &json!({"spec": spec}))).expect("a spec")
}

#[test]
fn an_embedded_database_is_what_the_live_deployment_mounts() {
    let on = |claim: &str| {
        let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]);
        Some(hardware(&volume))
    };
    let in_pod = || Some(hardware(&json!([{"name": "data", "emptyDir": {}}])));
    let cases = [
        (true, on("p-data"), Some("Bound"), (true, Reason::EmbeddedPersistent), "p-data"),
        (true, on("p-data"), Some("Pending"), (false, Reason::VolumePending), "is Pending"),
        (true, on("p-data"), Some("Lost"), (false, Reason::VolumePending), "is Lost"),
        (true, on("p-data"), None, (false, Reason::VolumePending), "does not exist yet"),
        (true, None, Some("Pending"), (false, Reason::VolumePending), "first consumer"),
        (true, None, Some("Bound"), (false, Reason::NotCreated), "p-hardware does not exist"),
        (true, in_pod(), Some("Bound"), (false, Reason::EmbeddedEphemeral), "does not mount"),
        (true, on("x"), Some("Bound"), (false, Reason::EmbeddedPersistent), "still keeps"),
        (false, in_pod(), None, (true, Reason::EmbeddedEphemeral), "are lost with the pod"),
        (false, on("p-data"), Some("Bound"), (false, Reason::EmbeddedPersistent), "still keeps"),
        (false, None, None, (false, Reason::NotCreated), "p-hardware does not exist"),
        (false, Some(hardware(&json!([]))), None, (false, Reason::RollingOut), "yet"),
    ];
    for (wants_claim, hardware, phase, expected, part) in cases {
        let found = embedded("p", wants_claim, hardware.as_ref(), phase);
        let why = format!("{wants_claim} {phase:?}: {}", found.message);
        assert_eq!((found.is_true, found.reason), expected, "{why}");
        assert!(found.message.contains(part), "{why}");
    }
}

#[test]
fn a_migration_is_as_its_job_and_never_points_at_a_log_that_is_not_there() {
    let running = |had_pods| Migration::Running { since: None, had_pods };
    let failed = |had_pods| Migration::Failed { why: "late".to_owned(), had_pods };
    let problem = |reason, message: &str| PodProblem { reason, message: message.to_owned() };
    let none_made = "no pod of Job j has been made; kubectl describe job j says why";
    let cases = [
        (Some(Migration::Succeeded), None, (true, Reason::AsExpected), "the schema is current"),
        (None, None, (false, Reason::Migrating), "Job j brings the schema up to date"),
        (
            Some(running(true)),
            None,
            (false, Reason::Migrating),
            "Job j brings the schema up to date",
        ),
        (
            Some(running(false)),
            Some(problem(Reason::Migrating, none_made)),
            (false, Reason::Migrating),
            none_made,
        ),
        (
            Some(running(false)),
            Some(problem(Reason::Refused, "its pods are refused: q")),
            (false, Reason::Refused),
            "Job j cannot bring the schema up to date: its pods are refused: q",
        ),
        (
            Some(running(true)),
            Some(problem(Reason::ImagePullBackOff, "pod x does not get its image")),
            (false, Reason::ImagePullBackOff),
            "Job j cannot bring the schema up to date: pod x does not get its image",
        ),
        (
            Some(failed(true)),
            None,
            (false, Reason::MigrationFailed),
            "Job j failed (late); its pods' log says why: kubectl logs job/j; it is tried again",
        ),
        (
            Some(failed(false)),
            None,
            (false, Reason::MigrationFailed),
            "Job j failed (late) and never had a pod; kubectl describe job j says why; it is tried again",
        ),
    ];
    for (job, problem, expected, message) in cases {
        let found = migrated("j", job.as_ref(), problem.as_ref());
        assert_eq!((found.is_true, found.reason), expected, "{}", found.message);
        assert_eq!(found.message, message);
    }
}

#[test]
fn a_problem_of_the_migrations_pods_is_that_of_the_database_and_of_progress() {
    let mut world = World::new(on_mysql());
    let job = migration::name(&world.resolved).expect("it is on MySQL");
    world.live.jobs.insert(job, Migration::Running { since: None, had_pods: true });
    let message = "pod demo-migrate-1 does not get its image".to_owned();
    let problem = PodProblem { reason: Reason::ImagePullBackOff, message };
    world.problems = PodProblems::one(Component::Migration, problem);
    world.apply();
    for kind in ["DatabaseReady", "Progressing", "Ready"] {
        assert_eq!(world.condition(kind), ("False", "ImagePullBackOff", Some(1)), "{kind}");
    }
}

#[test]
fn the_answer_to_a_write_counts_before_the_watch_shows_it() {
    let claim =
        object("PersistentVolumeClaim", "demo-data", &json!({"status": {"phase": "Bound"}}));
    let mut world = World::new(json!({"database": {"embedded": {"storage": {}}}}));
    let mounted = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "demo-data"}}]);
    let spec = json!({"template": {"spec": {"containers": [{"image": "i"}], "volumes": mounted}}});
    let written = deployment("demo-hardware", &json!({"spec": spec}));
    let applied = super::applied([claim, written].iter(), true);
    let resolved = world.resolved.clone();
    world.finish(&crate::portal::status::ReconcileOutcome::Applied {
        resolved: &resolved,
        credentials: None,
        applied: &applied,
    });
    assert_eq!(world.condition("DatabaseReady"), ("True", "EmbeddedPersistent", Some(1)));
    let hardware = world.status().hardware.as_ref().expect("the Deployment's numbers");
    assert_eq!(hardware.summary, "0/2");
}

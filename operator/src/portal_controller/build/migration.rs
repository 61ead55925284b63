//! The Job that brings the schema up to date before new pods start.

use crds::RotationMode;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, PodSpec, PodTemplateSpec},
};
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    hardware,
    labels::{self, Component},
    names,
    pod::{self, Files},
};
use crate::portal_controller::{
    live::{Live, Migration},
    validate::{ValidatedDatabase, ValidatedPortal},
};

/// The Job for this image and this database; none for an embedded database, which migrates itself.
/// It has no time to live: if it went by itself, it would be made again for ever.
#[must_use]
pub fn job(portal: &ValidatedPortal) -> Option<Job> {
    let name = name(portal)?;
    let key = if has_owner(portal) { names::OWNER_KEY } else { names::CREDENTIALS_KEY };
    let Files { env, volumes, mounts } = hardware::database_files(portal, key);
    let container = Container {
        name: Component::Migration.as_str().to_owned(),
        image: Some(portal.hardware.image.clone()),
        image_pull_policy: portal.hardware.pull_policy.clone(),
        args: Some(vec!["migrate".to_owned()]),
        env: Some(env),
        resources: Some(portal.hardware.resources.clone()),
        security_context: Some(pod::confined()),
        volume_mounts: pod::some(mounts),
        ..Container::default()
    };
    let pod_labels = labels::selecting(portal, Component::Migration);
    Some(Job {
        metadata: labels::owned(portal, Component::Migration, name),
        spec: Some(JobSpec {
            // With Kubernetes' own delays, about two minutes; then the operator starts anew.
            backoff_limit: Some(3),
            active_deadline_seconds: Some(600),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(PodSpec {
                    restart_policy: Some("Never".to_owned()),
                    ..pod::pod(&portal.hardware, names::hardware(&portal.name), container, volumes)
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// Name of the Job: the same for the same image and database, so that one is enough, and another for
/// another, since a Job's template cannot be changed.
#[must_use]
pub fn name(portal: &ValidatedPortal) -> Option<String> {
    let ValidatedDatabase::Mysql(mysql) = &portal.database else { return None };
    let place = mysql.place();
    let hardware = &portal.hardware;
    let mut identity = vec![
        json!(hardware.image),
        json!(place.host),
        json!(place.port),
        json!(place.database),
        json!(mysql.tls),
        json!(hardware.resources),
        json!(has_owner(portal)),
    ];
    // Only then, so that the Jobs of portals without it keep the names that they have.
    identity.extend(hardware.spec.scheduling.as_ref().map(|scheduling| json!(scheduling)));
    let identity = Value::Array(identity);
    let digest = Sha256::digest(identity.to_string());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Some(format!("{}-migrate-{hash:08x}", portal.name))
}

/// Whether the migration has still to succeed before new pods may start.
#[must_use]
pub fn is_outstanding(portal: &ValidatedPortal, live: &Live) -> bool {
    name(portal).is_some_and(|job| live.jobs.get(&job) != Some(&Migration::Succeeded))
}

/// Whether the schema is changed by an account of its own. Where others make the accounts, the pods'
/// one does it.
#[must_use]
pub fn has_owner(portal: &ValidatedPortal) -> bool {
    match &portal.database {
        ValidatedDatabase::Embedded { .. } => false,
        ValidatedDatabase::Mysql(mysql) => mysql.plan.mode != RotationMode::Follow,
    }
}

//! The Job that brings the schema up to date before new pods start.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Affinity, Container, PodSpec, PodTemplateSpec},
};
use kube::api::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    hardware,
    pod::{self, Files},
};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::{
        live::{Live, Migration},
        resolve::{ResolvedDatabase, ResolvedPortal},
    },
};

/// The Job of this portal; none for an embedded database, whose pod migrates it. It has no
/// `ttlSecondsAfterFinished`: each pass after its deletion would create it anew.
#[must_use]
pub fn job(portal: &ResolvedPortal) -> Option<Job> {
    let spec = spec(portal)?;
    let name = name(portal)?;
    Some(Job {
        metadata: labels::owned(portal, Component::Migration, name),
        spec: Some(spec),
        status: None,
    })
}

/// Name of the Job, made of what a migration depends on: the image, which has the migrations, and the
/// schema. Each image migrates each schema once, whatever else its pods are given.
#[must_use]
pub fn name(portal: &ResolvedPortal) -> Option<String> {
    let ResolvedDatabase::Mysql(mysql) = &portal.database else { return None };
    let place = mysql.request.place();
    let identity = json!([portal.hardware.image, place.host, place.port, place.database]);
    let digest = Sha256::digest(identity.to_string());
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Some(format!("{}-migrate-{hash:08x}", portal.name))
}

fn spec(portal: &ResolvedPortal) -> Option<JobSpec> {
    let ResolvedDatabase::Mysql(_) = &portal.database else { return None };
    let Files { env, volumes, mounts } =
        hardware::database_files(portal, names::MIGRATION_CREDENTIALS_KEY);
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
    let account = names::hardware(&portal.name);
    let pod_labels = labels::selecting(&portal.name, Component::Migration);
    let pod = pod::pod(&portal.hardware, account, container, volumes);
    // Affinity to pods is about the pods of the API, which may not exist before the migration.
    let of_nodes = pod.affinity.clone().and_then(|affinity| affinity.node_affinity);
    let affinity =
        of_nodes.map(|nodes| Affinity { node_affinity: Some(nodes), ..Affinity::default() });
    Some(JobSpec {
        // With the Job controller's backoff, about two minutes. Then the operator creates it anew.
        backoff_limit: Some(3),
        active_deadline_seconds: Some(600),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
            spec: Some(PodSpec { restart_policy: Some("Never".to_owned()), affinity, ..pod }),
        },
        ..JobSpec::default()
    })
}

/// Whether the migration has still to succeed before new pods may start.
#[must_use]
pub fn is_outstanding(portal: &ResolvedPortal, live: &Live) -> bool {
    name(portal).is_some_and(|job| !matches!(live.jobs.get(&job), Some(Migration::Succeeded)))
}

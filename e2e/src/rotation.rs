//! What can be seen of a portal's rotations, and asking for one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crds::{HardwarePortal, RotationOutcome, RotationPhase, RotationRecord};
use k8s_openapi::{
    api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time, jiff::SignedDuration,
};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::{
    Namespace, database::Database, namespace::expect_condition, operator, source, wait::eventually,
};

/// Longer than any rotation without an obstacle takes on a busy machine.
pub const ROTATED: Duration = Duration::from_mins(4);

/// Starts a portal on an empty schema, with a root account of its own, whose password it gives.
pub async fn start_portal(
    namespace: &Namespace,
    database: &Database,
    name: &str,
    root: &str,
    spec: Value,
) -> Result<String> {
    let password = database.create_root(root).await?;
    source::offer(namespace, database, root, &password, source::allow(name)).await?;
    namespace.apply_portal(name, spec).await?;
    namespace.wait_until_ready(name).await?;
    Ok(password)
}

/// The latest rotation that has ended, once none is under way. The first one of a portal may still be
/// when its pods are ready.
pub async fn last_rotation(namespace: &Namespace, portal: &str) -> Result<RotationRecord> {
    let what = format!("the end of a rotation of {portal}");
    eventually(&what, ROTATED, async || find_last_rotation(namespace, portal).await).await
}

async fn find_last_rotation(namespace: &Namespace, portal: &str) -> Result<RotationRecord> {
    let portal: HardwarePortal = namespace.api().get(portal).await?;
    let credentials = portal.status.and_then(|status| status.credentials);
    let credentials = credentials.context("the status tells of credentials")?;
    ensure!(
        credentials.phase == Some(RotationPhase::Idle),
        "the rotation is at {:?}",
        credentials.phase
    );
    credentials.history.into_iter().next().context("no rotation has ended")
}

/// Waits for the end of a rotation that leads beyond a generation.
pub async fn wait_for_rotation(
    namespace: &Namespace,
    portal: &str,
    beyond: i64,
) -> Result<RotationRecord> {
    eventually(&format!("a rotation of {portal} beyond generation {beyond}"), ROTATED, async || {
        let last = find_last_rotation(namespace, portal).await?;
        ensure!(last.generation > beyond, "the last one led to generation {}", last.generation);
        Ok(last)
    })
    .await
}

/// Rotates on request, `times` in a row, and gives how long the slowest took to be adopted and to end.
pub async fn rotate_in_a_row(
    namespace: &Namespace,
    portal: &str,
    times: usize,
) -> Result<(Duration, Duration)> {
    let mut slowest = (Duration::ZERO, Duration::ZERO);
    let mut last = last_rotation(namespace, portal).await?;
    for _ in 0..times {
        namespace.ask_for_rotation(portal).await?;
        last = wait_for_rotation(namespace, portal, last.generation).await?;
        ensure!(last.outcome == RotationOutcome::Completed, "it ended otherwise: {last:?}");
        let since_start = |end: &Option<Time>| {
            let (start, end) = (last.started_at.as_ref(), end.as_ref());
            let times = start.zip(end).map(|(start, end)| end.0.duration_since(start.0));
            times.map(SignedDuration::unsigned_abs).unwrap_or_default()
        };
        slowest.0 = slowest.0.max(since_start(&last.adopted_at));
        slowest.1 = slowest.1.max(since_start(&last.revoked_at));
    }
    Ok(slowest)
}

/// The logins that the pods' file holds: generation, then account and password of each.
pub async fn published(
    namespace: &Namespace,
    portal: &str,
) -> Result<(u64, Vec<(String, String)>)> {
    let file = credentials_file(namespace, portal).await?;
    let text = |login: &Value, key: &str| login[key].as_str().unwrap_or_default().to_owned();
    let logins = file["candidates"].as_array().cloned().unwrap_or_default();
    let logins = logins.iter().map(|login| (text(login, "username"), text(login, "password")));
    Ok((file["generation"].as_u64().unwrap_or_default(), logins.collect()))
}

/// Where the pods' file says that the database is, as `HOST:PORT/SCHEMA`.
pub async fn published_place(namespace: &Namespace, portal: &str) -> Result<String> {
    let file = credentials_file(namespace, portal).await?;
    let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
    Ok(format!("{}:{}/{}", text("host"), file["port"], text("database")))
}

async fn credentials_file(namespace: &Namespace, portal: &str) -> Result<Value> {
    let secret: Secret = namespace.api().get(&format!("{portal}-database")).await?;
    let file = secret.data.and_then(|mut data| data.remove("credentials.json"));
    Ok(serde_json::from_slice(&file.context("the Secret has a file")?.0)?)
}

/// What is common to the names of a portal's accounts, by one of them.
#[must_use]
pub fn prefix(account: &str) -> String {
    account.trim_end_matches(['a', 'b']).to_owned()
}

/// The Secrets of the operator's own namespace, where it stores the states of rotations.
#[must_use]
pub fn stored_states(client: Client) -> Api<Secret> {
    Api::namespaced(client, operator::NAMESPACE)
}

/// Name of the Secret with the state of a portal's rotations.
pub async fn name_of_state(namespace: &Namespace, portal: &str) -> Result<String> {
    let portal = namespace.api::<HardwarePortal>().get_metadata(portal).await?;
    Ok(format!("rotation-{}", portal.uid().context("a stored object has a uid")?))
}

/// The state of a portal's rotations, as the operator stores it.
pub async fn stored_state(namespace: &Namespace, portal: &str) -> Result<Value> {
    let name = name_of_state(namespace, portal).await?;
    state_in(&stored_states(namespace.client()), &name).await
}

/// The state in one of these Secrets.
pub async fn state_in(secrets: &Api<Secret>, name: &str) -> Result<Value> {
    let secret = secrets.get(name).await?;
    let record = secret.data.and_then(|mut data| data.remove("record.json"));
    let record: Value = serde_json::from_slice(&record.context("the Secret has a record")?.0)?;
    Ok(record["state"].clone())
}

/// Waits until the Secret of this name is gone from the operator's own namespace.
pub async fn wait_until_forgotten(client: Client, name: &str, deadline: Duration) -> Result<()> {
    let states = stored_states(client);
    eventually(&format!("the end of the Secret {name}"), deadline, async || {
        ensure!(states.get_metadata_opt(name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// Waits until `CredentialsReady` is false for this reason, in words, while the portal stays Ready: pods
/// that hold a login go on serving.
pub async fn wait_for_reason(
    namespace: &Namespace,
    portal: &str,
    reason: &str,
    words: &str,
) -> Result<String> {
    eventually(&format!("CredentialsReady with {reason}"), ROTATED, async || {
        let portal: HardwarePortal = namespace.api().get(portal).await?;
        let found = expect_condition(&portal, "CredentialsReady", "False")?;
        ensure!(found.reason == reason, "it is {}: {}", found.reason, found.message);
        ensure!(found.message.contains(words), "it should speak of {words}: {}", found.message);
        expect_condition(&portal, "Ready", "True")?;
        Ok(found.message)
    })
    .await
}

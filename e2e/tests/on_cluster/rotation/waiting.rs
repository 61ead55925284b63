//! What a rotation waits for: sessions and pods that are not ready to lose the old login. Nothing is
//! revoked until they are.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::{HardwarePortal, RotationOutcome, RotationPhase};
use e2e::{
    Namespace,
    database::Database,
    node::{Hung, freeze_volume},
    rotation::{
        ROTATED, last_rotation, published, start_portal, wait_for_reason, wait_for_rotation,
    },
    source,
    store_load::StoreLoad,
    wait::{eventually, throughout},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use mysql_async::Conn;
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_on_the_old_account_holds_the_rotation_up_and_is_named() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-stall").await?, Database::from_settings()?);
    start_portal(&namespace, &database, "held", "e2e_stall", source::rotating("AlternatingUsers"))
        .await?;
    let (_, before) = published(&namespace, "held").await?;
    let (user, password) = &before[0];
    let foreign = database.connect(user, password).await?;

    let last = last_rotation(&namespace, "held").await?;
    namespace.ask_for_rotation("held").await?;
    wait_for_reason(&namespace, "held", "RotationStalled", &format!("{user} is logged in from"))
        .await?;
    stays_valid(&database, &before[0]).await?;

    foreign.disconnect().await?;
    let ended = wait_for_rotation(&namespace, "held", last.generation).await?;
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    database.expect_denied(user, password).await?;
    namespace.delete_portal("held").await
}

/// The kubelet cannot bring one of two pods the new login. It goes on serving with the old one, until a
/// person replaces it.
#[tokio::test]
async fn a_pod_that_never_adopts_is_named_and_keeps_its_login() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-frozen").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "cold", "e2e_frozen", spec).await?;
    let (_, before) = published(&namespace, "cold").await?;
    let pods = namespace.running_pods("cold", "hardware").await?;
    let [late, other] = pods.as_slice() else { panic!("{} pods run", pods.len()) };
    let last = last_rotation(&namespace, "cold").await?;

    let load = StoreLoad::start(&namespace, "cold", &database).await?;
    freeze_volume(late, "database")?;
    namespace.ask_for_rotation("cold").await?;
    let told = wait_for_reason(&namespace, "cold", "RotationStalled", &late.name_any()).await?;
    println!("a pod that never adopts: {told}");
    ensure!(!told.contains(&other.name_any()), "{told}");
    ensure!(generation_of(late).await? < generation_of(other).await?, "it adopted all the same");
    stays_valid(&database, &before[0]).await?;

    let replaced = Instant::now();
    namespace.api::<Pod>().delete(&late.name_any(), &DeleteParams::default()).await?;
    let ended = wait_for_rotation(&namespace, "cold", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!(
        "a pod that never adopted: {figures}; revoked {:.1} s after a person replaced it",
        replaced.elapsed().as_secs_f64()
    );
    figures.expect_nothing_failed()?;
    assert_eq!(figures.pods_replaced, 1, "{figures}");
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    let (user, password) = &before[0];
    database.expect_denied(user, password).await?;
    namespace.delete_portal("cold").await
}

/// A pod that answers nobody may still use the old login, as far as anybody knows. It is let go on
/// before its liveness probe gives it up, half a minute later, which would end the wait as well.
#[tokio::test]
async fn a_pod_that_hangs_is_waited_for() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-hung").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "slow", "e2e_hung", spec).await?;
    let (_, before) = published(&namespace, "slow").await?;
    let restarts = namespace.hardware_restarts("slow").await?;
    let last = last_rotation(&namespace, "slow").await?;
    let foreign = hold_up(&namespace, &database, "slow", &before[0]).await?;

    let pods = namespace.running_pods("slow", "hardware").await?;
    let hung = Hung::hang(pods.first().context("two pods run")?)?;
    foreign.disconnect().await?;
    // Ten times as long as two looks at the sessions take.
    throughout("the rotation waits", Duration::from_secs(8), async || {
        let phase = phase(&namespace, "slow").await?;
        ensure!(phase < Some(RotationPhase::Revoked), "the rotation is at {phase:?}");
        ensure!(phase != Some(RotationPhase::Idle), "the rotation has ended");
        Ok(())
    })
    .await?;
    database.connect(&before[0].0, &before[0].1).await?.disconnect().await?;
    drop(hung);
    let ended = wait_for_rotation(&namespace, "slow", last.generation).await?;
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    assert_eq!(namespace.hardware_restarts("slow").await?, restarts, "no pod was restarted");
    let (user, password) = &before[0];
    database.expect_denied(user, password).await?;
    namespace.delete_portal("slow").await
}

/// A session holds the rotation up, so that there is a middle.
#[tokio::test]
async fn a_pod_that_is_added_in_the_middle_starts_with_the_new_login() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-growing").await?, Database::from_settings()?);
    let sized = |replicas: u8| {
        let mut spec = source::rotating("AlternatingUsers");
        spec["hardware"]["replicas"] = json!(replicas);
        spec
    };
    start_portal(&namespace, &database, "growing", "e2e_growing", sized(1)).await?;
    let (_, before) = published(&namespace, "growing").await?;
    let last = last_rotation(&namespace, "growing").await?;

    let load = StoreLoad::start(&namespace, "growing", &database).await?;
    let foreign = hold_up(&namespace, &database, "growing", &before[0]).await?;
    namespace.apply_portal("growing", sized(2)).await?;
    let (generation, logins) = published(&namespace, "growing").await?;
    assert_eq!(logins.len(), 2, "the new login and the old one");
    eventually("two pods with the new login", ROTATED, async || {
        let pods = namespace.running_pods("growing", "hardware").await?;
        ensure!(pods.len() == 2, "{} pods run", pods.len());
        for pod in &pods {
            let own = generation_of(pod).await?;
            ensure!(own == generation, "{} is at {own}, not at {generation}", pod.name_any());
        }
        Ok(())
    })
    .await?;
    namespace.wait_until_ready("growing").await?;
    stays_valid(&database, &before[0]).await?;
    foreign.disconnect().await?;
    let ended = wait_for_rotation(&namespace, "growing", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!("a pod added in the middle of a rotation: {figures}");
    figures.expect_no_failure()?;
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    namespace.delete_portal("growing").await
}

/// Asks for a rotation that waits for a session of the old login, which it gives, and for nothing else.
async fn hold_up(
    namespace: &Namespace,
    database: &Database,
    portal: &str,
    (user, password): &(String, String),
) -> Result<Conn> {
    let foreign = database.connect(user, password).await?;
    namespace.ask_for_rotation(portal).await?;
    eventually("a rotation that waits for a session", ROTATED, async || {
        let phase = phase(namespace, portal).await?;
        ensure!(phase == Some(RotationPhase::Adopted), "the rotation is at {phase:?}");
        Ok(())
    })
    .await?;
    Ok(foreign)
}

async fn stays_valid(database: &Database, (user, password): &(String, String)) -> Result<()> {
    throughout("the old login is valid", Duration::from_secs(5), async || {
        database.connect(user, password).await?.disconnect().await?;
        Ok(())
    })
    .await
}

async fn phase(namespace: &Namespace, portal: &str) -> Result<Option<RotationPhase>> {
    let portal: HardwarePortal = namespace.api().get(portal).await?;
    Ok(portal.status.and_then(|status| status.credentials?.phase))
}

/// The generation that a pod says it logs in with.
async fn generation_of(pod: &Pod) -> Result<u64> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let address = address.with_context(|| format!("{} has no address", pod.name_any()))?;
    let answer: Value =
        reqwest::get(format!("http://{address}:8081/credentials")).await?.json().await?;
    answer["generation"].as_u64().with_context(|| format!("{} says {answer}", pod.name_any()))
}

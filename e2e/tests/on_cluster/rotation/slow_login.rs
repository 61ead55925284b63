//! A pod's login with the old account is slow while that account is about to be locked.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use crds::{HardwarePortal, RotationOutcome, RotationPhase};
use e2e::{
    Namespace,
    database::Database,
    namespace::SETTLED,
    operator,
    rotation::{last_rotation, published, start_portal, wait_for_rotation},
    source,
    store_load::StoreLoad,
    wait::eventually_every,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use test_kit::held_login::{At, HoldingProxy};

/// A pod gives a login up after five seconds, as one on a dead network.
const HELD_AT_MOST: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The server has not seen the password, so that it lists a session of nobody.
#[tokio::test]
async fn a_login_whose_password_is_late_is_not_locked_out() -> Result<()> {
    holds("e2e-late-password", "e2e_late_password", At::Password).await
}

/// The server has let it in, and the pod does not know yet.
#[tokio::test]
async fn a_login_whose_answer_is_late_is_not_locked_out() -> Result<()> {
    holds("e2e-late-answer", "e2e_late_answer", At::Answer).await
}

async fn holds(namespace: &str, root: &str, at: At) -> Result<()> {
    let (namespace, database) = (Namespace::open(namespace).await?, Database::from_settings()?);
    let host: IpAddr = database.get("MYSQL_HOST")?.parse()?;
    let proxy = HoldingProxy::start(host, &database.address()?).await?;
    let behind = database.behind(proxy.address());
    let sized = |replicas: u8| {
        let mut spec = source::rotating("AlternatingUsers");
        spec["hardware"]["replicas"] = json!(replicas);
        // So that the proxy is not needed after the portal.
        spec["database"]["mysql"]["deletionPolicy"] = json!("DropAccounts");
        spec
    };
    start_portal(&namespace, &behind, "slow", root, sized(1)).await?;
    let last = last_rotation(&namespace, "slow").await?;
    let (_, before) = published(&namespace, "slow").await?;

    // The first login of a new pod is held, and of nobody else.
    let mut known = operator::pods(&namespace.client()).await?.items;
    known.extend(namespace.running_pods("slow", "hardware").await?);
    let known: Vec<IpAddr> = known.iter().map(address_of).collect::<Result<_>>()?;
    let load = StoreLoad::start(&namespace, "slow", &database).await?;
    let held = proxy.hold_next(at, known);
    namespace.apply_portal("slow", sized(2)).await?;
    held.is_held(SETTLED).await?;
    namespace.ask_for_rotation("slow").await?;
    let what = "a rotation that drains the old account";
    let draining = eventually_every(LOOK_EVERY, what, HELD_AT_MOST, async || {
        let portal: HardwarePortal = namespace.api().get("slow").await?;
        let phase = portal.status.and_then(|status| status.credentials?.phase);
        ensure!(phase == Some(RotationPhase::Adopted), "the rotation is at {phase:?}");
        Ok(())
    });
    let draining = draining.await;
    held.release();
    draining?;

    let ended = wait_for_rotation(&namespace, "slow", last.generation).await?;
    namespace.wait_until_ready("slow").await?;
    let figures = load.stop(&database).await?;
    println!("a login held at {at:?}: {figures}");
    figures.expect_no_failure()?;
    ensure!(figures.denied == 0, "{} logins were denied", figures.denied);
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    database.expect_denied(&before[0].0, &before[0].1).await?;
    let pods = namespace.hardware_restarts("slow").await?;
    ensure!(pods.len() == 2 && pods.iter().all(|pod| pod.1 == 0), "pods and restarts: {pods:?}");
    namespace.delete_portal("slow").await
}

fn address_of(pod: &Pod) -> Result<IpAddr> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    Ok(address.context("a running pod has an address")?.parse()?)
}

//! A server that is away, and one that refuses the root.

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    fault::Faults,
    neighbour::expect_explained,
    proxy::Proxy,
    rotation::{last_rotation, published, start_portal},
    source,
    wait::throughout,
};
use serde_json::json;

/// The smallest number of wrong passwords that servers block an account for.
const FEWEST_THAT_BLOCK: usize = 5;
/// Twenty polls. The rest of the two minutes is shown with a clock of its own, in the operator.
const WATCHED: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_server_that_is_stopped_at_rest_is_reported_and_heals() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-outage").await?, Database::from_settings()?);
    let host: IpAddr = database.get("MYSQL_HOST")?.parse()?;
    let proxy = Proxy::start(host, &database.address()?, &Faults::default()).await?;
    let behind = database.behind(proxy.address());
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["rotation"]["pollInterval"] = json!("5s");
    // So that the proxy is not needed after the portal.
    spec["database"]["mysql"]["deletionPolicy"] = json!("DropAccounts");
    start_portal(&namespace, &behind, "stranded", "e2e_outage", spec).await?;
    last_rotation(&namespace, "stranded").await?;
    let before = published(&namespace, "stranded").await?;
    let restarts = namespace.hardware_restarts("stranded").await?;

    let address = proxy.stop().await;
    let port = address.port().to_string();
    for kind in ["DatabaseReady", "Ready"] {
        let reason = "DatabaseUnreachable";
        let said = expect_explained(&namespace, "stranded", kind, reason, &[&port]).await?;
        println!("a server that is stopped at rest: {kind} is False: {}", said.message);
    }
    let proxy = Proxy::start_at(address, &database.address()?, &Faults::default()).await?;
    namespace.wait_for_condition("stranded", "DatabaseReady", "True").await?;
    namespace.wait_until_ready("stranded").await?;
    assert_eq!(published(&namespace, "stranded").await?, before, "nothing was rotated");
    assert_eq!(namespace.hardware_restarts("stranded").await?, restarts, "no pod was restarted");
    namespace.delete_portal("stranded").await?;
    proxy.stop().await;
    Ok(())
}

/// The portal has no pods yet, so that every connection is a login of the operator's.
#[tokio::test]
async fn a_wrong_password_of_the_root_is_tried_too_seldom_to_block_its_account() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-denied").await?, Database::from_settings()?);
    let host: IpAddr = database.get("MYSQL_HOST")?.parse()?;
    let proxy = Proxy::start(host, &database.address()?, &Faults::default()).await?;
    let behind = database.behind(proxy.address());
    let password = behind.create_root("e2e_denied").await?;
    let labels = source::allow("denied");
    source::offer(&namespace, &behind, "e2e_denied", "not the password", labels).await?;
    let ours = proxy.connections();
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    spec["database"]["mysql"]["deletionPolicy"] = json!("DropAccounts");
    namespace.apply_portal("denied", spec).await?;
    let words = ["refuses every login", "correct the source"];
    expect_explained(&namespace, "denied", "CredentialsReady", "RootRejected", &words).await?;
    throughout("the account is not blocked", WATCHED, async || {
        let tried = proxy.connections() - ours;
        ensure!(tried < FEWEST_THAT_BLOCK, "the wrong password was tried {tried} times");
        Ok(())
    })
    .await?;
    println!("a wrong password: tried {} times", proxy.connections() - ours);
    ensure!(proxy.connections() > ours, "it was never tried");

    let right = source::data(&behind, "e2e_denied", "e2e_denied", &password)?;
    namespace.apply_secret("db", source::allow("denied"), right).await?;
    namespace.wait_until_ready("denied").await?;
    namespace.delete_portal("denied").await
}

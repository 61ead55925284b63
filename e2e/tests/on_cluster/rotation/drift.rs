//! Somebody else takes the pods' account its rights, or the account itself.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crds::{RotationCause, RotationOutcome};
use e2e::{
    Namespace,
    database::Database,
    namespace::{SETTLED, is_ready},
    rotation::{last_rotation, published, start_portal, wait_for_rotation},
    source,
    wait::eventually,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use mysql_async::prelude::Queryable;
use serde_json::json;

const POLL: Duration = Duration::from_secs(5);

#[tokio::test]
async fn rights_that_were_all_revoked_are_given_again_within_two_polls() -> Result<()> {
    heals_from("e2e-revoked", "e2e_revoked", "REVOKE ALL PRIVILEGES, GRANT OPTION FROM").await
}

#[tokio::test]
async fn an_account_that_was_dropped_is_made_again_within_two_polls() -> Result<()> {
    heals_from("e2e-dropped", "e2e_dropped", "DROP USER").await
}

async fn heals_from(namespace: &str, schema: &str, statement: &str) -> Result<()> {
    let (namespace, database) = (Namespace::open(namespace).await?, Database::from_settings()?);
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["rotation"]["pollInterval"] = json!(format!("{}s", POLL.as_secs()));
    start_portal(&namespace, &database, "shaken", schema, spec).await?;
    let last = last_rotation(&namespace, "shaken").await?;
    let (before, logins) = published(&namespace, "shaken").await?;

    database.execute(&format!("{statement} '{}'@'%'", logins[0].0)).await?;
    let started = Instant::now();
    eventually("a login with rights in the pods' file", POLL * 2, async || {
        let (generation, logins) = published(&namespace, "shaken").await?;
        ensure!(generation > before, "it is still generation {generation}");
        let mut session = database.connect(&logins[0].0, &logins[0].1).await?;
        session.query_drop(format!("SELECT * FROM {schema}.hardware")).await?;
        session.disconnect().await?;
        Ok(())
    })
    .await?;
    let healed_after = started.elapsed();
    let ended = wait_for_rotation(&namespace, "shaken", last.generation).await?;
    println!(
        "{statement}: healed after {:.1} s, at rest after {:.1} s",
        healed_after.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    assert_eq!((ended.reason, ended.outcome), (RotationCause::Drift, RotationOutcome::Completed));

    // A pod that starts has to read the database before it is ready.
    let pods = namespace.running_pods("shaken", "hardware").await?;
    let old: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    for name in &old {
        namespace.api::<Pod>().delete(name, &DeleteParams::default()).await?;
    }
    eventually("new pods", SETTLED, async || {
        let pods = namespace.running_pods("shaken", "hardware").await?;
        let new = pods.iter().filter(|pod| is_ready(pod) && !old.contains(&pod.name_any()));
        let count = new.count();
        ensure!(count == old.len(), "{count} of {} are ready", old.len());
        Ok(())
    })
    .await?;
    namespace.wait_until_ready("shaken").await?;
    namespace.delete_portal("shaken").await
}

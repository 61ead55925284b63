//! The operator dies in the middle.

use std::time::Duration;

use anyhow::Result;
use crds::RotationOutcome;
use e2e::{
    Namespace,
    database::Database,
    rotation::{last_rotation, published, start_portal, wait_for_rotation},
    source,
    store_load::StoreLoad,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};

/// The operator is killed again and again while rotations go on; whatever step it dies in, the next
/// one goes on from there.
#[tokio::test]
async fn an_operator_that_is_killed_at_any_step_leaves_one_usable_account() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-killed").await?, Database::from_settings()?);
    start_portal(
        &namespace,
        &database,
        "tough",
        "e2e_killed",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let load = StoreLoad::start(&namespace, "tough", &database).await?;
    let operators: Api<Pod> = Api::namespaced(namespace.client(), "gill-hicks-system");
    let mut last = last_rotation(&namespace, "tough").await?;
    for round in 0..6_u64 {
        namespace.ask_for_rotation("tough").await?;
        // A little later each time, so that another step is hit.
        tokio::time::sleep(Duration::from_millis(150 * round)).await;
        for pod in operators.list(&ListParams::default()).await? {
            operators.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        last = wait_for_rotation(&namespace, "tough", last.generation).await?;
        assert_eq!(last.outcome, RotationOutcome::Completed, "{last:?}");
    }
    let figures = load.stop(&database).await?;
    println!("the operator killed 6 times: {figures}");
    figures.expect_no_failure()?;

    let (_, logins) = published(&namespace, "tough").await?;
    assert_eq!(logins.len(), 1, "one login is published");
    let prefix = logins[0].0.trim_end_matches(['a', 'b']);
    let accounts = database.accounts(prefix).await?;
    assert_eq!(accounts.len(), 2, "two accounts and no owner: {accounts:?}");
    let open: Vec<&String> =
        accounts.iter().filter(|(_, is_locked)| !**is_locked).map(|(name, _)| name).collect();
    assert_eq!(open, [&logins[0].0], "the one that the pods use is the one that is open");
    namespace.delete_portal("tough").await
}

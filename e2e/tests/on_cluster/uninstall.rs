//! A namespace is taken away from the operator again.

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    neighbour::small,
    operator::{self, may_read_secrets, watched_namespaces},
    program::{read_page, refusal_in_root, run_in_root, run_in_shell},
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;

/// Without the prefix by which `e2e/run` finds the namespaces that it gives to the operator.
const LEAVING: &str = "leaving";

/// `make install` and `make uninstall` as docs/prepare-a-cluster.md shows them.
#[tokio::test]
async fn a_namespace_is_taken_away_from_the_operator_once_its_portals_are_gone() -> Result<()> {
    let page = read_page("prepare-a-cluster.md")?;
    let command = page.split('`').find(|code| code.starts_with("make uninstall "));
    let command = command.context("the page shows how")?.replace("TEAM-A", LEAVING);
    let namespace = Namespace::keep(LEAVING).await?;
    let client = namespace.client();
    let mut others = watched_namespaces(&client).await?;
    // An interrupted run may have left it.
    others.retain(|name| name != LEAVING);

    let outcome = take_away(&namespace, &command, &others).await;
    // Whatever came of it: the other tests need the operator as it was.
    let removed = namespace.delete_portal("staying").await;
    let restored = run_in_root(&command);
    outcome?;
    removed?;
    restored?;
    assert_eq!(watched_namespaces(&client).await?, others);
    Ok(())
}

async fn take_away(namespace: &Namespace, command: &str, others: &[String]) -> Result<()> {
    let client = namespace.client();
    let with_it: Vec<String> =
        [LEAVING.to_owned()].into_iter().chain(others.iter().cloned()).collect();
    run_in_root(&format!("make install NAMESPACES={LEAVING}"))?;
    assert_eq!(watched_namespaces(&client).await?, with_it);

    namespace.apply_portal("staying", small()).await?;
    namespace.wait_until_ready("staying").await?;
    let said = refusal_in_root(command)?;
    for words in ["leaving/staying", "delete hardwareportal NAME", "wait until they are gone"] {
        ensure!(said.contains(words), "\"{words}\" is not in: {said}");
    }
    assert_eq!(watched_namespaces(&client).await?, with_it, "it was refused");
    ensure!(may_read_secrets(LEAVING)?, "it was refused, but the Role is gone");

    namespace.delete_portal("staying").await?;
    run_in_root(command)?;
    expect_taken_away(namespace, others).await?;
    let said = run_in_root(command)?;
    ensure!(said.contains("the operator is not installed for leaving"), "it said: {said}");
    expect_taken_away(namespace, others).await?;

    // Somebody deletes the namespace first.
    run_in_root(&format!("make install NAMESPACES={LEAVING}"))?;
    run_in_shell(&format!("kubectl delete namespace {LEAVING} --wait"))?;
    run_in_root(command)?;
    assert_eq!(watched_namespaces(&client).await?, others);

    let said = refusal_in_root(&format!("make uninstall NAMESPACES='{}'", others.join(" ")))?;
    ensure!(said.contains("without a namespace") && said.contains("make down"), "it said: {said}");
    assert_eq!(watched_namespaces(&client).await?, others, "it was refused");
    Ok(())
}

async fn expect_taken_away(namespace: &Namespace, others: &[String]) -> Result<()> {
    let client = namespace.client();
    assert_eq!(watched_namespaces(&client).await?, others);
    let role = namespace.api::<Role>().get_opt("gill-hicks-operator").await?;
    ensure!(role.is_none(), "the Role is still there");
    let binding = namespace.api::<RoleBinding>().get_opt("gill-hicks-operator").await?;
    ensure!(binding.is_none(), "the RoleBinding is still there");
    ensure!(!may_read_secrets(LEAVING)?, "it may still read Secrets there");
    expect_no_second_owner(&client).await
}

/// What two field managers own stays when one of them, `make install`, takes it away.
async fn expect_no_second_owner(client: &Client) -> Result<()> {
    let managers = operator::deployment(client).await?.metadata.managed_fields.unwrap_or_default();
    let managers: Vec<String> = managers.into_iter().filter_map(|entry| entry.manager).collect();
    ensure!(!managers.iter().any(|name| name == "gill-hicks-uninstall"), "managers: {managers:?}");
    Ok(())
}

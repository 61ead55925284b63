//! One operator for the whole cluster.

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    operator::{self, may_read_secrets, watched_namespaces},
    program::{read_page, refusal_in_root, run_in_root, run_in_shell},
};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use serde_json::json;

/// Nobody has named it to the operator, and it has no Role there. Without the prefix by which `e2e/run`
/// finds the namespaces that it names.
const UNNAMED: &str = "unnamed";

/// `make install` for all namespaces as docs/prepare-a-cluster.md shows it, and the way back.
#[tokio::test]
async fn an_operator_of_all_namespaces_works_where_nobody_has_named_it() -> Result<()> {
    run_in_shell(&format!(
        "kubectl create namespace {UNNAMED} --dry-run=client --output yaml | kubectl apply --server-side --filename -"
    ))?;
    let namespace = Namespace::open(UNNAMED).await?;
    let client = namespace.client();
    let named = watched_namespaces(&client).await?;
    ensure!(!named.is_empty(), "it works in named namespaces");
    let page = read_page("prepare-a-cluster.md")?;
    let command = page.split('`').find(|code| code.ends_with("=--all-namespaces"));
    let command = command.context("the page shows how")?.to_owned();
    ensure!(!may_read_secrets(UNNAMED)?, "it may read Secrets where nobody has named it");

    let outcome = work_everywhere(&namespace, &command).await;
    let removed = namespace.delete_portal("anywhere").await;
    // Whatever came of it: the other tests need the operator as it was.
    let restored = run_in_root(&format!("make install NAMESPACES='{}'", named.join(" ")));
    outcome?;
    removed?;
    restored?;
    assert_eq!(watched_namespaces(&client).await?, named);
    let bindings: Api<ClusterRoleBinding> = Api::all(client);
    ensure!(bindings.get_opt("gill-hicks-operator").await?.is_none(), "the ClusterRole is held");
    ensure!(!may_read_secrets(UNNAMED)?, "it kept the right to read every Secret");
    Ok(())
}

async fn work_everywhere(namespace: &Namespace, command: &str) -> Result<()> {
    run_in_root(command)?;
    ensure!(may_read_secrets(UNNAMED)?, "the ClusterRole lets it");
    let said = refusal_in_root("make uninstall NAMESPACES=gill-hicks")?;
    ensure!(said.contains("works in all namespaces"), "it said: {said}");
    ensure!(said.contains("make install CLUSTER=local NAMESPACES="), "how to go back: {said}");
    namespace.apply_portal("anywhere", json!({})).await?;
    namespace.wait_until_ready("anywhere").await?;
    let check = format!(
        "kubectl --namespace {} exec deploy/gill-hicks-operator -- /operator check",
        operator::NAMESPACE
    );
    let said = run_in_shell(&format!("{check} --watch-namespaces {UNNAMED}"))?;
    ensure!(said.contains("everything that the operator needs is there"), "it said: {said}");
    // Portals of other tests may be broken. Its rights are complete.
    let said = run_in_shell(&format!("{check} 2>&1 || (($? == 1))"))?;
    ensure!(!said.contains("this account may not"), "it said: {said}");
    ensure!(!said.contains("failed to ask"), "it said: {said}");
    Ok(())
}

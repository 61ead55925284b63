//! What the operator may do, and what the pods may do.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    fault::Faults,
    in_process::Operator,
    namespace::configuration_of_operator,
    neighbour::{expect_explained, small},
};
use k8s_openapi::api::{
    authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec},
    core::v1::{Namespace as NamespaceObject, Pod},
    rbac::v1::Role,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// Every right of the operator in a namespace that it watches. A line more is a finding: either the
/// operator got a right that it does not need, or this table lacks the reason for it.
const IN_A_WATCHED_NAMESPACE: &[&str] = &[
    "apps/deployments: create delete get list patch watch",
    "autoscaling/horizontalpodautoscalers: create delete get list patch watch",
    "batch/jobs: create delete get list patch watch",
    "coordination.k8s.io/leases: get",
    "/configmaps: create delete get list patch watch",
    // list: why the pods of a Job are refused.
    "events.k8s.io/events: create list",
    // patch: the finalizer of deletionPolicy DropAccounts.
    "gill-hicks.dev/hardwareportals: get list patch watch",
    "gill-hicks.dev/hardwareportals/finalizers: update",
    "gill-hicks.dev/hardwareportals/status: patch",
    "gill-hicks.dev/hardwarewatches: get list watch",
    "gill-hicks.dev/hardwarewatches/status: patch",
    "networking.k8s.io/ingresses: create delete get list patch watch",
    "networking.k8s.io/networkpolicies: create delete get list patch watch",
    "/persistentvolumeclaims: create delete get list patch watch",
    // Who has taken a new credential over, and the annotation that makes the kubelet look.
    "/pods: list patch",
    "policy/poddisruptionbudgets: create delete get list patch watch",
    // list and watch: for the metadata of its own Secrets. delete: the state of rotations of an earlier
    // version.
    "/secrets: create delete get list patch watch",
    "/serviceaccounts: create delete get list patch watch",
    "/services: create delete get list patch watch",
];

/// Everywhere else it may read its own CRDs, by name, and find a portal whose namespace is being deleted,
/// to remove its finalizer.
const ELSEWHERE: &[&str] = &[
    "apiextensions.k8s.io/customresourcedefinitions(hardwareportals.gill-hicks.dev,hardwarewatches.gill-hicks.dev): get",
    "gill-hicks.dev/hardwareportals: get list patch watch",
    "gill-hicks.dev/hardwareportals/finalizers: update",
];

/// In its own namespace also the Lease by which one of its replicas leads, and the Secrets that hold the
/// state of rotations.
const IN_ITS_OWN_NAMESPACE: &[&str] = &[
    "coordination.k8s.io/leases(gill-hicks-operator): get list update watch",
    "coordination.k8s.io/leases: create",
    "/secrets: create delete get list patch",
];

#[tokio::test]
async fn the_operator_may_do_what_it_needs_and_nothing_more() -> Result<()> {
    let in_watched = rights_of_the_operator("e2e-access").await?;
    assert_eq!(in_watched, elsewhere_and(IN_A_WATCHED_NAMESPACE), "rights in a watched namespace");
    let in_its_own = rights_of_the_operator("gill-hicks-system").await?;
    assert_eq!(in_its_own, elsewhere_and(IN_ITS_OWN_NAMESPACE), "rights in its own namespace");
    for namespace in ["default", "kube-system"] {
        let rights = rights_of_the_operator(namespace).await?;
        assert_eq!(rights, elsewhere_and(&[]), "rights in {namespace}");
    }
    Ok(())
}

fn elsewhere_and(rights: &[&str]) -> BTreeSet<String> {
    ELSEWHERE.iter().chain(rights).map(|line| (*line).to_owned()).collect()
}

/// Asks the API server as the operator's own account, less what every account may do.
async fn rights_of_the_operator(namespace: &str) -> Result<BTreeSet<String>> {
    let config = configuration_of_operator().await?;
    let reviews: Api<SelfSubjectRulesReview> = Api::all(Client::try_from(config)?);
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    let status = answer.status.context("an answered review")?;
    ensure!(!status.incomplete, "the API server could not list every right");
    let mut rights = BTreeSet::new();
    for rule in status.resource_rules {
        let groups = rule.api_groups.unwrap_or_default();
        // What every account may ask about itself.
        if groups
            .iter()
            .any(|group| group == "authorization.k8s.io" || group == "authentication.k8s.io")
        {
            continue;
        }
        let verbs = rule.verbs.into_iter().collect::<BTreeSet<_>>();
        let verbs = verbs.into_iter().collect::<Vec<_>>().join(" ");
        let names = match rule.resource_names.unwrap_or_default() {
            names if names.is_empty() => String::new(),
            names => format!("({})", names.join(",")),
        };
        for group in &groups {
            for resource in rule.resources.iter().flatten() {
                rights.insert(format!("{group}/{resource}{names}: {verbs}"));
            }
        }
    }
    Ok(rights)
}

#[tokio::test]
async fn pods_run_where_the_restricted_standard_is_enforced_and_hold_no_token() -> Result<()> {
    let namespace = Namespace::open("e2e-access").await?;
    let object: NamespaceObject = Api::all(namespace.client()).get(namespace.name()).await?;
    let labels = object.metadata.labels.unwrap_or_default();
    assert_eq!(
        labels.get("pod-security.kubernetes.io/enforce").map(String::as_str),
        Some("restricted")
    );
    namespace.apply_portal("confined", json!({})).await?;
    namespace.wait_until_ready("confined").await?;
    let pods = namespace.api::<Pod>().list(&ListParams::default()).await?.items;
    ensure!(pods.len() >= 2, "{} pods run", pods.len());
    for pod in pods {
        let spec = pod.spec.context("a pod has a spec")?;
        assert_eq!(spec.automount_service_account_token, Some(false));
        let volumes = spec.volumes.unwrap_or_default();
        ensure!(volumes.iter().all(|volume| volume.projected.is_none()), "a token is mounted");
    }
    namespace.delete_portal("confined").await
}

/// Nothing is done for a portal of whose children nothing is known, which has to be said.
#[tokio::test]
async fn a_kind_that_may_not_be_listed_is_named_on_the_portal() -> Result<()> {
    let namespace = Namespace::open_without_operator("e2e-fault-unlisted").await?;
    let rights: Role = namespace.api().get("gill-hicks-operator").await?;
    let mut cut = rights.clone();
    for rule in cut.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|kind| kind == "poddisruptionbudgets") {
            rule.verbs.retain(|verb| verb != "list");
        }
    }
    ensure!(cut.rules != rights.rules, "the Role has no rule for budgets");
    replace_rules(&namespace, &cut).await?;
    let operator = Operator::start(namespace.name(), &Faults::default()).await?;
    namespace.apply_portal("blind", small()).await?;
    let started = Instant::now();
    let words = ["PodDisruptionBudget", "apply the Role of deploy/manifests"];
    for kind in ["Progressing", "Ready"] {
        expect_explained(&namespace, "blind", kind, "ListForbidden", &words).await?;
    }
    println!("a kind that may not be listed: said after {:.1} s", started.elapsed().as_secs_f64());
    replace_rules(&namespace, &rights).await?;
    namespace.wait_until_ready("blind").await?;
    namespace.delete_portal("blind").await?;
    operator.stop().await
}

async fn replace_rules(namespace: &Namespace, role: &Role) -> Result<()> {
    let patch = Patch::Merge(json!({"rules": role.rules}));
    let roles = namespace.api::<Role>();
    roles.patch("gill-hicks-operator", &PatchParams::default(), &patch).await?;
    Ok(())
}

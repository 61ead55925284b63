//! What is in a portal's way is said in its status and in an event, with what to do about it. Its
//! neighbours go on, and when the cause is gone the portal heals by itself.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    audit::{self, Request, Witness},
    database::Database,
    namespace::{SETTLED, expect_condition},
    neighbour::{Neighbour, expect_explained, expect_warning, small, warnings},
    program::run_in_shell,
    quota, source,
    wait::eventually,
};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{ConfigMap, Namespace as KubernetesNamespace, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use tokio::time::sleep;

/// How long the operator is watched while a cause lasts.
const LOOK: Duration = Duration::from_secs(20);

/// How many looks: an operator that starts meanwhile, as other tests make it, reads everything anew.
const LOOKS: usize = 4;

/// What the operator asked of the API server about one namespace while a cause lasted.
async fn requests_while_it_lasts(namespace: &Namespace) -> Result<Vec<Request>> {
    let mut witness = Witness::of_local_cluster(namespace.client()).await?;
    // Not a wait for something: how much is done in this time is what is asked.
    sleep(LOOK).await;
    let requests = witness.requests_of(audit::OPERATOR).await?;
    Ok(requests
        .into_iter()
        .filter(|request| request.namespace == namespace.name() && request.verb != "watch")
        .collect())
}

/// Half a request per second and portal in trouble: a poll each 15 s with what it reads, and a moved
/// child now and then.
const FEW: usize = 10;
/// Where the operator's rights are gone with the namespace, each replica may ask for each kind twice a
/// minute, whether it has them again.
const REFUSED_WATCHES: usize = 40;

/// A loop is there at every look, a start of the operator at one or two.
async fn expect_no_hot_loop(what: &str, namespace: &Namespace, most: usize) -> Result<()> {
    let mut requests = Vec::new();
    for _ in 0..LOOKS {
        requests = requests_while_it_lasts(namespace).await?;
        println!("{what}: {} requests of the operator within {LOOK:?}", requests.len());
        if requests.len() <= most {
            return Ok(());
        }
    }
    let requests: Vec<String> = requests.iter().map(ToString::to_string).collect();
    bail!("{what} keeps the operator busy: {}", requests.join(", "))
}

#[tokio::test]
async fn a_new_portal_says_what_is_wrong_with_its_source_until_it_is_right() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-bad-source").await?, Database::from_settings()?);
    let mut neighbour = Neighbour::start(&namespace).await?;
    let password = database.create_root("e2e_bad_source").await?;
    let right = source::data(&database, "e2e_bad_source", "e2e_bad_source", &password)?;
    // For the server's authority, which comes with the Secret.
    source::offer(&namespace, &database, "e2e_bad_source", "none", json!({})).await?;
    namespace.api::<Secret>().delete("db", &DeleteParams::default()).await?;

    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    namespace.apply_portal("thirsty", spec).await?;
    let not_found = ["db", "create it"];
    expect_explained(&namespace, "thirsty", "CredentialsReady", "SourceNotFound", &not_found)
        .await?;
    expect_explained(&namespace, "thirsty", "Ready", "SourceNotFound", &not_found).await?;
    neighbour.expect_to_go_on().await?;

    let mut without_user = right.clone();
    without_user["MYSQL_USER"] = json!("");
    let mut wrong_password = right.clone();
    wrong_password["MYSQL_PASSWORD"] = json!("not the password");
    let mut unreachable = right.clone();
    // Nothing listens there.
    unreachable["MYSQL_PORT"] = json!("9");
    for (data, reason, words) in [
        (without_user, "SourceInvalid", ["MYSQL_USER", "db"]),
        (wrong_password, "RootRejected", ["refuses every login", "correct the source"]),
        (unreachable, "RootUnreachable", ["failed to reach", ":9"]),
    ] {
        namespace.apply_secret("db", source::allow("thirsty"), data).await?;
        expect_explained(&namespace, "thirsty", "CredentialsReady", reason, &words).await?;
        expect_warning(&namespace, "thirsty", reason, &words).await?;
        neighbour.expect_to_go_on().await?;
    }
    namespace.apply_secret("db", source::allow("thirsty"), right).await?;
    namespace.wait_until_ready("thirsty").await?;
    namespace.delete_portal("thirsty").await?;
    namespace.delete_portal("neighbour").await
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_and_what_runs_goes_on() -> Result<()> {
    let namespace = Namespace::open("e2e-bad-image").await?;
    let mut neighbour = Neighbour::start(&namespace).await?;
    let mut spec = small();
    // Asks a registry that does not exist; the one below asks nobody.
    spec["hardware"]["image"] = json!("registry.invalid/missing:1");
    spec["hardware"]["imagePullPolicy"] = json!("IfNotPresent");
    namespace.apply_portal("pictured", spec).await?;
    let words = ["registry.invalid/missing:1", "hardware.image", "hardware.imagePullSecrets"];
    expect_explained(&namespace, "pictured", "HardwareAvailable", "ImagePullBackOff", &words)
        .await?;
    expect_explained(&namespace, "pictured", "Ready", "ImagePullBackOff", &words).await?;
    let took = neighbour.expect_to_go_on().await?;
    println!("an edit beside an image that cannot be pulled: in the child after {took:?}");
    expect_no_hot_loop("a missing image", &namespace, FEW).await?;
    namespace.apply_portal("pictured", small()).await?;
    namespace.wait_until_ready("pictured").await?;

    // A rollout that cannot end: the old pod goes on serving, and Progressing says why.
    let mut spec = small();
    spec["portal"]["image"] = json!("localhost/gill-hicks/portal:missing");
    spec["portal"]["imagePullPolicy"] = json!("Never");
    namespace.apply_portal("pictured", spec).await?;
    let words = ["portal:missing", "portal.image"];
    expect_explained(&namespace, "pictured", "Progressing", "ImagePullBackOff", &words).await?;
    expect_to_serve_an_older_spec(&namespace, "pictured").await?;
    let page = reqwest::get(namespace.url("pictured-portal").await?).await?;
    assert_eq!(page.status(), 200, "the old pod serves");
    neighbour.expect_to_go_on().await?;
    namespace.apply_portal("pictured", small()).await?;
    namespace.wait_for_condition("pictured", "Ready", "True").await?;
    eventually("an end of the rollout", SETTLED, async || {
        let portal: HardwarePortal = namespace.api().get("pictured").await?;
        let progress = expect_condition(&portal, "Progressing", "False")?;
        ensure!(progress.reason == "AsExpected", "it is {}: {}", progress.reason, progress.message);
        Ok(())
    })
    .await?;
    namespace.delete_portal("pictured").await?;
    namespace.delete_portal("neighbour").await
}

/// Waits until a portal serves although its latest spec is not applied, and calls itself stalled.
async fn expect_to_serve_an_older_spec(namespace: &Namespace, portal: &str) -> Result<()> {
    eventually(&format!("portal {portal} Ready of an older spec"), SETTLED, async || {
        let object: HardwarePortal = namespace.api().get(portal).await?;
        expect_condition(&object, "Stalled", "True")?;
        let mut conditions = object.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.find(|one| one.type_ == "Ready").context("no condition Ready")?;
        ensure!(
            ready.status == "True" && ready.observed_generation < object.metadata.generation,
            "Ready is {} for generation {:?}: {}",
            ready.status,
            ready.observed_generation,
            ready.message
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_quota_that_refuses_a_child_or_its_pods_is_explained_and_healed_by_more_of_it()
-> Result<()> {
    let namespace = Namespace::open("e2e-bad-quota").await?;
    quota::lift(&namespace).await?;
    let mut neighbour = Neighbour::start(&namespace).await?;
    // The neighbour's two, and one of the other's two.
    quota::limit(&namespace, "services", 3).await?;
    namespace.apply_portal("squeezed", small()).await?;
    let words = ["Service squeezed-portal", "exceeded quota: tight", "raise the ResourceQuota"];
    let ready = expect_explained(&namespace, "squeezed", "Ready", "Refused", &words).await?;
    ensure!(!ready.message.contains("Status {"), "not in words: {}", ready.message);
    expect_explained(&namespace, "squeezed", "Progressing", "Refused", &words).await?;
    neighbour.expect_to_go_on().await?;
    expect_no_hot_loop("a refused child", &namespace, FEW).await?;
    let told = warnings(&namespace, "squeezed").await?;
    assert_eq!(told.len(), 1, "told once, not at each try: {told:?}");

    quota::limit(&namespace, "pods", 2).await?;
    let words = ["its pods are refused: exceeded quota: tight", "raise the ResourceQuota"];
    expect_explained(&namespace, "squeezed", "HardwareAvailable", "Refused", &words).await?;
    expect_explained(&namespace, "squeezed", "PortalAvailable", "Refused", &words).await?;
    expect_explained(&namespace, "squeezed", "Ready", "Refused", &words).await?;
    neighbour.expect_to_go_on().await?;
    expect_no_hot_loop("refused pods", &namespace, FEW).await?;

    quota::lift(&namespace).await?;
    namespace.wait_until_ready("squeezed").await?;
    namespace.delete_portal("squeezed").await?;
    namespace.delete_portal("neighbour").await
}

/// A policy of the whole cluster, bound to one namespace, against one portal's disruption budgets.
struct Policy {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Policy {
    fn of(namespace: &Namespace) -> Self {
        Self {
            policies: Api::all(namespace.client()),
            bindings: Api::all(namespace.client()),
            name: namespace.name().to_owned(),
        }
    }

    async fn enact(&self) -> Result<()> {
        let name = &self.name;
        let rules = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["policy"], "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"], "resources": ["poddisruptionbudgets"],
                }]},
                "validations": [{
                    "expression": "!object.metadata.name.startsWith('barred')",
                    "message": "disruption budgets are made by the platform team",
                }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {
                    "matchLabels": {"kubernetes.io/metadata.name": name},
                }},
            },
        });
        let parameters = PatchParams::apply("e2e").force();
        self.policies.patch(name, &parameters, &Patch::Apply(rules)).await?;
        self.bindings.patch(name, &parameters, &Patch::Apply(binding)).await?;
        Ok(())
    }

    /// Waits until the API server acts on it, or no longer does.
    async fn wait_until_it_refuses(&self, namespace: &Namespace, refuses: bool) -> Result<()> {
        use k8s_openapi::api::policy::v1::PodDisruptionBudget;
        let budgets = namespace.api::<PodDisruptionBudget>();
        let probe: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "barred-probe"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"none": "none"}}},
        }))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the policy's effect", Duration::from_secs(30), async || {
            let is_refused = match budgets.create(&dry_run, &probe).await {
                Ok(_) => false,
                Err(kube::Error::Api(status)) => status.message.contains("platform team"),
                Err(error) => return Err(error.into()),
            };
            ensure!(is_refused == refuses, "it refuses: {is_refused}");
            Ok(())
        })
        .await
    }

    async fn lift(&self) -> Result<()> {
        let parameters = DeleteParams::default();
        if self.bindings.get_opt(&self.name).await?.is_some() {
            self.bindings.delete(&self.name, &parameters).await?;
        }
        if self.policies.get_opt(&self.name).await?.is_some() {
            self.policies.delete(&self.name, &parameters).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_admission_policy_that_refuses_one_child_is_explained_and_the_rest_serves() -> Result<()>
{
    let namespace = Namespace::open("e2e-bad-policy").await?;
    let policy = Policy::of(&namespace);
    // An earlier run may have ended half-way.
    policy.lift().await?;
    let mut neighbour = Neighbour::start(&namespace).await?;
    policy.enact().await?;
    policy.wait_until_it_refuses(&namespace, true).await?;
    let mut spec = small();
    // More than one pod may run, so there is to be a disruption budget.
    spec["portal"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 2});
    namespace.apply_portal("barred", spec).await?;
    let words = [
        "PodDisruptionBudget barred-portal",
        "disruption budgets are made by the platform team",
        "ask the cluster's administrator for an exception",
    ];
    let found = expect_explained(&namespace, "barred", "Progressing", "Refused", &words).await?;
    ensure!(!found.message.contains("Status {"), "not in words: {}", found.message);
    // What comes before a budget is there, and serves; but the spec is not applied as a whole.
    expect_to_serve_an_older_spec(&namespace, "barred").await?;
    let took = neighbour.expect_to_go_on().await?;
    println!("an edit beside a refused child: in the child after {took:?}");
    expect_no_hot_loop("a policy", &namespace, FEW).await?;

    policy.lift().await?;
    policy.wait_until_it_refuses(&namespace, false).await?;
    eventually("the end of the refusal", Duration::from_secs(30), async || {
        let portal: HardwarePortal = namespace.api().get("barred").await?;
        let progress = expect_condition(&portal, "Progressing", "False")?;
        ensure!(progress.reason == "AsExpected", "it is {}: {}", progress.reason, progress.message);
        Ok(())
    })
    .await?;
    namespace.delete_portal("barred").await?;
    namespace.delete_portal("neighbour").await
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_told_so_and_stops_nobody() -> Result<()> {
    let namespace = Namespace::open("e2e-bad-object").await?;
    let mut neighbour = Neighbour::start(&namespace).await?;
    let resource = ApiResource::erase::<HardwarePortal>(&());
    let portals: Api<DynamicObject> =
        Api::namespaced_with(namespace.client(), namespace.name(), &resource);
    // The API server does not hold a number to the 32 bits that its schema names.
    let spread = |skew: u64| {
        let mut spec = small();
        spec["portal"]["scheduling"] = json!({"topologySpread": [{
            "maxSkew": skew, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        }]});
        json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "riddle"}, "spec": spec,
        })
    };
    let parameters = PatchParams::apply("e2e").force();
    portals.patch("riddle", &parameters, &Patch::Apply(spread(3_000_000_000))).await?;
    let words = ["cannot be read as a HardwarePortal", "3000000000", "correct the value"];
    let ready = eventually("an explanation on the object", SETTLED, async || {
        let object = portals.get("riddle").await?;
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        conditions.find(|it| it["type"] == "Ready").cloned().context("no condition Ready yet")
    })
    .await?;
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("InvalidSpec")));
    for word in words {
        ensure!(ready["message"].to_string().contains(word), "\"{word}\" is not in {ready}");
    }
    expect_warning(&namespace, "riddle", "InvalidSpec", &words).await?;
    // The watch goes on for the others, and for new ones.
    neighbour.expect_to_go_on().await?;
    namespace.apply_portal("latecomer", small()).await?;
    namespace.wait_until_ready("latecomer").await?;
    namespace.delete_portal("latecomer").await?;
    expect_no_hot_loop("an unreadable object", &namespace, FEW).await?;
    let told = warnings(&namespace, "riddle").await?;
    assert_eq!(told.len(), 1, "told once: {told:?}");

    portals.patch("riddle", &parameters, &Patch::Apply(spread(1))).await?;
    namespace.wait_until_ready("riddle").await?;
    namespace.delete_portal("riddle").await?;
    namespace.delete_portal("neighbour").await
}

/// Makes the namespace as `deploy/install` does: with the operator's rights in it.
fn give_to_the_operator(name: &str) -> Result<()> {
    let rights = "../deploy/manifests/watched-namespace.yaml";
    run_in_shell(&format!(
        "kubectl get namespace {name} >/dev/null 2>&1 || kubectl create namespace {name}
         kubectl label --overwrite namespace {name} pod-security.kubernetes.io/enforce=restricted
         kubectl --namespace {name} apply --server-side --filename {rights}"
    ))?;
    Ok(())
}

async fn hold(namespace: &Namespace, finalizers: Value) -> Result<()> {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    let parameters = PatchParams::default();
    let portals = namespace.api::<HardwarePortal>();
    portals.patch_metadata("held", &parameters, &Patch::Merge(&patch)).await?;
    let config_maps = namespace.api::<ConfigMap>();
    config_maps.patch_metadata("held", &parameters, &Patch::Merge(&patch)).await?;
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_others_keep_from_ending_costs_nothing_and_may_come_back() -> Result<()> {
    const NAME: &str = "e2e-bad-end";
    give_to_the_operator(NAME)?;
    let namespace = Namespace::open(NAME).await?;
    let others: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "held"}}))?;
    let config_maps = namespace.api::<ConfigMap>();
    if config_maps.get_opt("held").await?.is_none() {
        config_maps.create(&PostParams::default(), &others).await?;
    }
    namespace.apply_portal("held", small()).await?;
    let portal = namespace.wait_until_ready("held").await?;
    hold(&namespace, json!(["e2e.example/hold"])).await?;

    let namespaces: Api<KubernetesNamespace> = Api::all(namespace.client());
    let before = namespaces.get(NAME).await?.uid();
    namespaces.delete(NAME, &DeleteParams::default()).await?;
    eventually("the end of what the portal owned", SETTLED, async || {
        let held = namespace.api::<HardwarePortal>().get("held").await?;
        ensure!(held.metadata.deletion_timestamp.is_some(), "the portal is not being deleted");
        let uid = portal.uid().context("a stored object has a uid")?;
        let left = namespace.objects_owned_by(&uid).await?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
    .await?;
    expect_no_hot_loop("a namespace at its end", &namespace, REFUSED_WATCHES).await?;

    hold(&namespace, json!(null)).await?;
    eventually("the end of the namespace", SETTLED, async || {
        let now = namespaces.get_opt(NAME).await?.and_then(|it| it.uid());
        ensure!(now != before, "it is still there");
        Ok(())
    })
    .await?;
    expect_no_hot_loop("a namespace that is gone", &namespace, REFUSED_WATCHES).await?;

    // Somebody makes it anew, and the operator, which was not restarted, works in it again.
    give_to_the_operator(NAME)?;
    namespace.apply_portal("held", small()).await?;
    namespace.wait_until_ready("held").await?;
    namespace.delete_portal("held").await
}

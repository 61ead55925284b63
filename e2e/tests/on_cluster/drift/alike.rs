//! Objects that look like a portal's children and are not: without an owner, or with another one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    audit::{OPERATOR, Witness},
    owned::kinds,
    wait::eventually,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::world::start_portal;

#[tokio::test]
async fn what_only_looks_like_ours_is_never_touched() -> Result<()> {
    let (namespace, uid) = start_portal("e2e-drift-alike", "e2e_drift_alike").await?;
    let owner = create_owner(&namespace).await?;
    let mut alike = Vec::new();
    for (suffix, owner) in [("without-owner", None), ("of-another", Some(owner))] {
        for (resource, rest) in objects() {
            let name = format!("drifted-{suffix}");
            alike.push((resource.clone(), name.clone()));
            create(&namespace, &resource, &name, owner.as_ref(), rest).await?;
        }
    }
    let before = identities(&namespace, &alike).await?;
    let mut witness = Witness::of_local_cluster(namespace.client()).await?;

    // A pass that writes, and one that prunes.
    let portals = namespace.api::<HardwarePortal>();
    for patch in [
        json!({"spec": {"portal": {"title": "Anew"}}}),
        json!({"spec": {"portal": {"ingress": null}}}),
    ] {
        portals.patch("drifted", &PatchParams::default(), &Patch::Merge(patch)).await?;
        namespace.wait_until_ready("drifted").await?;
    }
    let left = namespace.objects_owned_by(&uid).await?;
    ensure!(!left.iter().any(|one| one.starts_with("Ingress/")), "the Ingress was not pruned");
    namespace.delete_portal("drifted").await?;

    assert_eq!(identities(&namespace, &alike).await?, before, "after the portal's end");
    let mut touched = witness.requests_of(OPERATOR).await?;
    touched.retain(|request| {
        request.namespace == namespace.name() && alike.iter().any(|(_, name)| *name == request.name)
    });
    let touched: Vec<String> = touched.iter().map(ToString::to_string).collect();
    ensure!(touched.is_empty(), "{touched:#?}");
    println!("{} objects that only look like ours were not touched", alike.len());
    for (resource, name) in &alike {
        namespace.api_of(resource).delete(name, &DeleteParams::background()).await?;
    }
    namespace.api::<ConfigMap>().delete("owner", &DeleteParams::default()).await?;
    Ok(())
}

/// Something that lives as long as the test, as the garbage collector removes what has lost its owner.
async fn create_owner(namespace: &Namespace) -> Result<Value> {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    let parameters = PatchParams::apply("e2e").force();
    let owners = namespace.api::<ConfigMap>();
    let owner = owners.patch("owner", &parameters, &Patch::Apply(owner)).await?;
    let uid = owner.uid().context("a stored object has a uid")?;
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}))
}

async fn create(
    namespace: &Namespace,
    resource: &ApiResource,
    name: &str,
    owner: Option<&Value>,
    mut object: Value,
) -> Result<()> {
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    object["metadata"] = json!({
        "name": name,
        "labels": labels(),
        "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
    });
    let object: DynamicObject = serde_json::from_value(object)?;
    let api = namespace.api_of(resource);
    if api.get_opt(name).await?.is_some() {
        api.delete(name, &DeleteParams::background()).await?;
    }
    eventually(&format!("{} {name}", resource.kind), Duration::from_secs(30), async || {
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    })
    .await
}

/// Those of a child of the portal.
fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": "gill-hicks",
        "app.kubernetes.io/instance": "drifted",
        "app.kubernetes.io/component": "hardware",
        "app.kubernetes.io/managed-by": "gill-hicks-operator",
    })
}

/// One of each kind that the operator makes, small and without effect.
fn objects() -> Vec<(ApiResource, Value)> {
    let selector = json!({"matchLabels": {"e2e.gill-hicks.dev/nobody": "true"}});
    let pod = json!({
        "metadata": {"labels": {"e2e.gill-hicks.dev/nobody": "true"}},
        "spec": {
            "restartPolicy": "Always",
            "containers": [{"name": "none", "image": "none.gill-hicks.test/none"}],
        },
    });
    let mut once = pod.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let contents = BTreeMap::from([
        ("ConfigMap", json!({})),
        ("Secret", json!({})),
        ("ServiceAccount", json!({})),
        ("Deployment", json!({"spec": {"replicas": 0, "selector": selector, "template": pod}})),
        (
            "HorizontalPodAutoscaler",
            json!({"spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "nobody"},
                "maxReplicas": 1,
            }}),
        ),
        (
            "Ingress",
            json!({"spec": {"ingressClassName": "none", "defaultBackend": {
                "service": {"name": "nobody", "port": {"number": 80}},
            }}}),
        ),
        ("Job", json!({"spec": {"suspend": true, "template": once}})),
        ("NetworkPolicy", json!({"spec": {"podSelector": selector}})),
        (
            "PersistentVolumeClaim",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "none",
                "resources": {"requests": {"storage": "1Mi"}},
            }}),
        ),
        ("PodDisruptionBudget", json!({"spec": {"maxUnavailable": 1, "selector": selector}})),
        ("Service", json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}})),
    ]);
    let with_content = |resource: ApiResource| {
        let content = contents.get(resource.kind.as_str())?.clone();
        Some((resource, content))
    };
    kinds().into_iter().filter_map(with_content).collect()
}

async fn identities(
    namespace: &Namespace,
    objects: &[(ApiResource, String)],
) -> Result<Vec<Option<String>>> {
    let mut identities = Vec::new();
    for (resource, name) in objects {
        identities.push(namespace.api_of(resource).get(name).await?.uid());
    }
    Ok(identities)
}

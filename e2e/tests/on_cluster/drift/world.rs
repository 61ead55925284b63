//! A portal with children of every kind, on fake nodes, and what others have to say about them.

use anyhow::{Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    fake_nodes,
    managed::{FieldPath, applied_fields},
    owned::Owned,
    source,
};
use kube::{
    ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

/// As whom the operator applies.
pub(super) const MANAGERS: [&str; 2] = ["gill-hicks-operator", "gill-hicks-operator/replicas"];

/// Another one, which owns what it has put into our objects.
const FOREIGNER: &str = "e2e-foreigner";

/// Starts the portal `drifted`; gives its uid.
pub(super) async fn start_portal(namespace: &str, schema: &str) -> Result<(Namespace, String)> {
    let namespace = Namespace::keep(namespace).await?;
    namespace.delete_portals().await?;
    fake_nodes::expect_some(&namespace.client()).await?;
    let database = Database::from_settings()?;
    let password = database.create_schema(schema).await?;
    source::offer(&namespace, &database, schema, &password, source::allow("drifted")).await?;
    let mut spec = source::spec();
    // What an earlier portal of this name has read from its source is not repeated for long.
    spec["database"]["mysql"]["rotation"]["pollInterval"] = json!("2s");
    spec["hardware"] = json!({
        "scheduling": fake_nodes::scheduling(),
        "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    });
    spec["portal"] = json!({
        "scheduling": fake_nodes::scheduling(),
        "autoscaling": {"disabled": true},
        "replicas": 2,
        "title": "Drifted",
        "ingress": {
            "className": "none",
            "host": "drifted.gill-hicks.test",
            "tlsSecretName": "certificate",
            "annotations": {"e2e.gill-hicks.dev/of-the-user": "kept"},
            "externalDns": {"ttl": 30},
        },
    });
    let portal = namespace.apply_portal("drifted", spec).await?;
    namespace.wait_until_ready("drifted").await?;
    Ok((namespace, portal.uid().unwrap_or_default()))
}

/// Every object that the operator has applied for the portal, as it is now.
pub(super) async fn children(namespace: &Namespace, uid: &str) -> Result<Vec<Owned>> {
    let mut children = Vec::new();
    for child in namespace.owned_by(uid).await? {
        if !applied_fields(&child.object, MANAGERS[0])?.is_empty() {
            children.push(child);
        }
    }
    for kind in EVERY_KIND {
        ensure!(children.iter().any(|child| child.resource.kind == kind), "no {kind}");
    }
    Ok(children)
}

/// What a portal on MySQL has. A volume claim belongs to an embedded database, and cannot be deleted
/// while a pod uses it.
const EVERY_KIND: [&str; 10] = [
    "ConfigMap",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Secret",
    "Service",
    "ServiceAccount",
];

/// Whether a field of a deleted object cannot return as it was: a token or a file of credentials that
/// nobody else knows. The pods take the new one over from the Secret.
pub(super) fn is_made_anew(child: &Owned, field: &FieldPath) -> bool {
    child.resource.kind == "Secret" && field.to_string().starts_with("data.")
}

/// Whether a person may choose the value of a field, though we have set it first: the number of pods
/// under an autoscaler, and the token that observations are posted with. A Job that has succeeded is left
/// alone if it was made of another template, which the annotation says.
pub(super) fn is_left_to_people(child: &Owned, field: &FieldPath) -> bool {
    let annotation = "metadata.annotations.gill-hicks.dev/rendered";
    if child.resource.kind == "Job" && field.to_string() == annotation {
        return true;
    }
    matches!(
        (child.to_string().as_str(), field.to_string().as_str()),
        ("Deployment/drifted-hardware", "spec.replicas")
            | ("Secret/drifted-observations", "data.token")
    )
}

/// Fields that somebody else adds to a child of this kind.
fn foreign_fields(kind: &str) -> Value {
    let mut fields = json!({"metadata": {
        "annotations": {"e2e.gill-hicks.dev/foreign": "kept"},
        "labels": {"e2e.gill-hicks.dev/foreign": "kept"},
    }});
    match kind {
        "HorizontalPodAutoscaler" => {
            fields["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = json!(42);
        }
        // What `kubectl rollout restart` does.
        "Deployment" => {
            fields["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] =
                json!("2026-01-31T08:15:00Z");
        }
        "Service" => fields["spec"]["sessionAffinity"] = json!("ClientIP"),
        "ConfigMap" => fields["data"]["foreign"] = json!("kept"),
        "Secret" => fields["data"]["foreign"] = json!("a2VwdA=="),
        _ => {}
    }
    fields
}

/// Applies them, as another manager.
pub(super) async fn give_foreign_fields(namespace: &Namespace, child: &Owned) -> Result<()> {
    let mut fields = foreign_fields(&child.resource.kind);
    fields["apiVersion"] = json!(child.resource.api_version);
    fields["kind"] = json!(child.resource.kind);
    fields["metadata"]["name"] = json!(child.object.name_any());
    let api = namespace.api_of(&child.resource);
    let parameters = PatchParams::apply(FOREIGNER);
    api.patch(&child.object.name_any(), &parameters, &Patch::Apply(fields)).await?;
    Ok(())
}

/// Fails unless all of them are there.
pub(super) fn has_foreign_fields(kind: &str, object: &DynamicObject) -> Result<()> {
    let object = serde_json::to_value(object)?;
    expect_part(&foreign_fields(kind), &object, "")
}

fn expect_part(part: &Value, whole: &Value, path: &str) -> Result<()> {
    let Some(fields) = part.as_object() else {
        ensure!(part == whole, "{path} is {whole}, not {part}");
        return Ok(());
    };
    for (name, value) in fields {
        expect_part(value, whole.get(name).unwrap_or(&Value::Null), &format!("{path}/{name}"))?;
    }
    Ok(())
}

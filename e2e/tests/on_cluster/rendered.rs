//! The golden files of the operator's build, shown to the real API server.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::Namespace;
use k8s_openapi::ByteString;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, TypeMeta},
    core::GroupVersionKind,
};
use serde::Deserialize;
use serde_json::{Value, json};

const GOLDEN: &str = "../operator/src/portal/build/tests/snapshots";

/// What is rendered in another form than it is stored in would look changed at every pass. Nothing is
/// created: every request is a dry run.
#[tokio::test]
async fn every_child_is_stored_exactly_as_it_is_rendered() -> Result<()> {
    let namespace = Namespace::keep("e2e-admission").await?;
    let mut objects = 0;
    for entry in Path::new(GOLDEN).read_dir()? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        // The first document says where the file comes from.
        let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
        let golden = documents.last().context("a document")??;
        for child in golden["children"].as_array().context("children")? {
            let mut child = child.clone();
            child["metadata"]["namespace"] = json!(namespace.name());
            if child["kind"] == "Secret" {
                encode(&mut child)?;
            }
            let stored = dry_run(&namespace, &child).await?;
            let mut differences = Vec::new();
            collect_differences(&child, &stored, "", &mut differences);
            ensure!(
                differences.is_empty(),
                "{}: {} {}: {}",
                path.display(),
                child["kind"],
                child["metadata"]["name"],
                differences.join("; ")
            );
            objects += 1;
        }
    }
    println!("{objects} rendered objects are stored exactly as they are rendered");
    ensure!(objects > 30, "only {objects} objects were found in {GOLDEN}");
    Ok(())
}

/// Golden files show values as text.
fn encode(secret: &mut Value) -> Result<()> {
    for value in secret["data"].as_object_mut().context("data")?.values_mut() {
        let text = value.as_str().context("text")?.as_bytes().to_vec();
        *value = serde_json::to_value(ByteString(text))?;
    }
    Ok(())
}

async fn dry_run(namespace: &Namespace, child: &Value) -> Result<Value> {
    let object: DynamicObject = serde_json::from_value(child.clone())?;
    let types: &TypeMeta = object.types.as_ref().context("a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> =
        Api::namespaced_with(namespace.client(), namespace.name(), &resource);
    let parameters = PatchParams::apply("e2e-rendered").dry_run().force();
    let stored = api.patch(&object.name_any(), &parameters, &Patch::Apply(child)).await;
    let stored = stored.with_context(|| format!("{} {}", types.kind, object.name_any()))?;
    Ok(serde_json::to_value(stored)?)
}

/// What the API server adds is no difference.
fn collect_differences(rendered: &Value, stored: &Value, place: &str, found: &mut Vec<String>) {
    match (rendered, stored) {
        (Value::Object(rendered), Value::Object(stored)) => {
            for (name, value) in rendered {
                let stored = stored.get(name).unwrap_or(&Value::Null);
                collect_differences(value, stored, &format!("{place}.{name}"), found);
            }
        }
        (Value::Array(rendered), Value::Array(stored)) if rendered.len() == stored.len() => {
            for (index, (rendered, stored)) in rendered.iter().zip(stored).enumerate() {
                collect_differences(rendered, stored, &format!("{place}[{index}]"), found);
            }
        }
        _ if rendered == stored => {}
        _ => found.push(format!("{place} is rendered as {rendered} and stored as {stored}")),
    }
}

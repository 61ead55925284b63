//! `operator check`: what is wrong with this installation, in words.

use k8s_openapi::{
    api::authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, CustomResourceExt, api::PostParams};
use serde_json::Value;

use crate::permissions::{DEFINITION, IN_OWN_NAMESPACE, IN_WATCHED_NAMESPACES, Permission};

/// Looks at the definition and at the rights in each namespace (or everywhere, if none is named), and
/// gives a sentence for each thing that is wrong.
pub async fn find_problems(
    client: &Client,
    own_namespace: &str,
    namespaces: &[String],
) -> Result<Vec<String>, kube::Error> {
    let mut problems = Vec::new();
    problems.extend(definition_problem(client).await?);
    for permission in IN_OWN_NAMESPACE {
        for verb in permission.verbs {
            if !may(client, own_namespace, permission, verb).await? {
                let Permission { group, resource, .. } = permission;
                problems.push(format!(
                    "this account may not {verb} {resource} (API group {group}) in its own namespace {own_namespace}; apply deploy/manifests/own-namespace.yaml"
                ));
            }
        }
    }
    let everywhere = [String::new()];
    let places = if namespaces.is_empty() { &everywhere } else { namespaces };
    for place in places {
        for permission in IN_WATCHED_NAMESPACES {
            for verb in permission.verbs {
                if !may(client, place, permission, verb).await? {
                    let Permission { group, resource, .. } = permission;
                    let group = if group.is_empty() { "core" } else { group };
                    let place = if place.is_empty() {
                        "all namespaces".to_owned()
                    } else {
                        format!("namespace {place}")
                    };
                    problems.push(format!(
                        "this account may not {verb} {resource} (API group {group}) in {place}; apply deploy/manifests/watched-namespace.yaml there"
                    ));
                }
            }
        }
    }
    Ok(problems)
}

/// Whether the cluster's definition lacks something that this operator knows: the API server would
/// drop it from what users write, without a word.
pub async fn definition_problem(client: &Client) -> Result<Option<String>, kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let Some(installed) = definitions.get_opt(DEFINITION).await? else {
        return Ok(Some(format!(
            "the definition {DEFINITION} is not installed; apply crds/hardwareportals.yaml"
        )));
    };
    let fields = |definition: &CustomResourceDefinition| -> Vec<String> {
        let schema = serde_json::to_value(definition).unwrap_or_default();
        let mut paths = Vec::new();
        let root = schema.pointer("/spec/versions/0/schema/openAPIV3Schema");
        collect_fields(root.unwrap_or(&Value::Null), "", &mut paths);
        paths
    };
    let installed = fields(&installed);
    let missing: Vec<String> = fields(&crds::HardwarePortal::crd())
        .into_iter()
        .filter(|path| !installed.contains(path))
        .collect();
    Ok((!missing.is_empty()).then(|| {
        format!("the installed definition {DEFINITION} is older than this operator: it lacks {}; apply crds/hardwareportals.yaml", missing.join(", "))
    }))
}

fn collect_fields(schema: &Value, path: &str, paths: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect_fields(field, &path, paths);
        collect_fields(&field["items"], &path, paths);
        paths.push(path);
    }
}

async fn may(
    client: &Client,
    namespace: &str,
    permission: &Permission,
    verb: &str,
) -> Result<bool, kube::Error> {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(permission.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                name: permission.name.map(str::to_owned),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

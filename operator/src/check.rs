//! `operator check`: the problems of this installation, as sentences.

mod cluster;
mod image;
mod portals;
#[cfg(test)]
mod tests;

use crds::ResourceKind;
use k8s_openapi::{
    api::authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::Value;

use crate::{
    cluster::scope::Scope,
    permissions::{
        IN_OWN_NAMESPACE, IN_WATCHED_NAMESPACES, OUTSIDE_WATCHED_NAMESPACES, Permission,
    },
};

/// The findings of a check, as sentences that include what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Problems.
    pub problems: Vec<String>,
    /// Checks that could not be made, such as those that need a right that the operator does not have.
    pub unchecked: Vec<String>,
}

impl Findings {
    /// Records the outcome of a check, `Some` for a problem. One that the account may not make is unchecked.
    fn note(
        &mut self,
        what: &str,
        answer: Result<Option<String>, kube::Error>,
    ) -> Result<(), kube::Error> {
        match answer {
            Ok(problem) => self.problems.extend(problem),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                self.unchecked.push(format!("{what} could not be checked: {}", status.message));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Checks the API server, this process's own settings, the rights in its own namespace and in those that
/// it watches, and what the portals there need. Fails only if the API server does not answer.
pub async fn find_problems(
    client: &Client,
    own_namespace: &str,
    watched: &[Scope],
) -> Result<Findings, kube::Error> {
    let mut findings = Findings::default();
    findings.note("the version of the cluster", cluster::version_problem(client).await)?;
    for resource in ResourceKind::ALL {
        let what = format!("the CRD of {}", resource.plural());
        findings.note(&what, crd_problem(client, resource).await)?;
    }
    findings.problems.extend(image::problems(|name| std::env::var(name).ok()));
    let own = Scope::Namespace(own_namespace.to_owned());
    let own = (&own, IN_OWN_NAMESPACE, "deploy/manifests/own-namespace.yaml");
    let outside =
        (&Scope::Cluster, OUTSIDE_WATCHED_NAMESPACES, "deploy/manifests/cluster-access.yaml");
    let watched_rights = watched.iter().map(|scope| match scope {
        Scope::Namespace(_) => {
            (scope, IN_WATCHED_NAMESPACES, "deploy/manifests/watched-namespace.yaml")
        }
        Scope::Cluster => (scope, IN_WATCHED_NAMESPACES, "deploy/manifests/all-namespaces.yaml"),
    });
    for (scope, permissions, manifest) in [own].into_iter().chain(watched_rights).chain([outside]) {
        let missing = missing_rights(client, scope, permissions, manifest).await?;
        findings.problems.extend(missing);
    }
    let portals = portals::list(client, watched, &mut findings).await?;
    if portals.iter().any(portals::scales_by_itself) {
        findings.note("the metrics for autoscalers", cluster::metrics_problem(client).await)?;
    }
    let reach = portals::Reach::new(own_namespace);
    for portal in &portals {
        reach.check_portal(client, portal, &mut findings).await?;
    }
    Ok(findings)
}

/// A sentence for each right that is missing in a scope.
async fn missing_rights(
    client: &Client,
    scope: &Scope,
    permissions: &[Permission],
    manifest: &str,
) -> Result<Vec<String>, kube::Error> {
    let (namespace, there) = match scope {
        Scope::Namespace(name) => (name.as_str(), " there"),
        Scope::Cluster => ("", ""),
    };
    let mut problems = Vec::new();
    for permission in permissions {
        for verb in permission.verbs {
            if !may(client, namespace, permission, verb).await? {
                let Permission { group, resource, .. } = permission;
                let group = if group.is_empty() { "core" } else { group };
                problems.push(format!(
                    "this account may not {verb} {resource} (API group {group}) in {scope}; apply {manifest}{there}"
                ));
            }
        }
    }
    Ok(problems)
}

/// The problem if a CRD is missing or lacks a field that this operator knows. The API server prunes such a
/// field from the objects that users apply, without an error.
pub async fn crd_problem(
    client: &Client,
    resource: ResourceKind,
) -> Result<Option<String>, kube::Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let expected = resource.crd();
    let (name, plural) = (expected.name_any(), resource.plural());
    let Some(installed) = api.get_opt(&name).await? else {
        return Ok(Some(format!("the CRD {name} is not installed; apply crds/{plural}.yaml")));
    };
    let fields = |crd: &CustomResourceDefinition| -> Vec<String> {
        let schema = serde_json::to_value(crd).unwrap_or_default();
        let mut paths = Vec::new();
        let root = schema.pointer("/spec/versions/0/schema/openAPIV3Schema");
        collect_fields(root.unwrap_or(&Value::Null), "", &mut paths);
        paths
    };
    let installed = fields(&installed);
    let missing: Vec<String> =
        fields(&expected).into_iter().filter(|path| !installed.contains(path)).collect();
    Ok((!missing.is_empty()).then(|| {
        format!("the installed CRD {name} is older than this operator: it lacks {}; apply crds/{plural}.yaml", missing.join(", "))
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

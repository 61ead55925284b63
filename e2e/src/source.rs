//! The Secret that a portal takes its database account from, and the spec that refers to it.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{Namespace, database::Database};

/// The spec of a portal on the database that the Secret `db` describes, with an account that was made
/// by hand.
#[must_use]
pub fn spec() -> Value {
    json!({"database": {"mysql": {
        "source": {"secret": {"name": "db"}},
        "rotation": {"mode": "Follow"},
        "tls": {"ca": {"configMapKeyRef": {"name": "db-ca", "key": "ca.pem"}}},
    }}})
}

/// The components of a portal.
pub const COMPONENTS: [&str; 2] = ["hardware", "portal"];

/// The spec of [`spec`] with both components scaled like this, in small pods.
#[must_use]
pub fn scaled(scaling: &Value) -> Value {
    let mut spec = spec();
    for component in COMPONENTS {
        let mut workload = scaling.clone();
        workload["resources"] = small();
        spec[component] = workload;
    }
    spec
}

/// What a pod asks for, so that those of many tests find room on one node.
fn small() -> Value {
    json!({"requests": {"cpu": "50m", "memory": "40Mi"}})
}

/// The label by which a Secret's owner lets a portal read it.
#[must_use]
pub fn allow(portal: &str) -> Value {
    json!({"gill-hicks.dev/allow-portal": portal})
}

/// Writes the source Secret `db` for the account named like the schema, and the server's authority.
pub async fn offer(
    namespace: &Namespace,
    database: &Database,
    schema: &str,
    password: &str,
    labels: Value,
) -> Result<()> {
    let values = data(database, schema, schema, password)?;
    namespace.apply_secret("db", labels, values).await?;
    trust(namespace, &[database]).await
}

/// Writes the authorities of these servers to where the portal of [`spec`] looks for them.
pub async fn trust(namespace: &Namespace, databases: &[&Database]) -> Result<()> {
    let authorities: Vec<String> =
        databases.iter().map(|database| database.authority()).collect::<Result<_>>()?;
    let authority = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "db-ca"},
        "data": {"ca.pem": authorities.join("\n")},
    });
    let parameters = PatchParams::apply("e2e").force();
    namespace.api::<ConfigMap>().patch("db-ca", &parameters, &Patch::Apply(authority)).await?;
    Ok(())
}

/// The data of a source Secret.
pub fn data(database: &Database, schema: &str, user: &str, password: &str) -> Result<Value> {
    Ok(json!({
        "MYSQL_HOST": database.get("MYSQL_HOST")?,
        "MYSQL_PORT": database.get("MYSQL_PORT")?,
        "MYSQL_USER": user,
        "MYSQL_PASSWORD": password,
        "MYSQL_DATABASE": schema,
    }))
}

/// The spec of a portal whose accounts the operator makes and changes in this mode; two pods, so that
/// there is somebody to wait for.
#[must_use]
pub fn rotating(mode: &str) -> Value {
    let mut spec = spec();
    spec["database"]["mysql"]["rotation"] = json!({"mode": mode, "pollInterval": "2s"});
    spec["hardware"] = json!({
        "autoscaling": {"disabled": true}, "replicas": 2, "resources": small(),
        // Reads of the store beside the writes of the load.
        "extraEnv": [{"name": "REFRESH_INTERVAL", "value": "200ms"}],
    });
    spec["portal"] =
        json!({"autoscaling": {"disabled": true}, "replicas": 1, "resources": small()});
    spec
}

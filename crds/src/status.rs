//! What the operator says about a portal.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw and did. It may be lost without harm: it is made anew from the cluster.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HardwarePortalStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address of the web page, for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Ready, Progressing, DatabaseReady, CredentialsReady, HardwareAvailable, PortalAvailable,
    /// AutoscalingActive and Suspended, each with a reason for machines and a message for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Which database is in use: Embedded or Mysql.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseKind>,
    /// How many pods the API has and what they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<WorkloadStatus>,
    /// How many pods the web page has and what they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<WorkloadStatus>,
    /// The database credential that the pods hold; never the credential itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsStatus>,
}

/// Which database is in use.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum DatabaseKind {
    /// SQLite in the hardware pod.
    Embedded,
    /// A MySQL server.
    Mysql,
}

/// The pods of one component.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Pods that are wanted.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Image that they run.
    pub image: String,
    /// Both numbers for people: "2/2".
    pub summary: String,
}

/// The database credential that the pods hold.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// Increases with each change of the credential.
    pub generation: i64,
    /// Version of the source that it came from, as the source counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// Generation and phase for people: "3 (Idle)".
    pub summary: String,
}

//! The status of a portal.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{database::RotationMode, sources::SourceKind};

/// What the operator last saw and did. It may be lost without harm: it is made anew from the cluster.
//
// The API server gives a new object the default. Without a status, kstatus (Helm, Flux) calls an object
// current that no operator has seen.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = serde_json::json!({"observedGeneration": -1})))]
pub struct HardwarePortalStatus {
    /// Generation of the spec that the operator has seen; -1 before it has seen any. Whether that
    /// generation was applied, each condition says with an observedGeneration of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address of the web page, for a browser. Absent until it is known, and for a wildcard host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Ready, Progressing, Reconciling, Stalled, DatabaseReady, CredentialsReady, HardwareAvailable,
    /// PortalAvailable, SourcesReporting, AutoscalingActive and Suspended, each with a reason for machines,
    /// a message for people and the generation of the spec that it was judged for.
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
    /// The sources of `spec.sources`, in their order, and whether they report. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub sources: Vec<SourceStatus>,
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

/// One of the sources that the operator runs.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name: the one that was chosen, or that of its kind. At most 63 characters.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where its reports come from.
    pub kind: SourceKind,
    /// Whether its latest report is on time and without a problem.
    pub reporting: bool,
    /// The code of the problem that its latest report says, such as pods_forbidden. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub problem: Option<String>,
    /// How many pools it has. Absent until it has reported one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<i64>,
}

/// The database credential that the pods hold, and what is being done with it.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsStatus {
    /// Increases with each change of the credential.
    pub generation: i64,
    /// The last step of a change that was reached; Idle when none is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RotationPhase>,
    /// Who changes the credential: AlternatingUsers, DualPassword or Follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RotationMode>,
    /// Name of the account that the pods log in as first. At most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub account: Option<String>,
    /// When the last change of the credential came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,
    /// When the next change is planned, by rotation.interval or by the annotation
    /// gill-hicks.dev/rotate-at. Absent while a change is under way, and in mode Follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// Version of the source that it came from, as the source counts. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub source_version: Option<String>,
    /// Generation and phase for people: "3 (Idle)". At most 64 characters.
    #[schemars(length(max = 64))]
    pub summary: String,
    /// The last changes, the latest first. At most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<RotationRecord>,
}

/// The steps of a change of the credential, in their order.
#[derive(
    JsonSchema,
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Serialize,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
)]
pub enum RotationPhase {
    /// No change is under way.
    #[default]
    Idle,
    /// A reason for a change was seen.
    Observed,
    /// A login with the source's account worked.
    RootVerified,
    /// The new credential is written down in the operator's own Secret; no server knows it yet.
    Staged,
    /// The server accepts the new credential.
    Applied,
    /// A login with the new credential worked, and its account has the rights that it should have.
    Verified,
    /// The pods' Secret holds the new credential first and the old one second.
    Published,
    /// Every pod uses the new credential.
    Adopted,
    /// No session uses the old credential.
    Drained,
    /// The server refuses the old credential.
    Revoked,
}

impl RotationPhase {
    /// Every phase, in the order of a rotation.
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Observed,
        Self::RootVerified,
        Self::Staged,
        Self::Applied,
        Self::Verified,
        Self::Published,
        Self::Adopted,
        Self::Drained,
        Self::Revoked,
    ];

    /// The word in `status.credentials.phase`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Observed => "Observed",
            Self::RootVerified => "RootVerified",
            Self::Staged => "Staged",
            Self::Applied => "Applied",
            Self::Verified => "Verified",
            Self::Published => "Published",
            Self::Adopted => "Adopted",
            Self::Drained => "Drained",
            Self::Revoked => "Revoked",
        }
    }
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One change of the credential.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RotationRecord {
    /// Generation that the change led to.
    pub generation: i64,
    /// Why it was made.
    pub reason: RotationCause,
    /// Version of the source at that time, as the source counts. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub source_version: Option<String>,
    /// When its reason was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When every pod used the new credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_at: Option<Time>,
    /// When the server refused the old credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    /// How it ended.
    pub outcome: RotationOutcome,
}

/// Why a credential was changed.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum RotationCause {
    /// There was none before.
    FirstCredential,
    /// The source has a new version.
    SourceChanged,
    /// The time of rotation.interval was over.
    IntervalElapsed,
    /// The annotation gill-hicks.dev/rotate-at asked for it.
    Requested,
    /// The server did not accept the pods' account any more, or its rights were not as they should be.
    Drift,
    /// The spec asks for another mode, server or schema.
    SpecChanged,
}

/// How a change of a credential ended.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The new credential is in use, and the old one is revoked.
    Completed,
    /// The old credential is in use again.
    RolledBack,
}

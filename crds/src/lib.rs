//! The `HardwarePortal` resource: its types, the rules that the API server checks, and the
//! definition that a cluster installs.
//!
//! What the schema defaults and what the operator defaults are different things. The schema fills in
//! scalars inside a member that the user chose (`autoscaling: {}` gets its bounds). What is absent
//! altogether (`database`, `autoscaling`, `image`) stays absent in the stored object and is decided
//! by the operator: a persisted default of a one-of would collide with a later choice.
//!
//! Rules about annotations are not here: of its metadata, a definition's rules see the name only. The
//! operator checks them, and says so in conditions.

#![expect(clippy::doc_markdown, reason = "kubectl explain shows these texts as they are")]
#![expect(unreachable_pub, reason = "KubeSchema repeats each type inside a function")]

mod condition;
mod database;
mod exposure;
mod portal;
mod schema;
mod status;
mod workload;

pub use condition::{ConditionType, Reason};
pub use database::{
    CaReference, Database, EmbeddedDatabase, KeyReference, MysqlDatabase, MysqlSource, Rotation,
    RotationMode, SecretKeys, SecretSource, Storage, Tls, TlsMode,
};
pub use exposure::{Alb, AlbFlavor, AlbScheme, ExternalDns, Ingress, PortalService, ServiceType};
use kube::CustomResourceExt;
pub use portal::{CatalogEntry, HardwarePortal, HardwarePortalSpec, PortalSpec};
pub use status::{CredentialsStatus, DatabaseKind, HardwarePortalStatus, WorkloadStatus};
pub use workload::{
    Autoscaling, DisruptionBudget, ImagePullPolicy, Resources, Scheduling, Spot, Workload,
};

/// API group of the resource, and prefix of every label and annotation of ours.
pub const GROUP: &str = "gill-hicks.dev";

/// Label by which the owner of a Secret lets the portal that it names read it.
pub const ALLOW_PORTAL_LABEL: &str = "gill-hicks.dev/allow-portal";

/// Annotation that lets a portal leave the data of its embedded database behind; value `"true"`.
pub const ABANDON_EMBEDDED_DATA_ANNOTATION: &str = "gill-hicks.dev/abandon-embedded-data";

/// The definition as the YAML document that is kept beside this crate and that
/// `kubectl apply --server-side` installs.
#[must_use]
pub fn crd_yaml() -> String {
    let yaml = serde_yaml::to_string(&HardwarePortal::crd()).expect("a definition is plain data");
    format!("# Made by `operator crd`; a test holds it equal to the types in crds/src.\n{yaml}")
}

//! The resources `HardwarePortal` and `HardwareWatch`: their types, the rules that the API server checks,
//! and the CRDs that a cluster installs.
//!
//! What the schema defaults and what the operator defaults are different things. The schema fills in
//! scalars inside a member that the user chose (`autoscaling: {}` gets its bounds). What is absent
//! altogether (`database`, `autoscaling`, `image`) stays absent in the stored object and is decided
//! by the operator: a persisted default of a one-of would collide with a later choice.
//!
//! Rules about annotations are not here: of the metadata, the rules of a CRD see the name only. The
//! operator checks annotations, and reports them in conditions.

#![expect(clippy::doc_markdown, reason = "kubectl explain shows these texts as they are")]
#![expect(unreachable_pub, reason = "KubeSchema repeats each type inside a function")]

mod condition;
mod database;
mod exposure;
mod portal;
mod schema;
mod sources;
mod status;
mod watch;
mod workload;

pub use condition::{ConditionType, Reason};
pub use database::{
    CaReference, Database, DeletionPolicy, EmbeddedDatabase, KeyReference, MysqlDatabase,
    MysqlSource, Rotation, RotationMode, SecretKeys, SecretSource, SecretsManagerSource, Storage,
    TerraformOutputs, TerraformStateSource, Tls, TlsMode,
};
pub use exposure::{Alb, AlbFlavor, AlbScheme, ExternalDns, Ingress, PortalService, ServiceType};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
pub use portal::{CatalogEntry, HardwarePortal, HardwarePortalSpec, PortalSpec, Watches};
pub use sources::{
    CollectedSource, Collector, Ec2Source, KarpenterSource, KubernetesSource, OvhSource,
    PrometheusPools, PrometheusSource, Slot, SourceKind,
};
pub use status::{
    CredentialsStatus, DatabaseKind, HardwarePortalStatus, RotationCause, RotationOutcome,
    RotationPhase, RotationRecord, SourceStatus, WorkloadStatus,
};
pub use watch::{
    Delivery, DeliveryKind, HardwareWatch, HardwareWatchSpec, HardwareWatchStatus, NtfyDelivery,
    PoolMatch, PortalReference, QuietHours, SecretKeyReference, SecretValue, SlackDelivery,
    WatchConditionType, WatchLevel, WebhookDelivery,
};
pub use workload::{
    Autoscaling, DisruptionBudget, ImagePullPolicy, Resources, Scheduling, Spot, Workload,
};

/// API group of the resources, and prefix of every label and annotation of ours.
pub const GROUP: &str = "gill-hicks.dev";

/// Label by which the administrator of a Secret lets the portal that it names read it, or several
/// portals, whose names are joined by `.`; and tag by which the administrator of a secret in AWS
/// Secrets Manager does so, with the value `NAMESPACE/NAME`, or several of them separated by spaces.
pub const ALLOW_PORTAL_LABEL: &str = "gill-hicks.dev/allow-portal";

/// Label or annotation of a Secret, and tag of a secret in AWS Secrets Manager, by which its
/// administrator names the host that its login may be sent to, if it holds none beside the login. The
/// value may be `host:port`, which a label cannot hold.
pub const DATABASE_HOST_LABEL: &str = "gill-hicks.dev/database-host";

/// Annotation that lets a portal leave the data of its embedded database behind; value `"true"`.
pub const ABANDON_EMBEDDED_DATA_ANNOTATION: &str = "gill-hicks.dev/abandon-embedded-data";

/// Annotation that asks for a new credential once, at or after the time that is its value.
pub const ROTATE_AT_ANNOTATION: &str = "gill-hicks.dev/rotate-at";

/// Annotation that lets a Terraform state of another lineage take the place of the one that was read
/// before; its value is the new lineage.
pub const ACCEPT_LINEAGE_ANNOTATION: &str = "gill-hicks.dev/accept-lineage";

/// The resources of which a cluster installs a CRD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// `HardwarePortal`.
    HardwarePortal,
    /// `HardwareWatch`.
    HardwareWatch,
}

impl ResourceKind {
    /// Every resource, in the order in which their CRDs are installed.
    pub const ALL: [Self; 2] = [Self::HardwarePortal, Self::HardwareWatch];

    /// The plural, by which the API server and `operator crd` know it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::HardwarePortal => "hardwareportals",
            Self::HardwareWatch => "hardwarewatches",
        }
    }

    /// Its CRD.
    #[must_use]
    pub fn crd(self) -> CustomResourceDefinition {
        match self {
            Self::HardwarePortal => HardwarePortal::crd(),
            Self::HardwareWatch => HardwareWatch::crd(),
        }
    }

    /// The CRD as the YAML document that is kept beside this crate and that
    /// `kubectl apply --server-side` installs.
    #[must_use]
    pub fn crd_yaml(self) -> String {
        let yaml = serde_yaml::to_string(&self.crd()).expect("a CRD is plain data");
        let plural = self.plural();
        format!(
            "# Made by `operator crd {plural}`; a test holds it equal to the types in crds/src.\n{yaml}"
        )
    }
}

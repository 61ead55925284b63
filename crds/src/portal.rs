//! The resource itself.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    database::Database,
    exposure::{Ingress, PortalService},
    schema::{self, SOURCE_NAME},
    sources::{CollectedSource, Collector},
    status::HardwarePortalStatus,
    workload::Workload,
};

/// CEL for the name of a source: the one that was chosen, or that of its kind.
macro_rules! source_name {
    ($source:literal) => {
        concat!(
            "(has(",
            $source,
            ".name) ? ",
            $source,
            ".name",
            " : has(",
            $source,
            ".kubernetes) ? 'kubernetes'",
            " : has(",
            $source,
            ".karpenter) ? 'karpenter'",
            " : has(",
            $source,
            ".ec2) ? 'ec2'",
            " : has(",
            $source,
            ".ovh) ? 'ovh'",
            " : 'prometheus')",
        )
    };
}

/// What a platform engineer asks for. `{}` is a complete, working portal.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gill-hicks.dev",
    version = "v1alpha1",
    kind = "HardwarePortal",
    plural = "hardwareportals",
    shortname = "hwp",
    namespaced,
    status = "HardwarePortalStatus",
    derive = "PartialEq",
    doc = "A service that tells engineers whether hardware is available: an API (hardware), a web page (portal) and their database.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the portal serves"),
    printcolumn(name = "Hardware", type_ = "string", json_path = ".status.hardware.summary", description = "Ready and wanted replicas of the API"),
    printcolumn(name = "Portal", type_ = "string", json_path = ".status.portal.summary", description = "Ready and wanted replicas of the web page"),
    printcolumn(name = "Credentials", type_ = "string", json_path = ".status.credentials.summary", description = "Generation of the database credential and what is being done with it"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where the web page is"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: write at most 40 characters of a-z, 0-9 and -, starting with a letter; the names of Services and Jobs are made of it"),
    cel
)]
#[x_kube(
    validation = Rule::new("has(self.database) && has(self.database.mysql) || !has(self.hardware) || !has(self.hardware.replicas) || self.hardware.replicas <= 1").message("hardware.replicas: the embedded database has one writer, so write 1 or nothing, or choose database.mysql"),
    validation = Rule::new("has(self.database) && has(self.database.mysql) || !has(self.hardware) || !has(self.hardware.autoscaling) || self.hardware.autoscaling.disabled").message("hardware.autoscaling: the embedded database has one writer, so leave it out, or choose database.mysql"),
    validation = Rule::new("!has(oldSelf.database) || !has(oldSelf.database.mysql) || has(self.database) && has(self.database.mysql)").message("database: a portal on MySQL cannot return to the embedded database; keep database.mysql, or create another HardwarePortal"),
    validation = Rule::new("!has(self.database) || !has(self.database.mysql) || !has(self.hardware) || !has(self.hardware.replicas) || has(self.hardware.autoscaling) && self.hardware.autoscaling.disabled").message("hardware.replicas: the number of pods follows the load; write autoscaling: {disabled: true} to fix it"),
)]
#[serde(rename_all = "camelCase")]
pub struct HardwarePortalSpec {
    /// Stops the operator from writing anything for this portal. What runs goes on running, and the
    /// status goes on telling the truth. Default: false.
    #[serde(default)]
    pub suspend: bool,

    /// Hardware that must have a row in the list. Entries are added to the database when they are
    /// missing; removing one here removes no row there. Without entries, a table that is made for
    /// this portal begins with Amazon c5 and Azure H16mr, and one that was there before stays as it
    /// is. At most 1000 entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["provider".into(), "name".into()]))]
    pub catalog: Option<Vec<CatalogEntry>>,

    /// Who reports what there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observations: Option<Observations>,

    /// Sources that the operator runs for this portal, besides those that others run and that post to it.
    /// One pod, NAME-collector, reports for all of them, each with a token of its own. Default: none, and
    /// no such pod. At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(concat!("self.all(a, self.exists_one(b, ", source_name!("a"), " == ", source_name!("b"), "))")).message("sources: two of them have the same name; give one of them another, with name: NAME"))]
    pub sources: Option<Vec<CollectedSource>>,

    /// How the pod runs that reports for `sources`. Without sources it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<Collector>,

    /// What the HardwareWatches that refer to this portal may do. It is the owner of the portal who decides
    /// it, not who writes a watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watches: Option<Watches>,

    /// Where the list and its history are kept. Default: an embedded SQLite database in the one
    /// hardware pod, which is lost with that pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,

    /// The API: GET /hardware/ and what feeds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Workload>,

    /// The web page that shows the list in a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalSpec>,
}

/// Who reports what there is, to `POST /v1/observations`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Observations {
    /// Sources that get a token of their own, with which they are let in, and no other source. Sources that
    /// are not named share the token of the portal. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Option<Vec<ObservationSource>>,
}

/// A source with a token of its own, in the key `source-NAME` of the Secret `PORTAL-observations`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ObservationSource {
    /// Its name, as it is in `source` of what it posts: at most 63 characters of a-z, 0-9 and -.
    #[schemars(length(min = 1, max = 63), regex(pattern = SOURCE_NAME))]
    pub name: String,
}

/// What the watches that refer to a portal may do.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Watches {
    /// Whether a message may be sent without encryption, to an address that begins with http://. Default:
    /// false.
    #[serde(default)]
    pub allow_http: bool,
    /// Private, link-local and other special addresses that messages may be sent to, as blocks such as
    /// 10.0.0.0/8. Those of the whole internet need not be listed. Default: none. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address_blocks")]
    pub allow_addresses: Option<Vec<String>>,
}

/// One row of the list.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Who offers it, such as Amazon. 1 to 128 characters, the width of the column that holds it.
    #[schemars(length(min = 1, max = 128))]
    pub provider: String,
    /// What it is called there: a type such as c5.large, or a family such as c5, which stands for
    /// the best of its members. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
}

/// The web page: how it runs, what it is called and how it is reached.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.replicas) || has(self.autoscaling) && self.autoscaling.disabled").message("portal.replicas: the number of pods follows the load; write autoscaling: {disabled: true} to fix it")
)]
pub struct PortalSpec {
    /// How the web page's pods run.
    #[serde(flatten)]
    pub workload: Workload,

    /// Title of the page. Default: "Hardware availability". At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub title: Option<String>,

    /// How the page is reached inside the cluster, or through a cloud's load balancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<PortalService>,

    /// How the page is reached by host name. Default: no Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
}

//! The NodeClaim of `karpenter.sh/v1`: what Karpenter asked a cloud for, and what came of it.

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::{
    sources::places::{REGION_LABELS, ZONE_LABELS, aws_region, first_label},
    statement::Pool,
};

const CAPACITY_TYPE: &str = "karpenter.sh/capacity-type";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
const REGION: &str = REGION_LABELS[0];
const ZONE: &str = ZONE_LABELS[0];

/// How the reason of a condition begins when a cloud had too little; the whole reason of an event.
pub(super) const INSUFFICIENT_CAPACITY: &str = "InsufficientCapacity";

/// What was asked for.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize)]
#[kube(
    group = "karpenter.sh",
    version = "v1",
    kind = "NodeClaim",
    status = "NodeClaimStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeClaimSpec {
    requirements: Vec<Requirement>,
    node_class_ref: NodeClassRef,
}

/// A label that the node must have.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

/// The cloud's own settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct NodeClassRef {
    group: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct NodeClaimStatus {
    conditions: Vec<Condition>,
}

impl NodeClaim {
    /// The one pool that it asks for; none if it leaves the type, the zone or the way of buying to the cloud.
    pub(super) fn asked_for(&self) -> Option<Pool> {
        self.pool(|key| {
            let of_key = |it: &&Requirement| it.key == key && it.operator == "In";
            let mut values = self.spec.requirements.iter().filter(of_key).map(|it| &it.values);
            values.find_map(|values| match values.as_slice() {
                [value] => Some(value.as_str()),
                _ => None,
            })
        })
    }

    /// When it was given a machine, and of which pool.
    pub(super) fn launched(&self) -> Option<(DateTime<Utc>, Pool)> {
        let is_true = |kind| self.condition(kind).filter(|condition| condition.status == "True");
        let condition = is_true("Launched").or_else(|| is_true("Registered"))?;
        let pool = self.pool(|key| self.labels().get(key).map(String::as_str))?;
        Some((time(condition)?, pool))
    }

    /// When the cloud said that it has too little, and its word for that.
    pub(super) fn refused(&self) -> Option<(DateTime<Utc>, &str)> {
        let condition =
            self.condition("Launched").filter(|condition| condition.status != "True")?;
        let reason = condition.reason.as_str();
        reason.starts_with(INSUFFICIENT_CAPACITY).then_some((time(condition)?, reason))
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        let mut conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.find(|condition| condition.type_ == kind)
    }

    /// The pool of these labels, or requirements.
    fn pool<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> Option<Pool> {
        let provider = provider(&self.spec.node_class_ref.group);
        let named = |key: &str| first_label(&label, &[key]);
        let zone = named(ZONE)?;
        let region = named(REGION).or_else(|| match provider {
            "Amazon" => aws_region(&zone).map(str::to_owned),
            _ => None,
        });
        Some(Pool {
            provider: provider.to_owned(),
            name: named(INSTANCE_TYPE)?,
            region,
            zone: Some(zone),
            tier: named(CAPACITY_TYPE)?,
            unit: "unit".to_owned(),
        })
    }
}

/// Who is asked: each provider of Karpenter has settings of its own, in an API group of its own.
fn provider(group: &str) -> &str {
    match group {
        "karpenter.k8s.aws" | "eks.amazonaws.com" => "Amazon",
        "karpenter.azure.com" => "Azure",
        "karpenter.k8s.gcp" => "Google",
        "karpenter.kwok.sh" => "kwok",
        "" => "Karpenter",
        other => other,
    }
}

fn time(condition: &Condition) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(condition.last_transition_time.0.as_millisecond())
}

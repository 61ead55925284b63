//! A second resource: a watch, by which a portal's API tells people when hardware can be had.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Tell me when so many units of this hardware can be had.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[kube(
    group = "gill-hicks.dev",
    version = "v1alpha1",
    kind = "HardwareWatch",
    plural = "hardwarewatches",
    shortname = "hww",
    namespaced,
    status = "HardwareWatchStatus",
    derive = "PartialEq",
    doc = "Tells people when a number of units of hardware can be had, by a webhook, Slack or ntfy. The portal that it refers to watches for it.",
    printcolumn(name = "Portal", type_ = "string", json_path = ".spec.portalRef.name", description = "The portal that watches for it"),
    printcolumn(name = "Units", type_ = "integer", json_path = ".spec.units", description = "How many units have to be available"),
    printcolumn(name = "Level", type_ = "string", json_path = ".spec.level", description = "The level at which it fires"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether the portal's pods watch for it"),
    printcolumn(name = "Armed", type_ = "boolean", json_path = ".status.armed", description = "Whether it fires when the level is reached"),
    printcolumn(name = "Last Fired", type_ = "date", json_path = ".status.lastFired", description = "When it fired last"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: write at most 63 characters; it is shown in messages"),
    cel
)]
#[serde(rename_all = "camelCase")]
pub struct HardwareWatchSpec {
    /// The HardwarePortal in this namespace that watches for it. It may be created later.
    pub portal_ref: PortalReference,

    /// Which pools count. A pool has to match everything that is written here, and one such pool is
    /// enough.
    #[serde(rename = "match")]
    pub pools: PoolMatch,

    /// How many units have to be available in one pool, from 1 to 100000. Default: 1.
    #[serde(default = "HardwareWatchSpec::default_units")]
    #[schemars(range(min = 1, max = 100_000))]
    pub units: i32,

    /// The level for so many units at which it fires, or a better one. Default: HIGH.
    #[serde(default)]
    pub level: WatchLevel,

    /// How long the level has to hold before it fires, from 0s to 24h. Default: 2m.
    #[serde(default = "HardwareWatchSpec::default_hold", rename = "for")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}[smh])+$') && duration(self) <= duration('24h')").message("for: write a time from 0s to 24h, such as 2m"))]
    pub hold: String,

    /// How long after it has fired it does not fire again, from 0s to 168h. Default: 30m.
    #[serde(default = "HardwareWatchSpec::default_cooldown")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}[smh])+$') && duration(self) <= duration('168h')").message("cooldown: write a time from 0s to 168h, such as 30m"))]
    pub cooldown: String,

    /// Hours in which nothing is sent. What still holds at their end is sent then. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,

    /// Stops it: nothing is watched for and nothing is sent. Default: false.
    #[serde(default)]
    pub suspend: bool,

    /// Where it is sent to. 1 to 8 entries.
    #[schemars(length(min = 1, max = 8))]
    pub deliver: Vec<Delivery>,
}

impl HardwareWatchSpec {
    fn default_units() -> i32 {
        1
    }
    fn default_hold() -> String {
        "2m".to_owned()
    }
    fn default_cooldown() -> String {
        "30m".to_owned()
    }
}

/// A HardwarePortal in the same namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct PortalReference {
    /// Its name. 1 to 40 characters, as every portal's.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Which pools count. Each text is compared as a whole, or by its beginning if it ends with *.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("has(self.provider) || has(self.name) || has(self.region) || has(self.zone) || has(self.tier)").message("match: write at least one of provider, name, region, zone and tier, such as name: p5*")
)]
pub struct PoolMatch {
    /// Who offers it, such as Amazon. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::match_text")]
    pub provider: Option<String>,
    /// What it is called there, such as p5.48xlarge or p5*. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::match_text")]
    pub name: Option<String>,
    /// Its region, such as us-*. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::match_text")]
    pub region: Option<String>,
    /// Its zone. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::match_text")]
    pub zone: Option<String>,
    /// How it is to be had, such as spot or owned. 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::match_text")]
    pub tier: Option<String>,
}

/// The level at which a watch fires.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum WatchLevel {
    /// It is likely to be had.
    #[default]
    High,
    /// It may be had, or is likely to.
    Medium,
}

/// Hours of each day in which nothing is sent.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from != self.to").message("quietHours: from and to are the same time, so that it would be silent all day; write two times, or suspend: true")
)]
pub struct QuietHours {
    /// When they begin, as HH:MM.
    #[schemars(length(max = 5), regex(pattern = schema::TIME_OF_DAY))]
    pub from: String,
    /// When they end, as HH:MM. A time before `from` is one of the next day.
    #[schemars(length(max = 5), regex(pattern = schema::TIME_OF_DAY))]
    pub to: String,
    /// Time zone of both, by its name in the IANA database, such as Europe/Berlin. Default: UTC.
    #[serde(default = "QuietHours::default_time_zone")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
}

impl QuietHours {
    fn default_time_zone() -> String {
        "UTC".to_owned()
    }
}

/// One receiver: exactly one of a webhook, Slack and ntfy. Addresses are secrets, as whoever knows one may
/// write to it.
//
// A further kind is a further member. It joins the rule below and `DeliveryKind`.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new("(has(self.webhook) ? 1 : 0) + (has(self.slack) ? 1 : 0) + (has(self.ntfy) ? 1 : 0) == 1").message("deliver: write in each entry exactly one of webhook, slack and ntfy, such as slack: {urlFrom: {secretKeyRef: {name: slack, key: url}}}")
)]
pub struct Delivery {
    /// A POST of JSON as the Standard Webhooks specification says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookDelivery>,
    /// A message by an incoming webhook of Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackDelivery>,
    /// A message in a topic of ntfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ntfy: Option<NtfyDelivery>,
}

/// Kinds of receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryKind<'a> {
    /// Any program that takes Standard Webhooks.
    Webhook(&'a WebhookDelivery),
    /// Slack.
    Slack(&'a SlackDelivery),
    /// An ntfy server.
    Ntfy(&'a NtfyDelivery),
}

impl Delivery {
    /// Its kind; none for an entry that the CRD's rules refuse.
    #[must_use]
    pub fn kind(&self) -> Option<DeliveryKind<'_>> {
        match (&self.webhook, &self.slack, &self.ntfy) {
            (Some(webhook), None, None) => Some(DeliveryKind::Webhook(webhook)),
            (None, Some(slack), None) => Some(DeliveryKind::Slack(slack)),
            (None, None, Some(ntfy)) => Some(DeliveryKind::Ntfy(ntfy)),
            _ => None,
        }
    }
}

impl DeliveryKind<'_> {
    /// The word for it in the spec and in what the API reads.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Ntfy(_) => "ntfy",
        }
    }
}

/// A receiver of Standard Webhooks.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery {
    /// Where its address is, which begins with https://, or with http:// if the portal allows it.
    pub url_from: SecretValue,
    /// Where the key is that requests are signed with: whsec_ followed by the base64 of 24 to 64 bytes.
    /// Default: they are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key_from: Option<SecretValue>,
}

/// A channel of Slack.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SlackDelivery {
    /// Where the address of the incoming webhook is.
    pub url_from: SecretValue,
}

/// A topic of an ntfy server.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NtfyDelivery {
    /// Where the address of the topic is, such as https://ntfy.sh/TOPIC.
    pub url_from: SecretValue,
    /// Where the access token is. Default: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_from: Option<SecretValue>,
}

/// A value that is in a Secret.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretValue {
    /// A key of a Secret in this namespace that carries the label gill-hicks.dev/allow-portal with the
    /// portal's name, or with several portals' names joined by ".".
    pub secret_key_ref: SecretKeyReference,
}

/// A key of a Secret in this namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// What the operator and the portal's pods last saw. It may be lost without harm.
//
// The default is that of a portal's status, for the same reason.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = serde_json::json!({"observedGeneration": -1})))]
pub struct HardwareWatchStatus {
    /// Generation of the spec that the operator has seen; -1 before it has seen any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready (the portal's pods watch for it) and Delivering (what it sent has arrived), each with a
    /// reason for machines and a message for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Whether it fires when the level is reached. It is disarmed when it fires, and armed again when the
    /// level is gone. Absent while no pod watches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<bool>,
    /// Since when the level holds. Absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds_since: Option<Time>,
    /// When it fired last. Absent if it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<Time>,
    /// When a receiver took a message last. Absent if none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivered: Option<Time>,
    /// Messages that are still to be delivered. Absent while no pod watches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_deliveries: Option<i64>,
}

/// What a condition of a watch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchConditionType {
    /// The portal's pods watch for it.
    Ready,
    /// What it sent has arrived.
    Delivering,
}

impl WatchConditionType {
    /// The word in `status.conditions[].type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Delivering => "Delivering",
        }
    }
}

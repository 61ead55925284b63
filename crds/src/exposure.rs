//! How the web page is reached.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service in front of the web page.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct PortalService {
    /// Type of the Service. Default: ClusterIP.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
}

/// Type of a Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum ServiceType {
    /// Reached inside the cluster.
    #[default]
    ClusterIP,
    /// Reached on a port of every node.
    NodePort,
    /// Reached through a cloud's load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The value as a Service's spec has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// The Ingress in front of the web page.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.externalDns) || has(self.host)").message("portal.ingress.externalDns: it needs portal.ingress.host, the name to register"),
    validation = Rule::new("!has(self.tlsSecretName) || has(self.host)").message("portal.ingress.tlsSecretName: it needs portal.ingress.host, the name in the certificate"),
    validation = Rule::new("!has(self.tlsSecretName) || !has(self.alb)").message("portal.ingress.tlsSecretName: a load balancer of AWS takes no certificate from a Secret; write alb.certificateArn instead"),
    validation = Rule::new("!has(self.annotations) || !('alb.ingress.kubernetes.io/target-group-attributes' in self.annotations) || self.annotations['alb.ingress.kubernetes.io/target-group-attributes'].matches('^([^,]*,)*deregistration_delay[.]timeout_seconds=[0-9](,[^,]*)*$') && !self.annotations['alb.ingress.kubernetes.io/target-group-attributes'].matches('timeout_seconds=[0-9]{2}')").message("portal.ingress.annotations: pods that end go on serving for 10 s, so target-group-attributes must say deregistration_delay.timeout_seconds=N with N from 0 to 9; add it")
)]
pub struct Ingress {
    /// Class of the Ingress. Default: the cluster's default class, or alb if `alb` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Host name of the page, such as hardware.example.com. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
        )
    )]
    pub host: Option<String>,
    /// Secret in this namespace with the certificate of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret_name: Option<String>,
    /// Annotations for the Ingress. They win over those that the operator sets; one for the attributes of
    /// target groups must keep a deregistration delay below 10 seconds. At most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// An Application Load Balancer of AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alb: Option<Alb>,
    /// A DNS record made by external-dns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_dns: Option<ExternalDns>,
}

/// An Application Load Balancer of AWS.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Alb {
    /// Who makes the load balancer: EKS Auto Mode, which takes scheme and group from its
    /// IngressClassParams, or the AWS Load Balancer Controller. Default: Controller.
    #[serde(default)]
    pub flavor: AlbFlavor,
    /// Whether it is reached from the internet. Ignored by Auto Mode. Default: Internal.
    #[serde(default)]
    pub scheme: AlbScheme,
    /// ARN of the certificate for HTTPS. Default: the controller looks for one by host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^arn:"))]
    pub certificate_arn: Option<String>,
    /// Name of a group of Ingresses that share one load balancer. Ignored by Auto Mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub group_name: Option<String>,
}

/// Who makes the load balancer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum AlbFlavor {
    /// EKS Auto Mode.
    AutoMode,
    /// The AWS Load Balancer Controller.
    #[default]
    Controller,
}

/// Whether a load balancer is reached from the internet.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum AlbScheme {
    /// Inside the network only.
    #[default]
    Internal,
    /// From the internet.
    InternetFacing,
}

/// A DNS record made by external-dns.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct ExternalDns {
    /// How long resolvers may keep the record, in seconds. Default: 60.
    #[serde(default = "ExternalDns::default_ttl")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl: i32,
}

impl ExternalDns {
    fn default_ttl() -> i32 {
        60
    }
}

impl Default for ExternalDns {
    fn default() -> Self {
        Self { ttl: Self::default_ttl() }
    }
}

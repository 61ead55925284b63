//! The web page: Deployment, Service and Ingress.

use std::collections::BTreeMap;

use crds::{Alb, AlbFlavor, AlbScheme, Ingress as IngressChoice};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Service, ServiceSpec},
    networking::v1::{
        HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
        IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
    },
};

use super::{
    hardware::{self, http_port},
    pod::{self, Parts},
    shutdown,
};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::resolve::ResolvedPortal,
};

/// Port of the web page, the original's.
pub const PORT: i32 = 5000;

/// The security policy with TLS 1.3 and 1.2 only. The load balancer's default, of 2016, accepts older
/// versions.
const SSL_POLICY: &str = "ELBSecurityPolicy-TLS13-1-2-2021-06";

/// Annotation with the listeners of a load balancer of AWS, as JSON.
pub const LISTEN_PORTS_ANNOTATION: &str = "alb.ingress.kubernetes.io/listen-ports";

/// Annotation with the certificate of a load balancer of AWS.
pub const CERTIFICATE_ANNOTATION: &str = "alb.ingress.kubernetes.io/certificate-arn";

/// The Deployment of the web page.
#[must_use]
pub fn deployment(portal: &ResolvedPortal) -> Deployment {
    let mut env = vec![pod::variable("HARDWARE_HOST", &hardware::address(&portal.name))];
    if let Some(title) = &portal.title {
        env.push(pod::variable("PORTAL_TITLE", title));
    }
    let parts = Parts {
        component: Component::Portal,
        name: names::portal(&portal.name),
        port: Some(PORT),
        env,
        volumes: Vec::new(),
        mounts: Vec::new(),
        rolls: true,
        has_kubernetes_token: false,
    };
    pod::deployment(portal, &portal.portal, parts)
}

/// The Service of the web page.
#[must_use]
pub fn service(portal: &ResolvedPortal) -> Service {
    Service {
        metadata: labels::owned(portal, Component::Portal, names::portal(&portal.name)),
        spec: Some(ServiceSpec {
            type_: Some(portal.service_type.as_str().to_owned()),
            selector: Some(labels::selecting(&portal.name, Component::Portal)),
            ports: Some(vec![http_port(PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Ingress of the web page, if one was asked for.
#[must_use]
pub fn ingress(portal: &ResolvedPortal) -> Option<Ingress> {
    let choice = portal.ingress.as_ref()?;
    let mut metadata = labels::owned(portal, Component::Portal, names::portal(&portal.name));
    let annotations = annotations(choice);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    let default_class = choice.alb.as_ref().map(|_| "alb".to_owned());
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: names::portal(&portal.name),
            port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
        }),
        resource: None,
    };
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: choice.class_name.clone().or(default_class),
            rules: Some(vec![IngressRule {
                host: choice.host.clone(),
                http: Some(HTTPIngressRuleValue {
                    paths: vec![HTTPIngressPath {
                        path: Some("/".to_owned()),
                        path_type: "Prefix".to_owned(),
                        backend,
                    }],
                }),
            }]),
            tls: choice.tls_secret_name.clone().map(|secret| {
                vec![IngressTLS {
                    hosts: choice.host.clone().map(|host| vec![host]),
                    secret_name: Some(secret),
                }]
            }),
            default_backend: None,
        }),
        status: None,
    })
}

/// The annotations for the load balancer and external-dns. The user's own override them.
fn annotations(choice: &IngressChoice) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if let Some(alb) = &choice.alb {
        annotations.extend(alb_annotations(alb));
    }
    if let (Some(dns), Some(host)) = (&choice.external_dns, &choice.host) {
        // external-dns before 0.22 reads the prefix with "alpha", later releases read the other.
        for prefix in ["external-dns.kubernetes.io", "external-dns.alpha.kubernetes.io"] {
            annotations.insert(format!("{prefix}/hostname"), host.clone());
            annotations.insert(format!("{prefix}/ttl"), dns.ttl.to_string());
        }
    }
    annotations.extend(choice.annotations.clone().unwrap_or_default());
    annotations
}

fn alb_annotations(alb: &Alb) -> BTreeMap<String, String> {
    let attributes = format!(
        "deregistration_delay.timeout_seconds={}",
        shutdown::DEREGISTRATION_DELAY.as_secs()
    );
    let mut annotations = pod::strings([
        ("alb.ingress.kubernetes.io/target-type", "ip".to_owned()),
        ("alb.ingress.kubernetes.io/healthcheck-path", "/healthz".to_owned()),
        ("alb.ingress.kubernetes.io/target-group-attributes", attributes),
        ("alb.ingress.kubernetes.io/ssl-policy", SSL_POLICY.to_owned()),
        (LISTEN_PORTS_ANNOTATION, r#"[{"HTTP":80},{"HTTPS":443}]"#.to_owned()),
        ("alb.ingress.kubernetes.io/ssl-redirect", "443".to_owned()),
    ]);
    if let Some(arn) = &alb.certificate_arn {
        annotations.insert(CERTIFICATE_ANNOTATION.to_owned(), arn.clone());
    }
    // Auto Mode takes scheme and group from the IngressClassParams of the class.
    if alb.flavor == AlbFlavor::Controller {
        let scheme = match alb.scheme {
            AlbScheme::Internal => "internal",
            AlbScheme::InternetFacing => "internet-facing",
        };
        annotations.insert("alb.ingress.kubernetes.io/scheme".to_owned(), scheme.to_owned());
        if let Some(group) = &alb.group_name {
            annotations.insert("alb.ingress.kubernetes.io/group.name".to_owned(), group.clone());
        }
    }
    annotations
}

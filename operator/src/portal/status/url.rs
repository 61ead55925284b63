//! Where the web page is reached: only what is known of the objects that are there.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::{
    cluster::names,
    portal::{
        apply::Applied,
        build::portal::{self as page, CERTIFICATE_ANNOTATION, LISTEN_PORTS_ANNOTATION},
        resolve::ResolvedPortal,
    },
};

/// `status.url`: by the Ingress, by the load balancer of the Service, or by the Service's own address, in
/// this order. None until it is known.
pub(super) fn locate(portal: &ResolvedPortal, applied: &Applied) -> Option<String> {
    let name = names::portal(&portal.name);
    if portal.ingress.is_some() {
        return by_ingress(portal, applied.get("Ingress", &name).as_ref());
    }
    by_service(&applied.get("Service", &name)?)
}

fn by_ingress(portal: &ResolvedPortal, live: Option<&DynamicObject>) -> Option<String> {
    let choice = portal.ingress.as_ref()?;
    let host = match &choice.host {
        // It stands for many names, of which nobody knows which one resolves.
        Some(host) if host.starts_with("*.") => return None,
        Some(host) => host.clone(),
        None => balancer(live?)?,
    };
    // As rendered: the user's own annotations have won over the operator's.
    let annotations = page::ingress(portal)?.metadata.annotations.unwrap_or_default();
    let listeners = annotations.get(LISTEN_PORTS_ANNOTATION).map(|text| listeners(text));
    let (secure, plain) = listeners.unwrap_or_else(|| {
        let has_certificate = annotations.contains_key(CERTIFICATE_ANNOTATION);
        (has_certificate.then_some(443), None)
    });
    let secure = secure.or_else(|| choice.tls_secret_name.as_ref().map(|_| 443));
    Some(match (secure, plain) {
        (Some(port), _) => address("https", &host, port, 443),
        (None, plain) => address("http", &host, plain.unwrap_or(80), 80),
    })
}

/// The first ports for HTTPS and for HTTP of a list such as `[{"HTTP":80},{"HTTPS":443}]`.
fn listeners(text: &str) -> (Option<u64>, Option<u64>) {
    let ports: Value = serde_json::from_str(text).unwrap_or_default();
    let first = |protocol: &str| {
        let mut ports = ports.as_array().into_iter().flatten();
        ports.find_map(|listener| listener[protocol].as_u64())
    };
    (first("HTTPS"), first("HTTP"))
}

fn by_service(service: &DynamicObject) -> Option<String> {
    let text = |path: &str| service.data.pointer(path).and_then(Value::as_str);
    let host = if text("/spec/type") == Some("LoadBalancer") {
        balancer(service)?
    } else {
        text("/spec/clusterIP")?.to_owned()
    };
    Some(address("http", &host, u64::from(page::PORT.unsigned_abs()), 80))
}

/// The address that a load balancer has been given, of a Service or an Ingress.
fn balancer(object: &DynamicObject) -> Option<String> {
    let first = object.data.pointer("/status/loadBalancer/ingress/0")?;
    let text = |key: &str| first[key].as_str().filter(|text| !text.is_empty());
    text("hostname").or_else(|| text("ip")).map(str::to_owned)
}

fn address(scheme: &str, host: &str, port: u64, default_port: u64) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == default_port {
        format!("{scheme}://{host}/")
    } else {
        format!("{scheme}://{host}:{port}/")
    }
}

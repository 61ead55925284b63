//! Where the page is reached.

use serde_json::{Value, json};

use super::{applied, object};
use crate::portal::{build::tests::example, status::url::locate};

fn locate_with(portal: &Value, service: &Value, ingress: Option<&Value>) -> Option<String> {
    let resolved = example::validated(json!({"portal": portal}), &example::settings());
    let mut children = vec![object("Service", "demo-portal", service)];
    children.extend(ingress.map(|ingress| object("Ingress", "demo-portal", ingress)));
    locate(&resolved, &applied(children.iter(), true))
}

fn balancer(first: &Value) -> Value {
    json!({"status": {"loadBalancer": {"ingress": [first]}}})
}

#[test]
fn an_ingress_is_reached_at_its_host_or_at_the_address_that_it_was_given() {
    let host = "hardware.example.com";
    let arn = "arn:aws:acm:eu-west-1:111122223333:certificate/test";
    let ports = |text: &str| json!({"alb.ingress.kubernetes.io/listen-ports": text});
    let addressed = balancer(&json!({"hostname": "lb.example"}));
    let at_ip = balancer(&json!({"ip": "2001:db8::1"}));
    let cases = [
        (json!({"host": host}), None, Some("http://hardware.example.com/")),
        (
            json!({"host": host, "tlsSecretName": "certificate"}),
            None,
            Some("https://hardware.example.com/"),
        ),
        // With the listeners that the operator sets.
        (
            json!({"host": host, "alb": {"certificateArn": arn}}),
            None,
            Some("https://hardware.example.com/"),
        ),
        (json!({"host": host, "alb": {}}), None, Some("https://hardware.example.com/")),
        // The user's own listeners win.
        (
            json!({"host": host, "alb": {}, "annotations": ports(r#"[{"HTTP":80}]"#)}),
            None,
            Some("http://hardware.example.com/"),
        ),
        (
            json!({"host": host, "alb": {}, "annotations": ports(r#"[{"HTTP":8080}]"#)}),
            None,
            Some("http://hardware.example.com:8080/"),
        ),
        (
            json!({"host": host, "annotations": ports(r#"[{"HTTP":80},{"HTTPS":8443}]"#)}),
            None,
            Some("https://hardware.example.com:8443/"),
        ),
        (
            json!({"host": host, "annotations": {
                "alb.ingress.kubernetes.io/certificate-arn": arn,
            }}),
            None,
            Some("https://hardware.example.com/"),
        ),
        (
            json!({"host": host, "annotations": ports("no list")}),
            None,
            Some("http://hardware.example.com/"),
        ),
        // Any host: at the address, once it is known.
        (json!({}), None, None),
        (json!({}), Some(json!({"status": {"loadBalancer": {}}})), None),
        (json!({}), Some(addressed.clone()), Some("http://lb.example/")),
        (json!({}), Some(at_ip), Some("http://[2001:db8::1]/")),
        (json!({"alb": {}}), Some(addressed.clone()), Some("https://lb.example/")),
        // Many hosts.
        (json!({"host": "*.example.com"}), Some(addressed), None),
    ];
    for (choice, live, expected) in cases {
        let found = locate_with(
            &json!({"ingress": choice}),
            &json!({"spec": {"clusterIP": "10.96.0.1"}}),
            live.as_ref(),
        );
        assert_eq!(found.as_deref(), expected, "{choice} {live:?}");
    }
}

#[test]
fn a_service_is_reached_at_its_load_balancer_or_its_own_address() {
    let mut awaited = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1"}});
    assert_eq!(locate_with(&json!({}), &awaited, None), None);
    awaited["status"] = balancer(&json!({"ip": "192.0.2.1"}))["status"].clone();
    assert_eq!(locate_with(&json!({}), &awaited, None).as_deref(), Some("http://192.0.2.1:5000/"));
    for (service, expected) in [
        (json!({"type": "ClusterIP", "clusterIP": "10.96.0.1"}), "http://10.96.0.1:5000/"),
        (json!({"type": "NodePort", "clusterIP": "fd00::1"}), "http://[fd00::1]:5000/"),
    ] {
        let found = locate_with(&json!({}), &json!({"spec": service}), None);
        assert_eq!(found.as_deref(), Some(expected));
    }
}

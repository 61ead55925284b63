//! The durations of a pod's termination, chosen so that no request is sent to a pod that has ended.
//!
//! Endpoints and a load balancer remove a pod while it terminates, not before, so it still gets requests
//! for some seconds. Therefore it first goes on serving (`preStop`), then reports itself not ready and
//! drains. The kubelet kills it only after the deadline of its own shutdown.

use std::time::Duration;

/// How long a load balancer goes on sending requests to a target that was deregistered.
pub const DEREGISTRATION_DELAY: Duration = Duration::from_secs(8);
/// How long a terminating pod goes on serving as before: the `preStop` sleep.
pub const PRE_STOP: Duration = Duration::from_secs(10);
/// `DRAIN_DELAY` of the services: not ready, but still serving.
pub const DRAIN_DELAY: Duration = Duration::from_secs(1);
/// `SHUTDOWN_DEADLINE` of the services: the time that requests in flight get.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The delay that a busy node may add.
const MARGIN: Duration = Duration::from_secs(4);

/// `terminationGracePeriodSeconds` of a pod.
#[must_use]
pub fn grace_period() -> i64 {
    let total = PRE_STOP + DRAIN_DELAY + DEADLINE + MARGIN;
    i64::try_from(total.as_secs()).expect("a small constant")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crds::HardwarePortal;
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::ResourceExt;
    use proptest::prelude::{Just, ProptestConfig, Strategy, prop, prop_oneof, proptest};
    use secrecy::SecretString;
    use serde_json::{Value, json};

    use super::{DEREGISTRATION_DELAY, MARGIN, PRE_STOP};
    use crate::{
        portal::{
            build::{Children, build},
            gather::Gathered,
            live::Live,
            resolve::resolve,
        },
        settings::Settings,
        watch::render::GatheredWatches,
    };

    const ATTRIBUTES: &str = "alb.ingress.kubernetes.io/target-group-attributes";
    const DELAY: &str = "deregistration_delay.timeout_seconds=";

    fn portal(spec: &Value) -> HardwarePortal {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p", "namespace": "n", "uid": "8d7f2c3e-0000-4000-8000-000000000000"},
            "spec": spec,
        }))
        .expect("a portal")
    }

    /// The children of a spec that the CRD's rules accept.
    fn children(spec: &Value) -> Children {
        let portal = portal(spec);
        portal.validate_cel().unwrap_or_else(|error| panic!("{spec} is refused: {error}"));
        let settings = Settings {
            hardware_image: "hardware".to_owned(),
            portal_image: "portal".to_owned(),
            collector_image: "collector".to_owned(),
            image_pull_policy: None,
            allowed_database_hosts: Vec::new(),
            namespace: "system".to_owned(),
            rds_authorities: [].into(),
            aws_endpoint: None,
        };
        let read = Gathered {
            mysql: None,
            observations_token: SecretString::from("token"),
            source_tokens: [].into(),
            watches: GatheredWatches::default(),
            live: Live::default(),
        };
        let validated = resolve(&portal, &read, &settings).expect("nothing to object to");
        build(&validated, None, &read.live)
    }

    /// The durations in a Deployment's pod template, as the kubelet and the container read them.
    struct Times {
        sleep: Duration,
        drain: Duration,
        deadline: Duration,
        grace: Duration,
    }

    impl Times {
        fn of(deployment: &Deployment) -> Self {
            let template = deployment.spec.as_ref().map(|spec| spec.template.clone());
            let pod = template.and_then(|template| template.spec).expect("a pod");
            let container = &pod.containers[0];
            let seconds = |seconds: i64| Duration::from_secs(seconds.try_into().expect("a time"));
            // The last variable of a name is effective.
            let variable = |name: &str| {
                let found = container.env.iter().flatten().rfind(|it| it.name == name);
                let text = found.and_then(|it| it.value.as_deref()).expect("a value");
                humantime::parse_duration(text).expect("a time")
            };
            let stop = container.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
            Self {
                sleep: seconds(stop.and_then(|it| it.sleep.as_ref()).expect("a sleep").seconds),
                drain: variable("DRAIN_DELAY"),
                deadline: variable("SHUTDOWN_DEADLINE"),
                grace: seconds(pod.termination_grace_period_seconds.expect("a grace period")),
            }
        }
    }

    fn expect_in_time(spec: &Value) {
        let Children { deployments, ingresses, .. } = children(spec);
        assert_eq!(deployments.len(), 2);
        for deployment in &deployments {
            let Times { sleep, drain, deadline, grace } = Times::of(deployment);
            let name = deployment.name_any();
            assert!(sleep + drain + deadline + MARGIN <= grace, "{name} of {spec}");
            // AWS announces the end of a spot node 120 s ahead; some of that goes on noticing it.
            assert!(grace <= Duration::from_secs(90), "{name} of {spec}: {grace:?}");
            for ingress in &ingresses {
                let attributes = ingress.annotations().get(ATTRIBUTES);
                let delays = attributes.iter().flat_map(|all| all.split(',')).filter_map(|one| {
                    Some(Duration::from_secs(one.trim().strip_prefix(DELAY)?.parse().ok()?))
                });
                let delays: Vec<Duration> = delays.collect();
                assert!(attributes.is_none() || !delays.is_empty(), "{spec}: the default of 300 s");
                assert!(delays.iter().all(|delay| *delay < sleep), "{spec}: {delays:?}");
            }
        }
    }

    #[test]
    fn a_pod_serves_until_it_is_deregistered_and_ends_before_its_spot_node() {
        for spec in [
            json!({}),
            json!({"database": {"embedded": {"storage": {}}}}),
            json!({"hardware": {"scheduling": {"spot": "Prefer"}}}),
            json!({"portal": {"ingress": {"alb": {}}}}),
            json!({"portal": {"ingress": {"alb": {"flavor": "AutoMode"}, "host": "a.example"}}}),
            json!({"portal": {
                "autoscaling": {"disabled": true}, "replicas": 3,
                "extraEnv": [{"name": "SHUTDOWN", "value": "900s"}],
                "podAnnotations": {"terminationGracePeriodSeconds": "900"},
            }}),
        ] {
            expect_in_time(&spec);
        }
        assert!(DEREGISTRATION_DELAY < PRE_STOP);
    }

    #[test]
    fn the_durations_of_a_shutdown_cannot_be_overridden() {
        for component in ["hardware", "portal"] {
            for name in ["DRAIN_DELAY", "SHUTDOWN_DEADLINE"] {
                let spec = json!({component: {"extraEnv": [{"name": name, "value": "300s"}]}});
                let refusal = portal(&spec).validate_cel().expect_err(name).to_string();
                assert!(refusal.contains("remove them"), "{refusal}");
            }
        }
    }

    fn with_attributes(attributes: &str) -> Value {
        json!({"portal": {"ingress": {"alb": {}, "annotations": {ATTRIBUTES: attributes}}}})
    }

    #[test]
    fn a_deregistration_delay_is_accepted_exactly_if_it_is_shorter_than_the_pre_stop_sleep() {
        for seconds in [0, 1, 5, 8, 9, 10, 11, 19, 20, 90, 99, 100, 300, 3600] {
            for attributes in [
                format!("{DELAY}{seconds}"),
                format!("stickiness.enabled=true,{DELAY}{seconds},slow_start.duration_seconds=30"),
            ] {
                let spec = with_attributes(&attributes);
                let is_accepted = portal(&spec).validate_cel().is_ok();
                assert_eq!(is_accepted, Duration::from_secs(seconds) < PRE_STOP, "{attributes}");
            }
        }
    }

    fn noise() -> impl Strategy<Value = String> {
        let parts =
            vec![DELAY, "stickiness.enabled=true", ",", " ", "=", "0", "5", "30", "300", "x"];
        prop::collection::vec(prop::sample::select(parts), 0..4).prop_map(|parts| parts.concat())
    }

    fn separator() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just(","), Just("")]
    }

    proptest! {
        // Each case compiles every rule of the CRD anew.
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Attributes that the CRD accepts keep to the durations.
        #[test]
        fn no_accepted_attributes_let_a_load_balancer_send_to_a_pod_that_has_ended(
            before in noise(), comma in separator(), seconds in 0..20,
            another in separator(), after in noise(),
        ) {
            let attributes = format!("{before}{comma}{DELAY}{seconds}{another}{after}");
            let spec = with_attributes(&attributes);
            if portal(&spec).validate_cel().is_ok() {
                expect_in_time(&spec);
            }
        }
    }
}

//! Portals to render, from the spec that a user would write.

use std::collections::BTreeMap;

use crds::{HardwarePortal, RotationMode};
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde_json::{Value, json};
use service_kit::credentials::{Candidate, CredentialSet};

use super::super::{Children, build, migration};
use crate::{
    portal::{
        gather::{Gathered, GatheredMysql, sources_with_a_token},
        live::{Live, Migration},
        resolve::{ResolvedDatabase, ResolvedPortal, resolve},
    },
    rotation::{
        Credentials,
        machine::State,
        source::{Holder, Mark, Reading},
    },
    settings::Settings,
    watch::render::GatheredWatches,
};

/// An administrator's settings. Only the images name a version.
pub(in crate::portal) fn settings() -> Settings {
    Settings {
        hardware_image: "registry.example/hardware:main-1".to_owned(),
        portal_image: "registry.example/portal:main-1".to_owned(),
        collector_image: "registry.example/collector:main-1".to_owned(),
        image_pull_policy: None,
        allowed_database_hosts: Vec::new(),
        namespace: "gill-hicks-system".to_owned(),
        rds_authorities: b"authorities of release 1".as_slice().into(),
        aws_endpoint: None,
    }
}

/// A portal named `demo` in the namespace `team`, which the CRD's rules accept.
#[expect(clippy::needless_pass_by_value, reason = "so that a test reads as what it is about")]
pub(in crate::portal) fn portal(spec: Value) -> HardwarePortal {
    let portal: HardwarePortal = serde_json::from_value(json!({
        "apiVersion": "gill-hicks.dev/v1alpha1",
        "kind": "HardwarePortal",
        "metadata": {
            "name": "demo", "namespace": "team", "uid": "0a1b2c3d-4e5f-4607-8899-aabbccddeeff",
        },
        "spec": spec,
    }))
    .expect("a portal");
    portal.validate_cel().expect("the CRD accepts it");
    portal
}

/// The resolved portal, with a source that gives the host.
pub(in crate::portal) fn validated(spec: Value, settings: &Settings) -> ResolvedPortal {
    let portal = portal(spec);
    let root = Candidate { username: "root".to_owned(), password: "root's test value".into() };
    let is_mysql = portal.spec.database.as_ref().is_some_and(|database| database.mysql.is_some());
    let read = Gathered {
        mysql: is_mysql.then(|| GatheredMysql {
            source: Ok(Reading {
                version: "1".to_owned(),
                host: Some("db.example".to_owned()),
                allowed_host: Some("db.example".to_owned()),
                holder: Holder {
                    what: "the Secret \"database\"".to_owned(),
                    mark: Mark::LabelOrAnnotation,
                },
                port: None,
                database: Some("hardware".to_owned()),
                candidates: vec![root],
                state: None,
            }),
            state: None,
            published: None,
            authorities: None,
        }),
        observations_token: "token's test value".into(),
        source_tokens: sources_with_a_token(&portal)
            .into_iter()
            .chain(["lab-agent"])
            .map(|name| {
                (name.to_owned(), format!("{}'s test value", name.replace('-', " ")).into())
            })
            .collect(),
        watches: GatheredWatches::default(),
        live: Live::default(),
    };
    resolve(&portal, &read, settings).expect("it can be built")
}

/// Everything that is rendered once the migration has succeeded, in the order in which it is applied.
pub(in crate::portal) fn rendered(spec: Value, settings: &Settings) -> Vec<Value> {
    let portal = validated(spec, settings);
    let credentials = match &portal.database {
        ResolvedDatabase::Embedded { .. } => None,
        ResolvedDatabase::Mysql(mysql) => Some(credentials(mysql.request.plan.mode)),
    };
    let jobs = migration::name(&portal).map(|job| (job, Migration::Succeeded));
    let live = Live { jobs: jobs.into_iter().collect(), ..Live::default() };
    in_order(build(&portal, credentials.as_ref(), &live))
}

/// What the pods hold, and what the migration does.
pub(in crate::portal) fn credentials(mode: RotationMode) -> Credentials {
    let set = |username: &str| CredentialSet {
        generation: 3,
        host: "db.example".to_owned(),
        port: 3306,
        database: "hardware".to_owned(),
        candidates: vec![Candidate {
            username: username.to_owned(),
            password: format!("{username}'s test value").into(),
        }],
    };
    Credentials {
        for_pods: set("application"),
        for_migration: (mode != RotationMode::Follow).then(|| set("owner")),
        state: State::default(),
        mode,
        trouble: None,
        is_privileged: false,
        database: None,
    }
}

fn in_order(children: Children) -> Vec<Value> {
    // No `..`, so that a kind of child that is left out does not compile.
    let Children {
        service_accounts,
        secrets,
        config_maps,
        volume_claims,
        services,
        network_policies,
        migration,
        deployments,
        blocked_by_migration: _,
        scaling: _,
        autoscalers,
        disruption_budgets,
        ingresses,
    } = children;
    let mut all = Vec::new();
    all.extend(service_accounts.iter().map(value));
    all.extend(secrets.iter().map(readable));
    all.extend(config_maps.iter().map(value));
    all.extend(volume_claims.iter().map(value));
    all.extend(services.iter().map(value));
    all.extend(network_policies.iter().map(value));
    all.extend(migration.iter().map(value));
    all.extend(deployments.iter().map(value));
    all.extend(autoscalers.iter().map(value));
    all.extend(disruption_budgets.iter().map(value));
    all.extend(ingresses.iter().map(value));
    all
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("plain data")
}

/// With its values as text; they are test values.
fn readable(secret: &Secret) -> Value {
    let mut object = value(secret);
    let texts: BTreeMap<&String, String> = secret
        .data
        .iter()
        .flatten()
        .map(|(key, bytes)| (key, String::from_utf8(bytes.0.clone()).expect("text")))
        .collect();
    object["data"] = json!(texts);
    object
}

/// `Kind/name` of a rendered object.
pub(super) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// The specs that are kept under review, and in words what each is about.
pub(super) fn specs() -> Vec<(&'static str, Value)> {
    let source = json!({"secret": {"name": "database"}});
    vec![
        ("an_empty_spec", json!({})),
        (
            "embedded_on_a_retained_volume",
            json!({"database": {"embedded": {"storage": {"storageClassName": "fast"}}}}),
        ),
        (
            "embedded_on_a_volume_that_goes_with_the_portal",
            json!({"database": {"embedded": {"storage": {"size": "2048Mi", "retain": false}}}}),
        ),
        ("mysql_with_alternating_users", json!({"database": {"mysql": {"source": source}}})),
        (
            "mysql_that_is_followed_with_a_certificate_of_its_own",
            json!({"database": {"mysql": {
                "source": source,
                "tls": {"ca": {"configMapKeyRef": {"name": "authorities"}}},
                "rotation": {"mode": "Follow"},
            }}}),
        ),
        (
            "fixed_numbers_of_pods",
            json!({
                "database": {"mysql": {"source": source}},
                "hardware": {"autoscaling": {"disabled": true}, "replicas": 3},
                "portal": {"autoscaling": {"disabled": true}, "replicas": 1},
            }),
        ),
        (
            "an_ingress_of_the_aws_controller",
            json!({"portal": {"ingress": {
                "host": "hardware.example.com",
                "alb": {
                    "scheme": "InternetFacing",
                    "certificateArn": "arn:aws:acm:eu-west-1:111122223333:certificate/test",
                    "groupName": "shared",
                },
                "externalDns": {"ttl": 300},
            }}}),
        ),
        (
            "an_ingress_of_eks_auto_mode",
            json!({"portal": {"ingress": {"alb": {"flavor": "AutoMode"}}}}),
        ),
        (
            "an_ingress_with_a_certificate_in_a_secret",
            json!({"portal": {"ingress": {
                "className": "nginx",
                "host": "hardware.example.com",
                "tlsSecretName": "certificate",
                "annotations": {"example.com/limit": "10"},
            }}}),
        ),
        (
            "spot_preferred_and_avoided",
            json!({
                "hardware": {"scheduling": {"spot": "Avoid"}},
                "portal": {"scheduling": {"spot": "Prefer"}},
            }),
        ),
        ("a_source_by_default", json!({"sources": [{"kubernetes": {}}]})),
        (
            "watches_that_may_reach_inside",
            json!({"watches": {"allowHttp": true, "allowAddresses": ["10.0.0.0/8"]}}),
        ),
        ("everything_about_sources", everything_about_sources()),
        ("everything_about_pods", everything_about_pods()),
    ]
}

fn everything_about_sources() -> Value {
    json!({
        "observations": {"sources": [{"name": "lab"}, {"name": "power-meter"}]},
        "sources": [
            {"kubernetes": {"slot": {"cpu": 4, "memory": "16Gi"}, "nodeSelector": {"pool": "shared"}}},
            {
                "name": "lab",
                "kubernetes": {
                    "provider": "Lab",
                    "nodeSelector": {},
                    "tolerations": [{"key": "dedicated", "operator": "Exists", "value": ""}],
                },
            },
            {"karpenter": {"metricsUrl": "http://karpenter.kube-system:8080/metrics"}},
            {"ec2": {"region": "eu-west-1", "instanceTypes": ["p5.48xlarge"]}},
            {"ovh": {"datacenters": ["gra"], "servers": []}},
        ],
        "hardware": {"allowFrom": []},
        "collector": {
            "image": "registry.example/own/collector:7",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "registry"}],
            "resources": {"requests": {"cpu": "0.1"}},
            "scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64"}, "spot": "Prefer"},
            "extraEnv": [{"name": "LOG_LEVEL", "value": "debug"}],
            "podAnnotations": {"example.com/scrape": "true"},
            "podLabels": {"team": "infrastructure"},
            "serviceAccountAnnotations": {
                "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/collector",
            },
        },
    })
}

fn everything_about_pods() -> Value {
    let zone_a = json!({
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]},
            ]},
        ]}},
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
    });
    json!({
        "catalog": [{"provider": "Google", "name": "c3"}],
        "hardware": {
            "image": "registry.example/own/hardware:7",
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "registry"}],
            "resources": {"requests": {"cpu": "0.25", "memory": "1024Mi"}, "limits": {}},
            "allowFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": []}}],
            "extraEnv": [
                {"name": "RUST_BACKTRACE", "value": "1"},
                {"name": "EMPTY", "value": ""},
                {"name": "ZONE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
            "podAnnotations": {"example.com/scrape": "true"},
            "podLabels": {"team": "infrastructure"},
            "scheduling": {
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "value": ""}],
                "affinity": zone_a,
                "spot": "Prefer",
            },
        },
        "portal": {
            "title": "What can I get?",
            "resources": {"limits": {"cpu": 2}},
            "service": {"type": "LoadBalancer"},
            "allowFrom": [],
            "autoscaling": {
                "minReplicas": 3, "maxReplicas": 30, "cpuUtilization": 50,
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
            },
            "podDisruptionBudget": {"maxUnavailable": 2},
            "podAnnotations": {},
            "scheduling": {
                "nodeSelector": {},
                "tolerations": [],
                "topologySpread": [{
                    "maxSkew": 2, "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": [],
                }],
            },
        },
    })
}

/// The objects of one kind by their type.
pub(in crate::portal) fn typed<K: serde::de::DeserializeOwned>(
    objects: &[Value],
    kind: &str,
) -> Vec<K> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| serde_json::from_value(object.clone()).expect("of this kind")).collect()
}

//! The migration's Job: what makes it another one, and where it runs.

use serde_json::{Value, json};

use super::example::{settings, validated};
use crate::portal::build::migration;

/// A portal on MySQL with these fields of hardware.
fn job(hardware: &Value) -> Value {
    let spec = json!({
        "database": {"mysql": {"source": {"secret": {"name": "db"}}}},
        "hardware": hardware,
    });
    let portal = validated(spec, &settings());
    json!(migration::job(&portal).expect("a database on a server has to be migrated"))
}

/// A template cannot be changed: the API server refuses it, and what comes after it is never applied.
#[test]
fn whatever_changes_the_template_is_another_job() {
    let before = job(&json!({}));
    let anti_affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
    ]});
    for (hardware, is_another) in [
        (json!({"image": "registry.example/hardware:2"}), true),
        (json!({"imagePullPolicy": "Always"}), true),
        (json!({"imagePullSecrets": [{"name": "registry"}]}), true),
        (json!({"resources": {"limits": {"memory": "1Gi"}}}), true),
        (json!({"scheduling": {"nodeSelector": {"disk": "ssd"}}}), true),
        (json!({"scheduling": {"affinity": {"podAntiAffinity": anti_affinity}}}), false),
        (json!({"scheduling": {"topologySpread": []}}), false),
        (json!({"podLabels": {"team": "a"}}), false),
    ] {
        let after = job(&hardware);
        let has_another_name = before["metadata"]["name"] != after["metadata"]["name"];
        assert_eq!(has_another_name, is_another, "{hardware}");
        assert_eq!(before["spec"] != after["spec"], is_another, "{hardware}");
    }
}

/// It waits for no pod of the API, which waits for it.
#[test]
fn it_runs_where_nodes_allow_it_whatever_pods_are_there() {
    let terms = json!({"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
    ]});
    let scheduling = json!({
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "spot": "Prefer",
        "affinity": {"podAffinity": terms, "podAntiAffinity": terms},
    });
    let job = job(&json!({"scheduling": scheduling}));
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], scheduling["nodeSelector"]);
    assert_eq!(pod["tolerations"], scheduling["tolerations"]);
    assert!(pod["affinity"]["nodeAffinity"].is_object(), "{}", pod["affinity"]);
    assert_eq!(pod["affinity"].as_object().map(serde_json::Map::len), Some(1));
}

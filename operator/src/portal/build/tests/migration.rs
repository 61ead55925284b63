//! The migration Job: what its name depends on, and where it runs.

use serde_json::{Value, json};

use super::example::{settings, validated};
use crate::portal::{build::migration, resolve::ResolvedDatabase};

/// A portal on MySQL with these fields of hardware.
fn job(hardware: &Value) -> Value {
    let spec = json!({
        "database": {"mysql": {"source": {"secret": {"name": "db"}}}},
        "hardware": hardware,
    });
    let portal = validated(spec, &settings());
    json!(migration::job(&portal).expect("a database on a server has to be migrated"))
}

/// Each image migrates each schema once: another field of the template makes no other Job.
#[test]
fn a_job_is_named_by_image_and_place_alone() {
    let before = job(&json!({}));
    let name = |job: &Value| job["metadata"]["name"].clone();
    let other_image = job(&json!({"image": "registry.example/hardware:2"}));
    assert_ne!(name(&before), name(&other_image));
    for hardware in [
        json!({"imagePullPolicy": "Always"}),
        json!({"imagePullSecrets": [{"name": "registry"}]}),
        json!({"resources": {"limits": {"memory": "1Gi"}}}),
        json!({"scheduling": {"nodeSelector": {"disk": "ssd"}}}),
    ] {
        let after = job(&hardware);
        assert_eq!(name(&before), name(&after), "{hardware}");
        assert_ne!(before["spec"], after["spec"], "{hardware}");
    }
    for database in ["hardware", "inventory"] {
        let mut portal = validated(
            json!({"database": {"mysql": {"source": {"secret": {"name": "db"}}}}}),
            &settings(),
        );
        if let ResolvedDatabase::Mysql(mysql) = &mut portal.database {
            mysql.request.plan.place.database = database.to_owned();
        }
        let job = json!(migration::job(&portal).expect("a Job"));
        assert_eq!(name(&before) == name(&job), database == "hardware", "{database}");
    }
}

/// Its affinity must not need pods of the API, which are created after it.
#[test]
fn a_job_keeps_the_affinity_to_nodes_and_not_that_to_pods() {
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

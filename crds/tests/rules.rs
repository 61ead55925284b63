//! Every rule of the CRDs, broken once, and the CRDs themselves.

use crds::{
    CollectedSource, DeletionPolicy, HardwarePortal, HardwarePortalStatus, HardwareWatch,
    HardwareWatchStatus, ResourceKind, Rotation, RotationMode, Slot, WatchLevel,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `HardwarePortal` if absent.
    kind: Option<String>,
    message: String,
    object: Value,
    old: Option<Value>,
}

fn cases() -> Vec<Case> {
    serde_yaml::from_str(include_str!("refused.yaml")).expect("a list of cases")
}

/// Adds what every object has, and the defaults that the API server would fill in.
fn portal(object: Value) -> HardwarePortal {
    let mut object = object;
    object["apiVersion"] = json!("gill-hicks.dev/v1alpha1");
    object["kind"] = json!("HardwarePortal");
    let parsed: HardwarePortal = serde_json::from_value(object).expect("of the right shape");
    parsed
}

/// The same for a watch.
fn watch(object: Value) -> HardwareWatch {
    let mut object = object;
    object["apiVersion"] = json!("gill-hicks.dev/v1alpha1");
    object["kind"] = json!("HardwareWatch");
    serde_json::from_value(object).expect("of the right shape")
}

#[test]
fn each_object_that_breaks_a_rule_is_refused_with_the_rules_message() {
    for Case { name, kind, message, object, old } in cases() {
        let refused = match (kind.as_deref(), old) {
            (Some("HardwareWatch"), None) => watch(object).validate_cel(),
            (None, Some(old)) => portal(object).validate_cel_update(&portal(old)),
            (None, None) => portal(object).validate_cel(),
            (kind, _) => panic!("{name}: a case of {kind:?} cannot be checked here"),
        };
        let found = refused.expect_err(&name).to_string();
        assert!(found.contains(&message), "{name}: expected \"{message}\", found \"{found}\"");
    }
}

#[test]
fn every_rule_of_the_crds_is_broken_by_some_object() {
    let cases = cases();
    for resource in ResourceKind::ALL {
        let crd = serde_json::to_value(resource.crd()).expect("plain data");
        let mut messages = Vec::new();
        collect_messages(&crd, &mut messages);
        assert!(messages.len() > 5, "{resource:?}: found {} rules only", messages.len());
        for message in messages {
            let is_covered = cases.iter().any(|case| message.contains(&case.message));
            assert!(is_covered, "no object in tests/refused.yaml breaks the rule \"{message}\"");
        }
    }
}

fn collect_messages(value: &Value, messages: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                messages
                    .push(rule["message"].as_str().expect("each rule has a message").to_owned());
            }
            fields.values().for_each(|field| collect_messages(field, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, messages)),
        _ => {}
    }
}

#[test]
fn the_committed_crds_are_those_of_the_types() {
    for resource in ResourceKind::ALL {
        let (plural, made) = (resource.plural(), resource.crd_yaml());
        let path = format!("{plural}.yaml");
        if std::env::var_os("UPDATE_CRD").is_some() {
            std::fs::write(&path, &made).expect("written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "crds/{path} is out of date: run `operator crd {plural} > crds/{path}`"
        );
    }
}

#[test]
fn a_crd_is_named_by_its_plural_and_the_group() {
    for resource in ResourceKind::ALL {
        let name = format!("{}.{}", resource.plural(), crds::GROUP);
        assert_eq!(resource.crd().metadata.name, Some(name));
    }
}

/// The texts of `kubectl explain`: every field of ours has one.
#[test]
fn every_field_of_ours_is_described() {
    for resource in ResourceKind::ALL {
        for part in ["spec", "status"] {
            for (name, field) in
                schema_of(resource)[part]["properties"].as_object().expect("fields")
            {
                let text = field["description"].as_str().unwrap_or_default();
                assert!(text.len() > 20, "{part}.{name} has no description worth reading");
            }
        }
    }
}

/// The fields of a resource.
fn schema_of(resource: ResourceKind) -> Value {
    let crd = serde_json::to_value(resource.crd()).expect("plain data");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

/// Without a status, Helm and Flux call an object current that no operator has seen.
#[test]
fn a_new_object_has_a_status_that_is_of_no_generation() {
    for resource in ResourceKind::ALL {
        let schema = schema_of(resource);
        assert_eq!(schema["status"]["default"], json!({"observedGeneration": -1}));
        assert!(schema["spec"]["default"].is_null(), "a default of the spec would be stored");
    }
    let default = json!({"observedGeneration": -1});
    let status: HardwarePortalStatus = serde_json::from_value(default.clone()).expect("a status");
    assert_eq!((status.observed_generation, status.conditions), (Some(-1), Vec::new()));
    let status: HardwareWatchStatus = serde_json::from_value(default).expect("a status");
    assert_eq!((status.observed_generation, status.conditions), (Some(-1), Vec::new()));
}

#[test]
fn a_watch_needs_a_portal_a_match_and_a_receiver() {
    let slack = json!({"slack": {"urlFrom": {"secretKeyRef": {"name": "slack", "key": "url"}}}});
    let written = watch(json!({"metadata": {"name": "w"}, "spec": {
        "portalRef": {"name": "demo"}, "match": {"name": "p5*"}, "deliver": [slack],
    }}));
    written.validate_cel().expect("nothing else is needed");
    let spec = &written.spec;
    assert_eq!((spec.units, spec.level, spec.suspend), (1, WatchLevel::High, false));
    assert_eq!((spec.hold.as_str(), spec.cooldown.as_str()), ("2m", "30m"));
    let stored = serde_json::to_value(spec).expect("plain data");
    assert_eq!((&stored["for"], &stored["level"]), (&json!("2m"), &json!("HIGH")));
}

#[test]
fn times_of_a_watch_reach_from_nothing_to_their_bounds() {
    for (hold, cooldown) in [("0s", "0s"), ("1h30m", "168h"), ("24h", "12h")] {
        let spec = json!({
            "portalRef": {"name": "demo"}, "match": {"tier": "*"}, "for": hold, "cooldown": cooldown,
            "deliver": [{"ntfy": {"urlFrom": {"secretKeyRef": {"name": "n", "key": "k"}}}}],
        });
        let written = watch(json!({"metadata": {"name": "w"}, "spec": spec}));
        written.validate_cel().unwrap_or_else(|error| panic!("{hold}, {cooldown}: {error}"));
    }
}

#[test]
fn addresses_that_watches_may_use_are_blocks_of_either_kind() {
    let blocks = json!({"allowAddresses": ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]});
    let written = portal(json!({"metadata": {"name": "p"}, "spec": {"watches": blocks}}));
    written.validate_cel().expect("each is a block");
    assert!(!written.spec.watches.expect("what was written").allow_http);
}

#[test]
fn an_empty_spec_stays_empty() {
    let empty = portal(json!({"metadata": {"name": "p"}, "spec": {}}));
    assert!(empty.validate_cel().is_ok());
    let spec = serde_json::to_value(&empty.spec).expect("plain data");
    assert_eq!(spec, json!({"suspend": false}), "a stored default would collide with a choice");
}

#[test]
fn the_one_pod_of_an_embedded_database_can_be_written_down() {
    let one = portal(json!({"metadata": {"name": "p"}, "spec": {"hardware": {"replicas": 1}}}));
    one.validate_cel().expect("the rule about one writer asks for exactly this");
}

#[test]
fn a_portal_on_mysql_gets_accounts_of_its_own_unless_told_otherwise() {
    for source in [
        json!({"secret": {"name": "db"}}),
        json!({"terraformState": {"secretSuffix": "rds"}}),
        json!({"secretsManager": {"secretId": "rds!db-1", "region": "us-gov-west-1"}}),
    ] {
        let spec = json!({"database": {"mysql": {"source": source, "rotation": {}}}});
        let written = portal(json!({"metadata": {"name": "p"}, "spec": spec}));
        written.validate_cel().expect("nothing else is needed");
        let mysql = written.spec.database.and_then(|it| it.mysql).expect("what was written");
        assert_eq!(mysql.deletion_policy, DeletionPolicy::Retain);
        let rotation = mysql.rotation.expect("what was written");
        assert_eq!(rotation, Rotation::default(), "absent and empty mean the same");
        assert_eq!(rotation.mode, RotationMode::AlternatingUsers);
        if let Some(state) = mysql.source.terraform_state {
            assert_eq!((state.workspace.as_str(), state.outputs), ("default", None));
        }
    }
}

#[test]
fn a_source_needs_nothing_but_its_kind() {
    let sources = json!([
        {"kubernetes": {}}, {"name": "lab", "kubernetes": {"slot": {"cpu": 2}}}, {"karpenter": {}},
        {"ec2": {"region": "eu-west-1"}},
        {"ovh": {}},
    ]);
    let written = portal(json!({"metadata": {"name": "p"}, "spec": {"sources": sources}}));
    written.validate_cel().expect("nothing else is needed");
    let sources = written.spec.sources.expect("what was written");
    let names: Vec<Option<&str>> = sources.iter().map(CollectedSource::resolved_name).collect();
    assert_eq!(
        names,
        [Some("kubernetes"), Some("lab"), Some("karpenter"), Some("ec2"), Some("ovh")]
    );
    let slots: Vec<Option<&Slot>> =
        sources.iter().filter_map(|it| it.kubernetes.as_ref()).map(|it| it.slot.as_ref()).collect();
    assert_eq!(slots[0], None, "a stored default would outlive a change of the default");
    let chosen = slots[1].expect("what was written");
    assert_eq!((chosen.cpu.0.as_str(), &chosen.memory), ("2", &Slot::default().memory));
}

#[test]
fn a_slot_is_any_amount_above_0() {
    for (cpu, memory) in [("500m", "512Mi"), ("0.5", "1e9"), ("2", "1.5Gi"), ("1n", "1")] {
        let slot = json!({"cpu": cpu, "memory": memory});
        let spec = json!({"sources": [{"kubernetes": {"slot": slot}}]});
        let written = portal(json!({"metadata": {"name": "p"}, "spec": spec}));
        written.validate_cel().unwrap_or_else(|error| panic!("{slot}: {error}"));
    }
    for cpu in ["0", "0m", "0.0"] {
        let spec = json!({"sources": [{"kubernetes": {"slot": {"cpu": cpu}}}]});
        let written = portal(json!({"metadata": {"name": "p"}, "spec": spec}));
        let refusal = written.validate_cel().expect_err(cpu).to_string();
        assert!(refusal.contains("slot.cpu: write an amount above 0"), "{refusal}");
    }
}

#[test]
fn the_examples_are_valid_and_have_no_unknown_field() {
    let folder = "../deploy/examples";
    let mut portals = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        for document in serde_yaml::Deserializer::from_str(&text) {
            let written = Value::deserialize(document).expect("YAML");
            if written["kind"] != "HardwarePortal" {
                continue;
            }
            let parsed: HardwarePortal =
                serde_json::from_value(written.clone()).expect("of the right shape");
            parsed.validate_cel().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let kept = serde_json::to_value(&parsed.spec).expect("plain data");
            assert_is_kept(&written["spec"], &kept, &path.display().to_string());
            portals += 1;
        }
    }
    assert!(portals >= 3, "found {portals} portals only");
}

#[test]
fn the_manifests_of_the_page_about_watches_are_valid_and_have_no_unknown_field() {
    let page = include_str!("../../docs/watches.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut kinds = Vec::new();
    for block in blocks {
        let mut written: Value = serde_yaml::from_str(block).expect("YAML");
        let kind = written["kind"].as_str().expect("a kind").to_owned();
        let kept = if kind == "HardwareWatch" {
            let parsed = watch(written.clone());
            parsed.validate_cel().unwrap_or_else(|error| panic!("{block}: {error}"));
            serde_json::to_value(&parsed.spec)
        } else {
            // The page shows the part that it is about.
            written["metadata"] = json!({"name": "demo"});
            let parsed = portal(written.clone());
            parsed.validate_cel().unwrap_or_else(|error| panic!("{block}: {error}"));
            serde_json::to_value(&parsed.spec)
        };
        assert_is_kept(&written["spec"], &kept.expect("plain data"), &kind);
        kinds.push(kind);
    }
    assert_eq!(kinds, ["HardwareWatch", "HardwarePortal"]);
}

/// Whatever is written must come back: a misspelt field would have been dropped.
fn assert_is_kept(written: &Value, kept: &Value, place: &str) {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (name, value) in written {
                let place = format!("{place}: {name}");
                assert_is_kept(value, kept.get(name).unwrap_or(&Value::Null), &place);
            }
        }
        (Value::Array(written), Value::Array(kept)) => {
            assert_eq!(written.len(), kept.len(), "{place}");
            for (written, kept) in written.iter().zip(kept) {
                assert_is_kept(written, kept, place);
            }
        }
        _ => assert_eq!(written, kept, "{place}"),
    }
}

//! What the real API server refuses, and that it keeps what the schema must not lose.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use crds::HardwarePortal;
use e2e::{Namespace, program::run, setting};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
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

#[tokio::test]
async fn each_object_that_breaks_a_rule_is_refused_by_the_api_server() -> Result<()> {
    let namespace = Namespace::keep("e2e-admission").await?;
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("../../../crds/tests/refused.yaml"))?;
    ensure!(cases.len() > 15, "found {} cases only", cases.len());
    for case in cases {
        let refusal = submit(&namespace, &case).await?;
        ensure!(
            refusal.contains(&case.message),
            "{}: expected \"{}\", the API server said \"{refusal}\"",
            case.name,
            case.message
        );
    }
    Ok(())
}

/// Submits an object and gives the API server's refusal. Nothing is stored but `old`, suspended so
/// that the operator leaves it alone.
async fn submit(namespace: &Namespace, case: &Case) -> Result<String> {
    let (kind, plural) = match case.kind.as_deref() {
        Some("HardwareWatch") => ("HardwareWatch", "hardwarewatches"),
        _ => ("HardwarePortal", "hardwareportals"),
    };
    let gvk = GroupVersionKind::gvk("gill-hicks.dev", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let objects: Api<DynamicObject> =
        Api::namespaced_with(namespace.client(), namespace.name(), &resource);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let answer = match &case.old {
        None => objects.create(&dry_run, &object(kind, &case.object)?).await,
        Some(old) => {
            let mut old = old.clone();
            old["spec"]["suspend"] = json!(true);
            let name = old["metadata"]["name"].as_str().context("a name")?.to_owned();
            let stored = objects.create(&PostParams::default(), &object(kind, &old)?).await?;
            let mut changed = object(kind, &case.object)?;
            changed.metadata.resource_version = stored.metadata.resource_version;
            let mut answer = objects.replace(&name, &dry_run, &changed).await;
            // The operator says that it is suspended, once.
            if matches!(&answer, Err(kube::Error::Api(status)) if status.code == 409) {
                changed.metadata.resource_version =
                    objects.get(&name).await?.metadata.resource_version;
                answer = objects.replace(&name, &dry_run, &changed).await;
            }
            objects.delete(&name, &DeleteParams::default()).await?;
            answer
        }
    };
    match answer {
        Ok(_) => anyhow::bail!("{}: the API server accepted it", case.name),
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(status.message.clone()),
        Err(error) => Err(error).with_context(|| case.name.clone()),
    }
}

fn object(kind: &str, value: &Value) -> Result<DynamicObject> {
    let mut value = value.clone();
    value["apiVersion"] = json!("gill-hicks.dev/v1alpha1");
    value["kind"] = json!(kind);
    Ok(serde_json::from_value(value)?)
}

/// A default that was stored would collide with a later choice, in both kinds of apply.
#[tokio::test]
async fn a_spec_can_be_changed_step_by_step_with_both_kinds_of_apply() -> Result<()> {
    let namespace = Namespace::keep("e2e-admission").await?;
    let mysql = json!({"mysql": {"source": {"secret": {"name": "db"}}}});
    let steps = [
        json!({}),
        json!({"database": mysql}),
        json!({"database": mysql, "hardware": {"replicas": 3, "autoscaling": {"disabled": true}}}),
        json!({"database": mysql, "hardware": {"autoscaling": {"maxReplicas": 4}}}),
        json!({"database": mysql}),
    ];
    for (name, kind_of_apply) in
        [("by-server", "--server-side=true"), ("by-client", "--server-side=false")]
    {
        // An earlier run may have ended half-way.
        namespace.delete_portal(name).await?;
        for step in &steps {
            let mut spec = step.clone();
            spec["suspend"] = json!(true);
            kubectl_apply(&namespace, kind_of_apply, name, &spec)?;
            let stored: HardwarePortal = namespace.api().get(name).await?;
            let stored = serde_json::to_value(&stored.spec)?;
            // Inside of a choice, defaults are stored; the choice itself is the user's.
            for choice in ["/database/mysql/source", "/database/embedded"] {
                ensure!(
                    stored.pointer(choice) == step.pointer(choice),
                    "{name}: after {step} the database is {}",
                    stored["database"]
                );
            }
            ensure!(
                stored.pointer("/hardware/replicas") == step.pointer("/hardware/replicas"),
                "{name}: after {step} hardware is {}",
                stored["hardware"]
            );
        }
        namespace.api::<HardwarePortal>().delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

fn kubectl_apply(
    namespace: &Namespace,
    kind_of_apply: &str,
    name: &str,
    spec: &Value,
) -> Result<()> {
    let document = json!({
        "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
        "metadata": {"name": name}, "spec": spec,
    });
    let mut kubectl = Command::new(setting("KUBECTL")?);
    kubectl.args(["--namespace", namespace.name(), "apply", kind_of_apply, "--filename", "-"]);
    run(&mut kubectl, &document.to_string())
        .with_context(|| format!("{kind_of_apply} of {spec}"))?;
    Ok(())
}

#[tokio::test]
async fn kubectl_explain_describes_every_level() -> Result<()> {
    for path in [
        "hwp",
        "hwp.spec",
        "hwp.spec.database.mysql.source.secret",
        "hwp.spec.hardware.autoscaling",
        "hwp.spec.portal.ingress.alb",
        "hwp.spec.watches",
        "hwp.status.credentials",
        "hww",
        "hww.spec.deliver.webhook.urlFrom.secretKeyRef",
        "hww.status",
    ] {
        let output = Command::new(setting("KUBECTL")?).args(["explain", path]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        ensure!(!text.contains("<empty>"), "{path} has no description:\n{text}");
        ensure!(
            !text.contains("<no description>"),
            "{path} has a field without description:\n{text}"
        );
    }
    Ok(())
}

//! One edit of one field by hand, of whatever kind the field is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Namespace, managed::FieldPath, owned::Owned, wait::eventually_every};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::world::is_made_anew;

/// Values that stand for each other where only some words are allowed.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("TCP", "UDP"),
    ("Never", "IfNotPresent"),
    ("IfNotPresent", "Always"),
    ("OnFailure", "Never"),
    ("RollingUpdate", "Recreate"),
    ("ScheduleAnyway", "DoNotSchedule"),
    ("ClusterIP", "NodePort"),
    ("RuntimeDefault", "Unconfined"),
    ("AlwaysAllow", "IfHealthyBudget"),
    ("Prefix", "Exact"),
    ("Exists", "Equal"),
    ("Cluster", "Local"),
    ("Opaque", "example.com/edited"),
    ("apps/v1", "apps/v1beta1"),
];

/// What became of an edit.
pub(super) enum Outcome {
    /// The operator has undone it.
    Restored(Duration),
    /// The API server takes no other value.
    Refused,
}

/// Changes the field to something else that the API server accepts, and waits for what it was.
pub(super) async fn edit_and_wait(
    namespace: &Namespace,
    child: &Owned,
    field: &FieldPath,
    deadline: Duration,
) -> Result<Outcome> {
    let (api, name) = (namespace.api_of(&child.resource), child.object.name_any());
    let before = serde_json::to_value(api.get(&name).await?)?;
    let pointer = field.find(&before).context("it is not there, though it was applied")?;
    let original = before.pointer(&pointer).context("it was just found")?.clone();
    let Some(edit) = find_edit(&api, &name, field, &pointer, &original).await? else {
        return Ok(Outcome::Refused);
    };
    let edited = apply(&api, &name, &edit, false).await?;
    let edited = serde_json::to_value(edited.context("accepted on trial, and now refused")?)?;
    let edited = field.find(&edited).and_then(|pointer| edited.pointer(&pointer).cloned());
    let started = Instant::now();
    eventually_every(Duration::from_millis(10), "its restoration", deadline, async || {
        let now = serde_json::to_value(api.get(&name).await?)?;
        let found = field.find(&now).and_then(|pointer| now.pointer(&pointer).cloned());
        if is_made_anew(child, field) {
            ensure!(found.is_some() && found != edited, "it is as it was edited");
            return Ok(());
        }
        // Not the values: some are of Secrets.
        ensure!(found.as_ref() == Some(&original), "it is missing or another");
        Ok(())
    })
    .await?;
    Ok(Outcome::Restored(started.elapsed()))
}

/// The first edit that the API server would accept and that would change anything.
async fn find_edit(
    api: &Api<DynamicObject>,
    name: &str,
    field: &FieldPath,
    pointer: &str,
    original: &Value,
) -> Result<Option<Value>> {
    let mut edits: Vec<Value> = Vec::new();
    if !field.is_item() {
        let replacements = other_values(original).into_iter();
        edits.extend(
            replacements.map(|value| json!([{"op": "replace", "path": pointer, "value": value}])),
        );
    }
    edits.push(json!([{"op": "remove", "path": pointer}]));
    for edit in edits {
        if let Some(after) = apply(api, name, &edit, true).await? {
            let after = serde_json::to_value(after)?;
            let found = field.find(&after).and_then(|pointer| after.pointer(&pointer).cloned());
            if found.as_ref() != Some(original) {
                return Ok(Some(edit));
            }
        }
    }
    Ok(None)
}

/// None if the API server refuses.
async fn apply(
    api: &Api<DynamicObject>,
    name: &str,
    edit: &Value,
    is_trial: bool,
) -> Result<Option<DynamicObject>> {
    let parameters = PatchParams {
        field_manager: Some("e2e-hand".to_owned()),
        dry_run: is_trial,
        ..PatchParams::default()
    };
    let patch: Patch<DynamicObject> = Patch::Json(serde_json::from_value(edit.clone())?);
    match api.patch(name, &parameters, &patch).await {
        Ok(after) => Ok(Some(after)),
        Err(kube::Error::Api(status)) if [400, 403, 422].contains(&status.code) => Ok(None),
        Err(error) => bail!("the edit failed otherwise: {error}"),
    }
}

/// Other values of the same type, the likeliest to be accepted first.
fn other_values(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            vec![json!(number + 1), json!(number - 1)]
        }
        Value::String(text) => other_texts(text).into_iter().map(Value::from).collect(),
        Value::Array(items) => {
            let mut others = vec![json!([])];
            others.extend((0..items.len()).flat_map(|index| {
                let with = move |other: Value| {
                    let mut items = items.clone();
                    items[index] = other;
                    Value::from(items)
                };
                other_values(&items[index]).into_iter().map(with)
            }));
            others
        }
        Value::Object(fields) => {
            let others = fields.iter().flat_map(|(name, value)| {
                let with = move |other: Value| {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), other);
                    Value::from(fields)
                };
                other_values(value).into_iter().map(with)
            });
            others.chain([json!({}), json!({"edited": "by-hand"})]).collect()
        }
        Value::Null => Vec::new(),
    }
}

fn other_texts(text: &str) -> Vec<String> {
    let mut others: Vec<String> = ALTERNATIVES
        .iter()
        .filter(|(word, _)| *word == text)
        .map(|(_, other)| (*other).to_owned())
        .collect();
    // 100m, 300Mi, 25%.
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    if let Ok(number) = text[..digits].parse::<u64>() {
        others.push(format!("{}{}", number + 1, &text[digits..]));
    }
    others.push(format!("{text}-edited"));
    // In base64, as the data of a Secret is.
    others.push("ZWRpdGVk".to_owned());
    others
}

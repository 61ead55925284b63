//! An object that the API server has stored but that cannot be read as what it should be: the CRD's schema
//! is a little wider than the type. Nothing is done for it, and its status and an event say why.

use crds::Reason;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
};
use serde_json::{Value, json};
use tracing::warn;

use super::events::Events;

/// What is said of an object that cannot be read.
pub struct Explanation<'a> {
    /// The conditions of an object that only a change of it helps, with their statuses. The others stay as
    /// they are.
    pub judged: &'a [(&'a str, &'a str)],
    /// What becomes of it meanwhile.
    pub meanwhile: &'a str,
}

/// Says on the object itself, and in an event, why it is no `K`. Then only a change of it helps.
pub async fn explain<K>(
    invalid: &InvalidObject,
    explanation: &Explanation<'_>,
    client: &Client,
    events: &Events,
) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let resource = ApiResource::erase::<K>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let Some(object) = objects.get_opt(&name).await? else { return Ok(()) };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let message = format!(
        "the object cannot be read as a {}: {}; correct the value, until then {}",
        resource.kind, invalid.error, explanation.meanwhile
    );
    let Some(status) = status(&object, explanation.judged, &message, Timestamp::now()) else {
        return Ok(());
    };
    warn!(namespace, name, error = invalid.error, "an object is no {}", resource.kind);
    let patch = json!({"status": status});
    match objects.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => {}
        // Deleted meanwhile.
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    }
    let regarding = object.object_ref(&resource);
    events.publish(regarding, false, Reason::InvalidSpec.as_str(), message).await;
    Ok(())
}

/// The part of the status that changes; none if it is like this already.
fn status(
    object: &DynamicObject,
    judged: &[(&str, &str)],
    message: &str,
    now: Timestamp,
) -> Option<Value> {
    let old = object.data.get("status").unwrap_or(&Value::Null);
    let conditions = old["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let generation = object.metadata.generation;
    let find = |kind: &str, status: &str| {
        let mut conditions = conditions.iter();
        conditions.find(|one| one["type"] == kind && one["status"] == status)
    };
    let is_written = judged.iter().all(|(kind, status)| {
        find(kind, status).is_some_and(|condition| {
            condition["message"] == message && condition["observedGeneration"] == json!(generation)
        })
    });
    if is_written && old["observedGeneration"] == json!(generation) {
        return None;
    }
    let new = judged.iter().map(|(kind, status)| {
        let same = find(kind, status);
        let since = same.and_then(|same| same["lastTransitionTime"].as_str()?.parse().ok());
        let condition = Condition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: Reason::InvalidSpec.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: Time(since.unwrap_or(now)),
        };
        serde_json::to_value(condition).expect("plain data")
    });
    let is_judged = |condition: &&Value| judged.iter().any(|(kind, _)| condition["type"] == *kind);
    let others = conditions.iter().filter(|condition| !is_judged(condition));
    let conditions: Vec<Value> = new.chain(others.cloned()).collect();
    Some(json!({"observedGeneration": generation, "conditions": conditions}))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::status;

    const JUDGED: [(&str, &str); 2] = [("Ready", "False"), ("Stalled", "True")];

    fn object(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p", "generation": 3}, "status": status,
        }))
        .expect("an object")
    }

    #[test]
    fn it_is_written_once_as_stalled_and_the_other_conditions_stay() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let available = json!({
            "type": "HardwareAvailable", "status": "True", "reason": "AsExpected", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let before = json!({"observedGeneration": -1, "conditions": [available]});
        let written = status(&object(&before), &JUDGED, "no", now).expect("it is new");
        assert_eq!(written["observedGeneration"], 3);
        let conditions = written["conditions"].as_array().expect("a list");
        let found: Vec<(&str, &str)> = conditions
            .iter()
            .filter_map(|one| Some((one["type"].as_str()?, one["status"].as_str()?)))
            .collect();
        let expected = [("Ready", "False"), ("Stalled", "True"), ("HardwareAvailable", "True")];
        assert_eq!(found, expected);
        assert!(conditions[..2].iter().all(|one| one["observedGeneration"] == 3));
        assert_eq!(conditions[2], available);

        assert_eq!(status(&object(&written), &JUDGED, "no", now), None);
        let later: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        let again = status(&object(&written), &JUDGED, "another cause", later).expect("it is new");
        let since = &again["conditions"][0]["lastTransitionTime"];
        assert_eq!(since, "2026-01-02T00:00:00Z", "still False");
    }
}

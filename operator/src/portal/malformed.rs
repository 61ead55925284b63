//! An object that the API server has stored but that cannot be read as a portal: the definition's
//! schema is a little wider than what a portal can be. Nothing is done for it, and its owner is told.

use std::time::Duration;

use crds::{ConditionType, HardwarePortal, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
};
use kube_runtime::controller::Action;
use metrics::counter;
use serde_json::{Value, json};
use tracing::warn;

use crate::cluster::{
    events::Events,
    retry::{Retries, Retry},
};

/// Says on the object itself, and in an event, why it is no portal. Then only a change of it helps.
pub async fn explain(
    invalid: &InvalidObject,
    client: &Client,
    events: &Events,
    retries: &Retries,
    at_rest: Duration,
) -> Action {
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let name = invalid.metadata.name.clone().unwrap_or_default();
    counter!("reconcile_total", "outcome" => "malformed").increment(1);
    match tell(invalid, &namespace, &name, client, events).await {
        Ok(()) => Action::await_change(),
        Err(error) => {
            warn!(namespace, name, %error, "failed to say that an object is no HardwarePortal");
            let uid = invalid.metadata.uid.clone().unwrap_or_default();
            Action::requeue(retries.delay(&uid, &Retry::of_api(&error), at_rest))
        }
    }
}

async fn tell(
    invalid: &InvalidObject,
    namespace: &str,
    name: &str,
    client: &Client,
    events: &Events,
) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<HardwarePortal>(&());
    let portals: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let Some(object) = portals.get_opt(name).await? else { return Ok(()) };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let message = format!(
        "the object cannot be read as a HardwarePortal: {}; correct the value, until then what runs is left alone",
        invalid.error
    );
    let Some(conditions) = conditions(&object, &message, Timestamp::now()) else { return Ok(()) };
    warn!(namespace, name, error = invalid.error, "an object is no HardwarePortal");
    let patch = json!({"status": {"conditions": conditions}});
    match portals.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => {}
        // Deleted meanwhile: nobody is left to be told.
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    }
    let regarding = object.object_ref(&resource);
    events.publish(regarding, false, Reason::InvalidSpec.as_str(), message).await;
    Ok(())
}

/// The conditions with Ready and Progressing as they are now; none if they say so already. The others
/// stay as they are.
fn conditions(object: &DynamicObject, message: &str, now: Timestamp) -> Option<Vec<Value>> {
    let old = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let old = old.map(Vec::as_slice).unwrap_or_default();
    let generation = object.metadata.generation;
    let find = |kind: &str| old.iter().find(|condition| condition["type"] == kind);
    let kinds = [ConditionType::Ready, ConditionType::Progressing].map(ConditionType::as_str);
    let is_said = kinds.iter().all(|kind| {
        find(kind).is_some_and(|condition| {
            condition["status"] == "False"
                && condition["message"] == message
                && condition["observedGeneration"] == json!(generation)
        })
    });
    if is_said {
        return None;
    }
    let said = kinds.map(|kind| {
        let same = find(kind).filter(|condition| condition["status"] == "False");
        let since = same.and_then(|same| same["lastTransitionTime"].as_str()?.parse().ok());
        let condition = Condition {
            type_: kind.to_owned(),
            status: "False".to_owned(),
            reason: Reason::InvalidSpec.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: Time(since.unwrap_or(now)),
        };
        serde_json::to_value(condition).expect("plain data")
    });
    let others =
        old.iter().filter(|condition| !kinds.iter().any(|kind| condition["type"] == *kind));
    Some(said.into_iter().chain(others.cloned()).collect())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::conditions;

    fn object(conditions: &[Value]) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p", "generation": 3},
            "status": {"conditions": conditions},
        }))
        .expect("an object")
    }

    #[test]
    fn it_is_said_once_and_the_other_conditions_stay() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let available = json!({
            "type": "HardwareAvailable", "status": "True", "reason": "AsExpected", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let said =
            conditions(&object(std::slice::from_ref(&available)), "no", now).expect("to be said");
        assert_eq!(said.len(), 3);
        assert_eq!(said[0]["type"], "Ready");
        assert_eq!(said[0]["observedGeneration"], 3);
        assert_eq!(said[2], available);

        assert_eq!(conditions(&object(&said), "no", now), None);
        let later: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        let again = conditions(&object(&said), "another cause", later).expect("to be said");
        assert_eq!(again[0]["lastTransitionTime"], "2026-01-02T00:00:00Z", "still False");
    }
}

//! An object that the API server has stored but that cannot be read as a portal: the CRD's schema is a
//! little wider than what a portal can be. Nothing is done for it, and its status and an event say why.

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
    match publish(invalid, &namespace, &name, client, events).await {
        Ok(()) => Action::await_change(),
        Err(error) => {
            warn!(namespace, name, %error, "failed to say that an object is no HardwarePortal");
            let uid = invalid.metadata.uid.clone().unwrap_or_default();
            Action::requeue(retries.delay(&uid, &Retry::of_api(&error), at_rest))
        }
    }
}

async fn publish(
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
    let Some(status) = status(&object, &message, Timestamp::now()) else { return Ok(()) };
    warn!(namespace, name, error = invalid.error, "an object is no HardwarePortal");
    let patch = json!({"status": status});
    match portals.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => {}
        // Deleted meanwhile.
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    }
    let regarding = object.object_ref(&resource);
    events.publish(regarding, false, Reason::InvalidSpec.as_str(), message).await;
    Ok(())
}

/// The conditions of an object that only a change of it helps. The others stay as they are.
const JUDGED: [(ConditionType, &str); 4] = [
    (ConditionType::Ready, "False"),
    (ConditionType::Progressing, "False"),
    (ConditionType::Reconciling, "False"),
    (ConditionType::Stalled, "True"),
];

/// The part of the status that changes; none if it is like this already.
fn status(object: &DynamicObject, message: &str, now: Timestamp) -> Option<Value> {
    let old = object.data.get("status").unwrap_or(&Value::Null);
    let conditions = old["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let generation = object.metadata.generation;
    let find = |kind: ConditionType, status: &str| {
        let mut conditions = conditions.iter();
        conditions.find(|one| one["type"] == kind.as_str() && one["status"] == status)
    };
    let is_written = JUDGED.iter().all(|(kind, status)| {
        find(*kind, status).is_some_and(|condition| {
            condition["message"] == message && condition["observedGeneration"] == json!(generation)
        })
    });
    if is_written && old["observedGeneration"] == json!(generation) {
        return None;
    }
    let judged = JUDGED.map(|(kind, status)| {
        let same = find(kind, status);
        let since = same.and_then(|same| same["lastTransitionTime"].as_str()?.parse().ok());
        let condition = Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: Reason::InvalidSpec.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: generation,
            last_transition_time: Time(since.unwrap_or(now)),
        };
        serde_json::to_value(condition).expect("plain data")
    });
    let is_judged =
        |condition: &&Value| JUDGED.iter().any(|(kind, _)| condition["type"] == kind.as_str());
    let others = conditions.iter().filter(|condition| !is_judged(condition));
    let conditions: Vec<Value> = judged.into_iter().chain(others.cloned()).collect();
    Some(json!({"observedGeneration": generation, "conditions": conditions}))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::status;

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
        let written = status(&object(&before), "no", now).expect("it is new");
        assert_eq!(written["observedGeneration"], 3);
        let conditions = written["conditions"].as_array().expect("a list");
        let found: Vec<(&str, &str)> = conditions
            .iter()
            .filter_map(|one| Some((one["type"].as_str()?, one["status"].as_str()?)))
            .collect();
        let expected = [
            ("Ready", "False"),
            ("Progressing", "False"),
            ("Reconciling", "False"),
            ("Stalled", "True"),
            ("HardwareAvailable", "True"),
        ];
        assert_eq!(found, expected);
        assert!(conditions[..4].iter().all(|one| one["observedGeneration"] == 3));
        assert_eq!(conditions[4], available);

        assert_eq!(status(&object(&written), "no", now), None);
        let later: Timestamp = "2026-01-03T00:00:00Z".parse().expect("a time");
        let again = status(&object(&written), "another cause", later).expect("it is new");
        let since = &again["conditions"][0]["lastTransitionTime"];
        assert_eq!(since, "2026-01-02T00:00:00Z", "still False");
    }
}

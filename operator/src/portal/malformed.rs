//! An object that is stored as a portal but cannot be read as one.

use std::time::Duration;

use crds::HardwarePortal;
use kube::{Client, core::error_boundary::InvalidObject};
use kube_runtime::controller::Action;
use metrics::counter;
use tracing::warn;

use crate::cluster::{
    events::Events,
    malformed::{self, Explanation},
    retry::{Retries, Retry},
};

const EXPLANATION: Explanation<'_> = Explanation {
    judged: &[
        ("Ready", "False"),
        ("Progressing", "False"),
        ("Reconciling", "False"),
        ("Stalled", "True"),
    ],
    meanwhile: "what runs is left alone",
};

/// Says on the object itself, and in an event, why it is no portal. Then only a change of it helps.
pub async fn explain(
    invalid: &InvalidObject,
    client: &Client,
    events: &Events,
    retries: &Retries,
    at_rest: Duration,
) -> Action {
    counter!("reconcile_total", "outcome" => "malformed").increment(1);
    let explained =
        malformed::explain::<HardwarePortal>(invalid, &EXPLANATION, client, events).await;
    match explained {
        Ok(()) => Action::await_change(),
        Err(error) => {
            let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            warn!(namespace, name, %error, "failed to say that an object is no HardwarePortal");
            let uid = invalid.metadata.uid.as_deref().unwrap_or_default();
            Action::requeue(retries.delay(uid, &Retry::of_api(&error), at_rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::ConditionType;

    use super::EXPLANATION;

    #[test]
    fn what_is_said_are_conditions_of_a_portal() {
        for (kind, _) in EXPLANATION.judged {
            assert!(ConditionType::ALL.iter().any(|one| one.as_str() == *kind), "{kind}");
        }
    }
}

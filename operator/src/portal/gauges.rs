//! Gauges about portals, summed over all scopes of the operator.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crds::{ConditionType, HardwarePortal, RotationPhase};
use jiff::Timestamp;
use metrics::gauge;

use crate::cluster::scope::Scope;

/// The counts of each scope. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct PortalGauges {
    scopes: Arc<Mutex<HashMap<Scope, Count>>>,
}

/// Counts of the portals of one scope, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    ready: u32,
    not_ready: u32,
    /// Portals by the phase of their rotation.
    phases: HashMap<RotationPhase, u32>,
    /// The earliest end of a last rotation: the age of the oldest credential.
    oldest: Option<Timestamp>,
}

impl PortalGauges {
    /// Counts the portals of one scope and publishes the sums. `None` stands for an object that cannot be
    /// read as a portal.
    pub fn take<'a>(
        &self,
        scope: &Scope,
        portals: impl Iterator<Item = Option<&'a HardwarePortal>>,
    ) {
        let mut count = Count::default();
        for portal in portals {
            count.add(portal);
        }
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.insert(scope.clone(), count);
        Count::sum(scopes.values()).publish(Timestamp::now());
    }
}

impl Count {
    fn add(&mut self, portal: Option<&HardwarePortal>) {
        let status = portal.and_then(|portal| portal.status.as_ref());
        let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
        let ready = ConditionType::Ready.as_str();
        if conditions.any(|one| one.type_ == ready && one.status == "True") {
            self.ready += 1;
        } else {
            self.not_ready += 1;
        }
        let Some(credentials) = status.and_then(|status| status.credentials.as_ref()) else {
            return;
        };
        if let Some(phase) = credentials.phase {
            *self.phases.entry(phase).or_default() += 1;
        }
        let last = credentials.last_rotation_time.as_ref().map(|time| time.0);
        self.oldest = self.oldest.into_iter().chain(last).min();
    }

    fn sum<'a>(counts: impl Iterator<Item = &'a Self>) -> Self {
        counts.fold(Self::default(), |mut sum, count| {
            sum.ready += count.ready;
            sum.not_ready += count.not_ready;
            for (phase, portals) in &count.phases {
                *sum.phases.entry(*phase).or_default() += portals;
            }
            sum.oldest = sum.oldest.into_iter().chain(count.oldest).min();
            sum
        })
    }

    fn publish(&self, now: Timestamp) {
        gauge!("portals", "ready" => "true").set(self.ready);
        gauge!("portals", "ready" => "false").set(self.not_ready);
        for phase in RotationPhase::ALL {
            let portals = self.phases.get(&phase).copied().unwrap_or_default();
            gauge!("rotation_phase", "phase" => phase.to_string()).set(portals);
        }
        // 0 where no credential exists.
        let age = self.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64());
        gauge!("credential_age_seconds").set(age);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crds::{HardwarePortal, RotationPhase};
    use serde_json::{Value, json};

    use super::Count;

    #[expect(clippy::needless_pass_by_value, reason = "so that a test reads as what it is about")]
    fn portal(ready: &str, credentials: Value) -> HardwarePortal {
        serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p"}, "spec": {},
            "status": {
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": "AsExpected", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "credentials": credentials,
            },
        }))
        .expect("a portal")
    }

    #[test]
    fn counts_are_summed_and_the_oldest_credential_counts() {
        let credential = |phase: &str, time: &str| json!({"generation": 1, "phase": phase, "lastRotationTime": time, "summary": ""});
        let (mut one, mut other) = (Count::default(), Count::default());
        one.add(Some(&portal("True", Value::Null)));
        one.add(Some(&portal("True", credential("Idle", "2026-03-01T00:00:00Z"))));
        one.add(None);
        other.add(Some(&portal("False", credential("Published", "2026-02-01T00:00:00Z"))));
        let sum = Count::sum([one, other].iter());
        let oldest = "2026-02-01T00:00:00Z".parse().expect("a time");
        assert_eq!((sum.ready, sum.not_ready, sum.oldest), (2, 2, Some(oldest)));
        let phases = [(RotationPhase::Idle, 1), (RotationPhase::Published, 1)];
        assert_eq!(sum.phases, HashMap::from(phases));
    }
}

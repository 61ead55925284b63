//! What happens to a portal while a request goes wrong.

use serde_json::{Value, json};

/// A change, from one spec to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// There was no portal before.
    New,
    /// Children change, one is added and one is removed.
    Changed,
    /// The number of pods is handed over to an autoscaler.
    Scaled,
}

impl Scenario {
    /// The spec at rest before; none if there is no portal.
    pub(super) fn before(self) -> Option<Value> {
        match self {
            Self::New => None,
            Self::Changed | Self::Scaled => Some(spec()),
        }
    }

    /// The spec that has to come about.
    pub(super) fn after(self) -> Value {
        let mut spec = spec();
        match self {
            Self::New => {}
            Self::Changed => {
                spec["portal"]["ingress"] = Value::Null;
                spec["portal"]["title"] = json!("Another title");
                spec["portal"]["podDisruptionBudget"] = json!({"maxUnavailable": 2});
                spec["catalog"] = json!([{"provider": "Amazon", "name": "p5"}]);
                spec["database"] = json!({"embedded": {"storage": {"size": "1Gi"}}});
            }
            Self::Scaled => {
                spec["portal"]["replicas"] = Value::Null;
                spec["portal"]["autoscaling"] = json!({"minReplicas": 1, "maxReplicas": 3});
            }
        }
        spec
    }
}

/// A portal of every kind of child that needs no pod.
fn spec() -> Value {
    json!({
        "hardware": {"autoscaling": {"disabled": true}, "replicas": 0},
        "portal": {
            "autoscaling": {"disabled": true}, "replicas": 0,
            "ingress": {"host": "faults.example.com"},
            // Where an autoscaler insists on a pod, it waits for ever.
            "scheduling": {"nodeSelector": {"gill-hicks.dev/nowhere": "true"}},
        },
    })
}

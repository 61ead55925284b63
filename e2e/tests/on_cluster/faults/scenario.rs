//! What happens to a portal while something goes wrong.

use e2e::{fake_nodes, source};
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
    /// The database inside of the pod is given up for one on a server.
    Switched,
    /// The portal is deleted, and its accounts on the server are to be dropped.
    Deleted,
}

impl Scenario {
    /// Every scenario.
    pub(super) const ALL: [Self; 5] =
        [Self::New, Self::Changed, Self::Scaled, Self::Switched, Self::Deleted];

    /// The spec at rest before; none if there is no portal.
    pub(super) fn before(self) -> Option<Value> {
        match self {
            Self::New => None,
            Self::Changed | Self::Scaled | Self::Switched => Some(spec()),
            Self::Deleted => Some(on_mysql()),
        }
    }

    /// The spec that has to come about; none if no portal is to be left.
    pub(super) fn after(self) -> Option<Value> {
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
            Self::Switched => spec = on_mysql(),
            Self::Deleted => return None,
        }
        Some(spec)
    }

    /// Whether there are accounts on the server.
    pub(super) fn has_accounts(self) -> bool {
        matches!(self, Self::Switched | Self::Deleted)
    }
}

/// A portal of every kind of child that needs no pod.
fn spec() -> Value {
    // Where an autoscaler insists on a pod, and before a new Deployment is told that it has none, it waits
    // for ever.
    let nowhere = json!({"nodeSelector": {"gill-hicks.dev/nowhere": "true"}});
    json!({
        "hardware": {
            "autoscaling": {"disabled": true}, "replicas": 0, "scheduling": nowhere.clone(),
        },
        "portal": {
            "autoscaling": {"disabled": true}, "replicas": 0, "scheduling": nowhere,
            "ingress": {"host": "faults.example.com"},
        },
    })
}

/// The same on the server, with accounts of the operator's own. The migration's pod is one that is only
/// said to run, as a hundred real ones would take the machine's time.
pub(super) fn on_mysql() -> Value {
    let mut spec = spec();
    spec["hardware"]["scheduling"] = fake_nodes::scheduling();
    spec["database"] = source::rotating("AlternatingUsers")["database"].clone();
    let mysql = &mut spec["database"]["mysql"];
    // What a look at the source asks for is no part of a scenario.
    mysql["rotation"]["pollInterval"] = json!("1h");
    mysql["deletionPolicy"] = json!("DropAccounts");
    spec
}

//! A healthy portal beside one in trouble, and what the operator says about the trouble.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crds::HardwarePortal;
use k8s_openapi::{
    api::{core::v1::ConfigMap, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    Namespace,
    namespace::{SETTLED, expect_condition},
    wait::eventually,
};

/// A spec edit has to reach the children within this time, whatever happens to others.
const PROMPTLY: Duration = Duration::from_secs(10);

/// A spec that takes as little of the machine as possible: one pod of each kind.
#[must_use]
pub fn small() -> Value {
    let resources = json!({"requests": {"cpu": "20m", "memory": "40Mi"}});
    json!({
        "hardware": {"resources": resources},
        "portal": {
            "autoscaling": {"disabled": true, "minReplicas": 1}, "resources": resources,
        },
    })
}

/// A healthy portal.
pub struct Neighbour {
    namespace: Namespace,
    edits: u32,
}

impl Neighbour {
    /// Starts it, and waits until it serves.
    pub async fn start(namespace: &Namespace) -> Result<Self> {
        namespace.apply_portal("neighbour", small()).await?;
        namespace.wait_until_ready("neighbour").await?;
        Ok(Self { namespace: namespace.clone(), edits: 0 })
    }

    /// Edits its spec, and gives how long it took until the edit was in its child and in its status.
    pub async fn expect_to_go_on(&mut self) -> Result<Duration> {
        self.edits += 1;
        let name = format!("edit-{}", self.edits);
        let mut spec = small();
        spec["catalog"] = json!([{"provider": "Neighbour", "name": name}]);
        let started = Instant::now();
        self.namespace.apply_portal("neighbour", spec).await?;
        eventually(&format!("{name} in the neighbour's catalog"), PROMPTLY, async || {
            let config: ConfigMap = self.namespace.api().get("neighbour-config").await?;
            let data = config.data.unwrap_or_default();
            ensure!(data.values().any(|text| text.contains(&name)), "found {data:?}");
            Ok(())
        })
        .await?;
        let took = started.elapsed();
        self.namespace.wait_until_ready("neighbour").await?;
        Ok(took)
    }
}

/// Waits until a condition is False for this reason with all these words in its message, and until a
/// Warning event of the portal says the same.
pub async fn expect_explained(
    namespace: &Namespace,
    portal: &str,
    kind: &str,
    reason: &str,
    words: &[&str],
) -> Result<Condition> {
    let what = format!("{kind} of {portal} False with {reason} and {words:?}");
    let condition = eventually(&what, SETTLED, async || {
        let object: HardwarePortal = namespace.api().get(portal).await?;
        let found = expect_condition(&object, kind, "False")?;
        ensure!(found.reason == reason, "it is {}: {}", found.reason, found.message);
        expect_words(&found.message, words)?;
        Ok(found)
    })
    .await?;
    expect_warning(namespace, portal, reason, words).await?;
    Ok(condition)
}

/// Waits for a Warning event of a portal with this reason and all these words in its note.
pub async fn expect_warning(
    namespace: &Namespace,
    portal: &str,
    reason: &str,
    words: &[&str],
) -> Result<()> {
    let what = format!("a Warning event of {portal} with {reason} and {words:?}");
    eventually(&what, PROMPTLY, async || {
        let events = warnings(namespace, portal).await?;
        let is_it =
            |(word, note): &(String, String)| word == reason && expect_words(note, words).is_ok();
        ensure!(events.iter().any(is_it), "found {events:?}");
        Ok(())
    })
    .await
}

/// Reasons and notes of a portal's Warning events.
pub async fn warnings(namespace: &Namespace, portal: &str) -> Result<Vec<(String, String)>> {
    let object = namespace.api::<HardwarePortal>().get_metadata(portal).await?;
    let uid = object.uid();
    let events = namespace.api::<Event>().list(&ListParams::default()).await?;
    let its = events.items.into_iter().filter(|event| {
        let regarding = event.regarding.as_ref();
        regarding.is_some_and(|it| it.uid == uid) && event.type_.as_deref() == Some("Warning")
    });
    Ok(its.map(|it| (it.reason.unwrap_or_default(), it.note.unwrap_or_default())).collect())
}

fn expect_words(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "\"{word}\" is not in: {text}");
    }
    Ok(())
}

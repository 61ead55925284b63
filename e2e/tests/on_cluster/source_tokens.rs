//! Sources with a token of their own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Namespace, wait::eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use reqwest::Client;
use serde_json::{Value, json};

/// How long a kubelet may take until a pod has what changed in a Secret.
const KUBELET: Duration = Duration::from_mins(3);

#[tokio::test]
async fn a_source_that_is_named_is_let_in_with_its_own_token_alone() -> Result<()> {
    let namespace = Namespace::open("e2e-source-tokens").await?;
    let sources = json!({"observations": {"sources": [{"name": "lab-agent"}]}});
    namespace.apply_portal("owned", sources).await?;
    namespace.wait_until_ready("owned").await?;
    let shared = namespace.observations_token("owned").await?;
    let own = token_of_source(&namespace, "source-lab-agent").await?;
    ensure!(own.len() == 64 && own != shared, "a token of its own");

    for (source, token, expected) in [
        ("lab-agent", &own, "200"),
        ("lab-agent", &shared, "403 wrong_source"),
        ("other", &own, "403 wrong_source"),
        ("other", &shared, "200"),
    ] {
        let said = observe(&namespace, source, token).await?;
        ensure!(said == expected, "{source}: expected {expected}, found {said}");
    }

    // A token whose key somebody removes is replaced, and the pods follow.
    let removed = json!({"data": {"source-lab-agent": null}});
    let secrets = namespace.api::<Secret>();
    secrets.patch("owned-observations", &PatchParams::default(), &Patch::Merge(removed)).await?;
    let next = eventually("another token", Duration::from_mins(1), async || {
        let next = token_of_source(&namespace, "source-lab-agent").await?;
        ensure!(next != own, "it is the same");
        Ok(next)
    })
    .await?;
    eventually("the pods take the new one", KUBELET, async || {
        let said = observe(&namespace, "lab-agent", &next).await?;
        ensure!(said == "200", "found {said}");
        Ok(())
    })
    .await?;
    let said = observe(&namespace, "lab-agent", &own).await?;
    ensure!(said == "401 unauthorized", "the old one: found {said}");

    // Who is no longer named shares the token of the portal.
    namespace.apply_portal("owned", json!({})).await?;
    eventually("the pods take the shared one", KUBELET, async || {
        let said = observe(&namespace, "lab-agent", &shared).await?;
        ensure!(said == "200", "found {said}");
        Ok(())
    })
    .await?;
    let left = token_of_source(&namespace, "source-lab-agent").await;
    ensure!(left.is_err(), "the key is still there");
    ensure!(
        namespace.hardware_restarts("owned").await?.iter().all(|(_, restarts)| *restarts == 0),
        "a pod was restarted"
    );
    namespace.delete_portal("owned").await
}

async fn token_of_source(namespace: &Namespace, key: &str) -> Result<String> {
    let secret: Secret = namespace.api().get("owned-observations").await?;
    let token = secret.data.and_then(|mut data| data.remove(key));
    Ok(String::from_utf8(token.with_context(|| format!("the Secret has no {key}"))?.0)?)
}

/// Status and code of the answer to a batch.
async fn observe(namespace: &Namespace, source: &str, token: &str) -> Result<String> {
    let url = format!("{}/v1/observations", namespace.url("owned-hardware").await?);
    let body = json!({"source": source, "observations": []});
    let answer = Client::new().post(url).bearer_auth(token).json(&body).send().await?;
    let status = answer.status().as_u16();
    let answer: Value = answer.json().await?;
    Ok(match answer["code"].as_str() {
        Some(code) => format!("{status} {code}"),
        None => status.to_string(),
    })
}

//! Everything that the API server stores in a namespace, as text that can be searched.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{ApiGroup, ApiResource, Discovery, Scope, verbs},
};

/// The kinds whose objects a namespace may hold and that can be listed.
pub struct Kinds {
    client: Client,
    kinds: Vec<ApiResource>,
}

impl Kinds {
    /// Asks the API server for them.
    pub async fn discover(client: Client) -> Result<Self> {
        let found = Discovery::new(client.clone()).run().await?;
        let all = found.groups().flat_map(ApiGroup::recommended_resources);
        let listed = all.filter(|(_, capabilities)| {
            capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST)
        });
        Ok(Self { client, kinds: listed.map(|(kind, _)| kind).collect() })
    }

    /// Each object of a namespace, as "Kind/name", with its text. The data of Secrets are decoded.
    pub async fn read(&self, namespace: &str) -> Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        for kind in &self.kinds {
            let objects: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, kind);
            for object in objects.list(&ListParams::default()).await? {
                let name = format!("{}/{}", kind.kind, object.name_any());
                texts.push((name, serde_json::to_string(&object)?));
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for secret in secrets.list(&ListParams::default()).await? {
            let name = secret.name_any();
            for (key, bytes) in secret.data.unwrap_or_default() {
                let text = String::from_utf8_lossy(&bytes.0).into_owned();
                texts.push((format!("{key} of Secret/{name}"), text));
            }
        }
        Ok(texts)
    }
}

/// The objects whose text contains one of these words.
#[must_use]
pub fn holders<'a>(texts: &'a [(String, String)], words: &[&str]) -> Vec<&'a str> {
    let holds = |text: &str| words.iter().any(|word| text.contains(word));
    texts.iter().filter(|(_, text)| holds(text)).map(|(name, _)| name.as_str()).collect()
}

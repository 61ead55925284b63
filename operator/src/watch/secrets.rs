//! The Secrets that watches name. They are users' own and not watched: each is looked at again after a
//! while, by its metadata first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crds::ALLOW_PORTAL_LABEL;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::ObjectMeta};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::rotation::source::allows;

/// Time after which a Secret is looked at again.
pub const AT_REST: Duration = Duration::from_mins(1);
/// The same for one that does not exist or may not be read, which somebody may be mending.
pub const UNTIL_IT_CAN_BE_READ: Duration = Duration::from_secs(10);
/// Time after which one that no watch names any more is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// Secrets that are read at the same time for one portal.
const AT_ONCE: usize = 8;
/// Most bytes of a value. Addresses and tokens are shorter by far.
const LONGEST_VALUE: usize = 4096;

/// Reads Secrets, and keeps what it read for a while.
pub struct ReceiverSecrets {
    client: Client,
    recent: Mutex<HashMap<Key, Recent>>,
}

/// Namespace, portal and name. What a Secret allows differs from portal to portal.
type Key = (String, String, String);

/// The Secrets that the watches of one portal name, by their names.
pub type Found = BTreeMap<String, SecretLookup>;

/// What was found under the name of a Secret.
#[derive(Clone, Debug)]
pub enum SecretLookup {
    /// No such Secret.
    Absent,
    /// One that lacks the label by which its administrator lets the portal read it.
    NotAllowed,
    /// Its values.
    Values(BTreeMap<String, Value>),
}

/// A value of a Secret.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, without the line ends around it that come from how Secrets are often made.
    Text(SecretString),
    /// Bytes that are no UTF-8.
    NotText,
    /// More bytes than an address or a token has.
    TooLong(usize),
}

struct Recent {
    /// Uid and resourceVersion.
    version: Option<(String, String)>,
    lookup: SecretLookup,
    read_at: Instant,
    asked_at: Instant,
}

impl Recent {
    fn is_due(&self) -> bool {
        self.read_at.elapsed() >= next_look(&self.lookup)
    }
}

/// Time after which a Secret is looked at again.
#[must_use]
pub fn next_look(lookup: &SecretLookup) -> Duration {
    match lookup {
        SecretLookup::Values(_) => AT_REST,
        SecretLookup::Absent | SecretLookup::NotAllowed => UNTIL_IT_CAN_BE_READ,
    }
}

impl ReceiverSecrets {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, recent: Mutex::default() }
    }

    /// Reads the Secrets of these names for one portal. An API server that does not answer is an error:
    /// nothing may be taken from the pods because of it.
    pub async fn read(
        &self,
        namespace: &str,
        portal: &str,
        names: BTreeSet<String>,
    ) -> Result<Found, kube::Error> {
        let lookups = stream::iter(names).map(async |name| {
            let lookup = self.read_one(namespace, portal, &name).await?;
            Ok::<_, kube::Error>((name, lookup))
        });
        lookups.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Forgets Secrets that no watch names any more.
    pub fn forget_unused(&self) {
        self.with(|recent| recent.retain(|_, one| one.asked_at.elapsed() < FORGOTTEN_AFTER));
    }

    async fn read_one(
        &self,
        namespace: &str,
        portal: &str,
        name: &str,
    ) -> Result<SecretLookup, kube::Error> {
        let key = (namespace.to_owned(), portal.to_owned(), name.to_owned());
        let known = self.with(|recent| {
            let one = recent.get_mut(&key)?;
            one.asked_at = Instant::now();
            Some((one.is_due(), one.version.clone(), one.lookup.clone()))
        });
        if let Some((false, _, lookup)) = known {
            return Ok(lookup);
        }
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        // The data of one that does not allow it are not even fetched.
        let metadata = secrets.get_metadata_opt(name).await?;
        let (version, lookup) = match metadata {
            None => (None, SecretLookup::Absent),
            Some(found) if !is_allowed(&found.metadata, portal) => (None, SecretLookup::NotAllowed),
            Some(found) => match known {
                Some((_, version, lookup)) if version == version_of(&found.metadata) => {
                    (version, lookup)
                }
                _ => match secrets.get_opt(name).await? {
                    None => (None, SecretLookup::Absent),
                    // It may have been changed, or made anew, between the two requests.
                    Some(secret) if !is_allowed(&secret.metadata, portal) => {
                        (None, SecretLookup::NotAllowed)
                    }
                    Some(secret) => (version_of(&secret.metadata), values_of(secret)),
                },
            },
        };
        let now = Instant::now();
        let read = Recent { version, lookup: lookup.clone(), read_at: now, asked_at: now };
        self.with(|recent| recent.insert(key, read));
        Ok(lookup)
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Recent>) -> T) -> T {
        act(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_allowed(metadata: &ObjectMeta, portal: &str) -> bool {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(ALLOW_PORTAL_LABEL));
    allows(label.map(String::as_str), portal)
}

/// None if the API server gave none, so that it equals no other.
fn version_of(metadata: &ObjectMeta) -> Option<(String, String)> {
    Some((metadata.uid.clone()?, metadata.resource_version.clone()?))
}

fn values_of(secret: Secret) -> SecretLookup {
    let data = secret.data.unwrap_or_default();
    SecretLookup::Values(data.into_iter().map(|(key, bytes)| (key, value_of(bytes))).collect())
}

fn value_of(ByteString(bytes): ByteString) -> Value {
    if bytes.len() > LONGEST_VALUE {
        return Value::TooLong(bytes.len());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Value::Text(text.trim_end_matches(['\r', '\n']).to_owned().into()),
        Err(_) => Value::NotText,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use secrecy::ExposeSecret;
    use serde_json::{Value as Json, json};
    use tokio::time::advance;

    use super::{AT_REST, ReceiverSecrets, SecretLookup, UNTIL_IT_CAN_BE_READ, Value};
    use crate::cluster::fake_api::{FakeApi, failure};

    const PATH: &str = "/api/v1/namespaces/team/secrets/slack";

    fn secret(allowed: &str, version: &str) -> Json {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "slack", "namespace": "team", "uid": "u", "resourceVersion": version,
                "labels": {"gill-hicks.dev/allow-portal": allowed},
            },
            // "https://a\n", and a byte that begins no character.
            "data": {"url": "aHR0cHM6Ly9hCg==", "bytes": "/w=="},
        })
    }

    async fn look(secrets: &ReceiverSecrets) -> SecretLookup {
        let names = BTreeSet::from(["slack".to_owned()]);
        let mut found = secrets.read("team", "demo", names).await.expect("an answer");
        found.remove("slack").expect("it was asked for")
    }

    #[tokio::test]
    async fn values_are_text_without_line_ends_and_never_shown() {
        let api = FakeApi::default().with(PATH, secret("other.demo", "1"));
        let found = look(&ReceiverSecrets::new(api.client())).await;
        assert!(!format!("{found:?}").contains("https://a"), "{found:?}");
        let SecretLookup::Values(values) = found else { panic!("{found:?}") };
        let Some(Value::Text(url)) = values.get("url") else { panic!("{values:?}") };
        assert_eq!(url.expose_secret(), "https://a");
        assert!(matches!(values.get("bytes"), Some(Value::NotText)), "{values:?}");
    }

    #[tokio::test]
    async fn the_data_of_a_secret_without_the_portals_label_are_not_fetched() {
        let api = FakeApi::default().with(PATH, secret("another", "1"));
        let found = look(&ReceiverSecrets::new(api.client())).await;
        assert!(matches!(found, SecretLookup::NotAllowed), "{found:?}");
        assert_eq!(api.requests(), [format!("metadata {PATH}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_looked_at_again_after_a_minute_and_read_again_only_if_it_changed() {
        let api = FakeApi::default().with(PATH, secret("demo", "1"));
        let secrets = ReceiverSecrets::new(api.client());
        let (metadata, object) = (format!("metadata {PATH}"), format!("object {PATH}"));
        look(&secrets).await;
        look(&secrets).await;
        let first = [metadata.clone(), object.clone()];
        assert_eq!(api.requests(), first, "the second look asks nobody");
        advance(AT_REST).await;
        look(&secrets).await;
        assert_eq!(api.requests()[2..], *std::slice::from_ref(&metadata), "it has not changed");
        let api = api.with(PATH, secret("demo", "2"));
        advance(AT_REST).await;
        look(&secrets).await;
        assert_eq!(api.requests()[3..], [metadata, object]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_created_later_is_found_soon() {
        let api = FakeApi::default();
        let secrets = ReceiverSecrets::new(api.client());
        assert!(matches!(look(&secrets).await, SecretLookup::Absent));
        let api = api.with(PATH, secret("demo", "1"));
        assert!(matches!(look(&secrets).await, SecretLookup::Absent), "it was looked for just now");
        advance(UNTIL_IT_CAN_BE_READ).await;
        assert!(matches!(look(&secrets).await, SecretLookup::Values(_)));
        assert_eq!(api.requests().len(), 3);
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_is_not_a_missing_secret() {
        let api = FakeApi::default().with(PATH, failure(503, "ServiceUnavailable", "overloaded"));
        let names = BTreeSet::from(["slack".to_owned()]);
        let read = ReceiverSecrets::new(api.client());
        read.read("team", "demo", names).await.expect_err("nothing is known");
    }
}

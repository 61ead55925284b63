//! The Secrets of a portal. Secret values enter an object only here.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use secrecy::{ExposeSecret, SecretString};
use service_kit::credentials::CredentialSet;

use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::resolve::ResolvedPortal,
    rotation::Credentials,
};

/// The tokens of sources, the watches with the addresses that they send to, and the credentials files of a
/// MySQL database: one for the pods, and one for the migration while that runs.
#[must_use]
pub fn secrets(portal: &ResolvedPortal, credentials: Option<&Credentials>) -> Vec<Secret> {
    let mut secrets = vec![observations(portal), watches(portal)];
    if let Some(credentials) = credentials {
        let for_pods = credentials.for_pods.to_json();
        let for_migration = credentials.for_migration.as_ref().map(CredentialSet::to_json);
        let mut values = vec![(names::CREDENTIALS_KEY, &for_pods)];
        values.extend(for_migration.as_ref().map(|set| (names::MIGRATION_CREDENTIALS_KEY, set)));
        let name = names::database_secret(&portal.name);
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value.clone()));
        secrets.push(secret(portal, name, values.collect()));
    }
    secrets
}

/// The token that sources share, the tokens of those that have one of their own, and those once more in the
/// form in which the pods read them.
fn observations(portal: &ResolvedPortal) -> Secret {
    let by_name: BTreeMap<&str, &str> = portal
        .source_tokens
        .iter()
        .map(|(source, token)| (source.as_str(), token.expose_secret()))
        .collect();
    let file = serde_json::to_string(&by_name).expect("texts are JSON");
    let mut values = BTreeMap::from([
        (names::TOKEN_KEY.to_owned(), portal.observations_token.clone()),
        (names::SOURCE_TOKENS_KEY.to_owned(), SecretString::from(file)),
    ]);
    let own = portal.source_tokens.iter();
    values.extend(own.map(|(source, token)| (names::source_token_key(source), token.clone())));
    secret(portal, names::observations_secret(&portal.name), values)
}

/// What the API watches for. It is there without watches too, so that the first one restarts no pod.
fn watches(portal: &ResolvedPortal) -> Secret {
    let document = portal.watches.document.clone();
    let values = BTreeMap::from([(names::WATCHES_KEY.to_owned(), document)]);
    secret(portal, names::watches_secret(&portal.name), values)
}

fn secret(portal: &ResolvedPortal, name: String, values: BTreeMap<String, SecretString>) -> Secret {
    let data = values
        .into_iter()
        .map(|(key, value)| (key, ByteString(value.expose_secret().as_bytes().to_vec())));
    Secret {
        metadata: labels::owned(portal, Component::Hardware, name),
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

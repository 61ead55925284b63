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

/// The observations token, and the credentials files of a MySQL database: one for the pods, and one
/// for the migration while that runs.
#[must_use]
pub fn secrets(portal: &ResolvedPortal, credentials: Option<&Credentials>) -> Vec<Secret> {
    let secret = |name: String, values: &[(&str, &SecretString)]| Secret {
        metadata: labels::owned(portal, Component::Hardware, name),
        data: Some(
            values
                .iter()
                .map(|(key, value)| {
                    let bytes = value.expose_secret().as_bytes().to_vec();
                    ((*key).to_owned(), ByteString(bytes))
                })
                .collect::<BTreeMap<_, _>>(),
        ),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let mut secrets = vec![secret(
        names::observations_secret(&portal.name),
        &[(names::TOKEN_KEY, &portal.observations_token)],
    )];
    if let Some(credentials) = credentials {
        let for_pods = credentials.for_pods.to_json();
        let for_migration = credentials.for_migration.as_ref().map(CredentialSet::to_json);
        let mut values = vec![(names::CREDENTIALS_KEY, &for_pods)];
        values.extend(for_migration.as_ref().map(|set| (names::MIGRATION_CREDENTIALS_KEY, set)));
        secrets.push(secret(names::database_secret(&portal.name), &values));
    }
    secrets
}

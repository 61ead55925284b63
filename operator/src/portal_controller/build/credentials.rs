//! The Secrets of a portal: the one place where secret values enter an object.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use secrecy::{ExposeSecret, SecretString};

use super::{
    labels::{self, Component},
    names,
};
use crate::portal_controller::validate::{ValidatedDatabase, ValidatedPortal};

/// The observations token, and the credentials file of a MySQL database.
#[must_use]
pub fn secrets(portal: &ValidatedPortal) -> Vec<Secret> {
    let secret = |name: String, key: &str, value: &SecretString| Secret {
        metadata: labels::owned(portal, Component::Hardware, name),
        data: Some(BTreeMap::from([(
            key.to_owned(),
            ByteString(value.expose_secret().as_bytes().to_vec()),
        )])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let mut secrets = vec![secret(
        names::observations_secret(&portal.name),
        names::TOKEN_KEY,
        &portal.observations_token,
    )];
    if let ValidatedDatabase::Mysql { credentials, .. } = &portal.database {
        let name = names::database_secret(&portal.name);
        secrets.push(secret(name, names::CREDENTIALS_KEY, &credentials.to_json()));
    }
    secrets
}

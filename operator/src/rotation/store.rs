//! The operator's own Secret, in which the state of a portal's rotation is kept. It holds passwords,
//! so nobody but the operator reads it, and no pod mounts it.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::machine::State;
use crate::cluster::{api_error, secrets::OwnSecrets};

/// Key of the state in its Secret.
pub const KEY: &str = "state.json";

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody changed it since it was read: another operator, whose work must not be undone.
    #[error(
        "the Secret {0} was changed by somebody else meanwhile; the rotation goes on from there"
    )]
    Conflict(String),
    /// Its content is none of ours.
    #[error(
        "the Secret {0} holds no state of a rotation; restore it, or delete it to start from what the pods hold"
    )]
    Unreadable(String),
    /// The API server did not do what it was asked for.
    #[error("failed to {verb} the Secret {name}: {}", api_error::in_words(source))]
    Api {
        /// What was to be done.
        verb: &'static str,
        /// Name of the Secret.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
}

/// The state of one portal's rotation, and the version of the Secret that it was read from.
#[derive(Clone, Debug)]
pub struct StoredState {
    name: String,
    version: Option<String>,
    /// The state; none if there is no Secret yet.
    pub state: Option<State>,
}

impl StoredState {
    /// What is remembered of a portal that had no credential yet.
    #[must_use]
    pub fn empty(name: String) -> Self {
        Self { name, version: None, state: None }
    }

    /// Reads the Secret of this name.
    pub async fn read(secrets: &OwnSecrets<'_>, name: String) -> Result<Self, StoreError> {
        let secret = secrets.get(&name).await.map_err(failed("read", &name))?;
        let Some(secret) = secret else { return Ok(Self::empty(name)) };
        let version = secret.resource_version();
        let bytes = secret.data.unwrap_or_default().remove(KEY);
        let state = bytes.and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
        let Some(state) = state else { return Err(StoreError::Unreadable(name)) };
        Ok(Self { name, version, state: Some(state) })
    }

    /// Writes a state, unless the Secret was changed since it was read.
    pub async fn write(
        &mut self,
        secrets: &OwnSecrets<'_>,
        metadata: ObjectMeta,
        state: &State,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_vec(state).expect("plain data");
        let secret = match &self.version {
            None => {
                let secret = Secret {
                    metadata,
                    data: Some([(KEY.to_owned(), ByteString(text))].into()),
                    type_: Some("Opaque".to_owned()),
                    ..Secret::default()
                };
                secrets.api.create(&PostParams::default(), &secret).await
            }
            Some(version) => {
                // A merge patch with a version is refused if that is not the latest.
                let patch = json!({
                    "metadata": {"resourceVersion": version},
                    "data": {KEY: ByteString(text)},
                });
                let parameters = PatchParams::default();
                secrets.api.patch(&self.name, &parameters, &Patch::Merge(&patch)).await
            }
        };
        match secret {
            Ok(secret) => {
                secrets.remember(&secret);
                self.version = secret.resource_version();
                self.state = Some(state.clone());
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(StoreError::Conflict(self.name.clone()))
            }
            Err(error) => Err(failed("write", &self.name)(error)),
        }
    }
}

fn failed<'a>(verb: &'static str, name: &'a str) -> impl Fn(kube::Error) -> StoreError + 'a {
    move |source| StoreError::Api { verb, name: name.to_owned(), source: Box::new(source) }
}

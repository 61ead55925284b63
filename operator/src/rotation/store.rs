//! The states of rotations, in Secrets of the operator's own namespace, where it alone may read. They hold
//! the root credential and staged passwords, so they are never in the namespace of a portal: whoever may
//! read Secrets there would have the master account.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crds::{DeletionPolicy, Reason};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    machine::{Place, State},
    mysql::{AccountName, Authorities, NameError, SchemaName, Server, Slot, Tls},
    request::{PortalKey, Request},
};
use crate::cluster::{api_error, names, retry::Retry, secrets::OwnSecrets};

/// Key of the record in its Secret.
const KEY: &str = "record.json";
/// Key of the state in the Secret `NAME-rotation` of earlier versions.
const EARLIER_KEY: &str = "state.json";
/// Label of the Secrets, with the uid of the portal.
const UID_LABEL: &str = "gill-hicks.dev/rotation-of";

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
    /// It names an account of another portal.
    #[error(
        "the state in the Secret {secret} is refused: it names the account {account}, which is not this portal's; delete the Secret to start from what the pods hold"
    )]
    Foreign {
        /// Name of the Secret.
        secret: String,
        /// The account.
        account: String,
    },
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

/// How the accounts' server is reached when nothing but the record is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Encryption {
    Disabled,
    /// With the authorities that the operator ships.
    Shipped,
    /// With these, in PEM form.
    Own(String),
}

/// Everything that is kept of one portal's accounts. It suffices to lock or drop them when the portal, its
/// source and its namespace are gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The portal.
    pub portal: PortalKey,
    /// What becomes of the accounts when it is deleted.
    pub deletion_policy: DeletionPolicy,
    encryption: Encryption,
    /// The state of the rotation.
    pub state: State,
}

impl StoreError {
    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Foreign { .. } | Self::Unreadable(_) => Reason::StateRefused,
            Self::Conflict(_) | Self::Api { .. } => Reason::ApiError,
        }
    }

    /// When to try again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Api { source, .. } => Retry::of_api(source),
            // Nobody watches these Secrets.
            Self::Foreign { .. } | Self::Unreadable(_) => Retry::Poll,
            Self::Conflict(_) => Retry::Backoff,
        }
    }
}

impl Record {
    /// The record of a portal.
    #[must_use]
    pub fn new(request: &Request, state: State) -> Self {
        let encryption = match (&request.server.tls, &request.own_authorities) {
            (Tls::Disabled, _) => Encryption::Disabled,
            (Tls::Required(_), None) => Encryption::Shipped,
            (Tls::Required(_), Some(pem)) => Encryption::Own(pem.clone()),
        };
        let deletion_policy = request.deletion_policy;
        Self { portal: request.portal.clone(), deletion_policy, encryption, state }
    }

    /// The record of a portal whose state an earlier version kept. How its server is reached is stored with
    /// the next state.
    #[must_use]
    pub fn moved(portal: PortalKey, state: State) -> Self {
        // Earlier versions stored none of these, so that they can only be forged.
        let state =
            State { left: Vec::new(), former_root: None, root_place: state.place.clone(), ..state };
        let deletion_policy = DeletionPolicy::default();
        Self { portal, deletion_policy, encryption: Encryption::Shipped, state }
    }

    /// The server at one of the portal's places.
    pub fn server(&self, place: &Place, shipped_authorities: &[u8]) -> Result<Server, NameError> {
        let tls = match &self.encryption {
            Encryption::Disabled => Tls::Disabled,
            Encryption::Shipped => Tls::Required(Authorities::from_pem(shipped_authorities)),
            Encryption::Own(pem) => Tls::Required(Authorities::from_pem(pem.as_bytes())),
        };
        let schema = SchemaName::new(&place.database)?;
        Ok(Server { host: place.host.clone(), port: place.port, schema, tls })
    }

    /// An account in the record that another portal has, if there is one.
    fn foreign_account(&self) -> Option<String> {
        let own = AccountName::for_portal(&self.portal.uid, Slot::A).ok()?;
        self.state.foreign_account(&own)
    }
}

/// The records of all portals. The leader alone writes them, so that it reads each of them once.
#[derive(Clone)]
pub struct Store {
    secrets: Api<Secret>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Clone)]
struct Known {
    resource_version: String,
    record: Record,
}

impl Store {
    /// The store in the operator's own namespace.
    #[must_use]
    pub fn new(client: Client, own_namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, own_namespace), known: Arc::default() }
    }

    /// Reads every record, so that those of deleted portals are found.
    pub async fn list(&self) -> Result<(), StoreError> {
        let selector = ListParams::default().labels(UID_LABEL);
        let found = self.secrets.list(&selector).await.map_err(failed("list", UID_LABEL))?;
        for secret in found {
            let name = secret.name_any();
            if let Err(error) = self.take(&name, secret) {
                tracing::warn!(%error, "a stored state cannot be used");
            }
        }
        Ok(())
    }

    /// The portals of which a record is known.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.with(|known| known.values().map(|known| known.record.clone()).collect())
    }

    /// The record of a portal as the API server has it now, which another process may have deleted.
    pub async fn read_again(&self, uid: &str) -> Result<Option<Record>, StoreError> {
        self.forget(uid);
        self.read(uid).await
    }

    /// The record of a portal; none if there is none yet.
    pub async fn read(&self, uid: &str) -> Result<Option<Record>, StoreError> {
        if let Some(known) = self.with(|known| known.get(uid).map(|known| known.record.clone())) {
            return Ok(Some(known));
        }
        let name = name_of(uid);
        let secret = self.secrets.get_opt(&name).await.map_err(failed("read", &name))?;
        secret.map(|secret| self.take(&name, secret)).transpose()
    }

    /// Writes a record, unless its Secret was changed since it was read.
    pub async fn write(&self, record: Record) -> Result<(), StoreError> {
        let uid = record.portal.uid.clone();
        let name = name_of(&uid);
        let version = self.with(|known| known.get(&uid).map(|it| it.resource_version.clone()));
        let text = ByteString(serde_json::to_vec(&record).expect("plain data"));
        let written = match version {
            None => self.secrets.create(&PostParams::default(), &secret(&record, text)).await,
            Some(version) => {
                // A merge patch with a resourceVersion is refused if that is not the latest.
                let patch = json!({
                    "metadata": {"resourceVersion": version}, "data": {KEY: text},
                });
                let parameters = PatchParams::default();
                self.secrets.patch(&name, &parameters, &Patch::Merge(&patch)).await
            }
        };
        match written {
            Ok(secret) => {
                let resource_version = secret.resource_version().unwrap_or_default();
                self.with(|known| known.insert(uid, Known { resource_version, record }));
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                self.forget(&uid);
                Err(StoreError::Conflict(name))
            }
            Err(error) => Err(failed("write", &name)(error)),
        }
    }

    /// Keeps what the spec says of a portal's deletion and encryption, where that changed without a rotation.
    pub async fn keep_request(&self, request: &Request) -> Result<(), StoreError> {
        let uid = &request.portal.uid;
        let Some(known) = self.with(|known| known.get(uid).map(|known| known.record.clone()))
        else {
            return Ok(());
        };
        let current = Record::new(request, known.state.clone());
        let is_same = current.deletion_policy == known.deletion_policy
            && current.encryption == known.encryption
            && current.portal == known.portal;
        if is_same { Ok(()) } else { self.write(current).await }
    }

    /// Removes a record, if it is there.
    pub async fn delete(&self, uid: &str) -> Result<(), StoreError> {
        let name = name_of(uid);
        match self.secrets.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(failed("delete", &name)(error)),
        }
        self.forget(uid);
        Ok(())
    }

    fn take(&self, name: &str, secret: Secret) -> Result<Record, StoreError> {
        let resource_version = secret.resource_version().unwrap_or_default();
        let bytes = secret.data.unwrap_or_default().remove(KEY);
        let record: Option<Record> = bytes.and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
        let record = record.ok_or_else(|| StoreError::Unreadable(name.to_owned()))?;
        if name_of(&record.portal.uid) != name {
            return Err(StoreError::Unreadable(name.to_owned()));
        }
        if let Some(account) = record.foreign_account() {
            return Err(StoreError::Foreign { secret: name.to_owned(), account });
        }
        let known = Known { resource_version, record: record.clone() };
        // What was written meanwhile is newer than a list.
        self.with(|all| {
            all.entry(record.portal.uid.clone()).or_insert(known);
        });
        Ok(record)
    }

    fn forget(&self, uid: &str) {
        self.with(|known| known.remove(uid));
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Moves the state that an earlier version kept in the Secret `NAME-rotation` of the portal's namespace,
/// and deletes that Secret, which holds the root credential, whatever becomes of the state. Whoever may
/// write Secrets in that namespace may have forged it, so that it is taken over only if no state is stored
/// yet and every account in it is this portal's own. Gives the reason for which it was refused.
pub async fn move_earlier(
    store: &Store,
    secrets: &OwnSecrets<'_>,
    portal: PortalKey,
) -> Result<Option<String>, StoreError> {
    let name = names::rotation_secret(&portal.name);
    if !secrets.is_seen(&name) {
        return Ok(None);
    }
    let secret = secrets.get(&name).await.map_err(failed("read", &name))?;
    let Some(bytes) = secret.and_then(|secret| secret.data.unwrap_or_default().remove(EARLIER_KEY))
    else {
        return Ok(None);
    };
    let is_stored = store.read(&portal.uid).await?.is_some();
    let refused = match serde_json::from_slice::<State>(&bytes.0) {
        Ok(state) => {
            let record = Record::moved(portal, state);
            let foreign = record.foreign_account();
            if foreign.is_none() && !is_stored {
                store.write(record).await?;
            }
            foreign.map(|account| {
                format!("it names the account {account}, which is not this portal's")
            })
        }
        Err(_) => Some("it is none".to_owned()),
    };
    match secrets.api.delete(&name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(failed("delete", &name)(error)),
    }
    Ok(refused.map(|why| {
        format!("the state in the Secret {name} is refused: {why}; the Secret is deleted")
    }))
}

/// Name of a portal's Secret.
#[must_use]
pub fn name_of(uid: &str) -> String {
    format!("rotation-{uid}")
}

fn secret(record: &Record, text: ByteString) -> Secret {
    let PortalKey { namespace, name, uid } = &record.portal;
    Secret {
        metadata: ObjectMeta {
            name: Some(name_of(uid)),
            labels: Some([(UID_LABEL.to_owned(), uid.clone())].into()),
            annotations: Some(
                [("gill-hicks.dev/portal".to_owned(), format!("{namespace}/{name}"))].into(),
            ),
            ..ObjectMeta::default()
        },
        data: Some([(KEY.to_owned(), text)].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn failed<'a>(verb: &'static str, name: &'a str) -> impl Fn(kube::Error) -> StoreError + 'a {
    move |source| StoreError::Api { verb, name: name.to_owned(), source: Box::new(source) }
}

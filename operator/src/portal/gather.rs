//! The one step that reads: what the spec refers to, and what is already there.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    ACCEPT_LINEAGE_ANNOTATION, ALLOW_PORTAL_LABEL, CaReference, CollectedSource, HardwarePortal,
    MysqlDatabase, ROTATE_AT_ANNOTATION,
};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, ResourceExt};
use secrecy::SecretString;
use service_kit::credentials::CredentialSet;

use super::live::Live;
use crate::{
    cluster::{api_error, names, secrets::OwnSecrets},
    rotation::{
        machine::State,
        source::{self, Reading, Request as SourceRequest, SourceError, Sources},
        store::{Store, StoreError},
    },
    watch::{
        context::WatchContext,
        render::{GatheredWatches, secret_names},
    },
};

/// What was read.
#[derive(Debug)]
pub struct Gathered {
    /// What a portal on MySQL refers to; none for an embedded database.
    pub mysql: Option<GatheredMysql>,
    /// The token that observations are posted with: the existing one, or a new one.
    pub observations_token: SecretString,
    /// The tokens of sources that are to have one of their own, by their names: existing or new ones.
    pub source_tokens: BTreeMap<String, SecretString>,
    /// The watches that refer to it, and the Secrets that they name.
    pub watches: GatheredWatches,
    /// The children as they are.
    pub live: Live,
}

/// What was read for a portal on MySQL.
#[derive(Debug)]
pub struct GatheredMysql {
    /// What the source says, or why it says nothing. That alone stops nobody: the pods keep what
    /// they hold.
    pub source: Result<Reading, SourceError>,
    /// The stored state of the credential's rotation.
    pub state: Option<State>,
    /// What the pods' credentials file holds now.
    pub published: Option<CredentialSet>,
    /// The certificate authorities that the spec names, as PEM; none means those of Amazon RDS.
    pub authorities: Option<Vec<u8>>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The certificate authority does not exist.
    #[error(
        "failed to find key \"{key}\" of the {kind} \"{name}\" that database.mysql.tls.ca names; create it in this namespace"
    )]
    CaNotFound {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Key in its data.
        key: String,
    },
    /// The administrator of a Secret with a certificate authority has not allowed this portal to read it.
    #[error(
        "the Secret \"{secret}\" that database.mysql.tls.ca names is not read: it lacks {}", source::missing_label(.portal)
    )]
    CaNotAllowed {
        /// Name of the Secret.
        secret: String,
        /// Name of the portal.
        portal: String,
    },
    /// The stored state of the rotation could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request to the API server failed.
    #[error("failed to read {what}: {}", api_error::in_words(source))]
    Api {
        /// What was to be read.
        what: &'static str,
        /// The error of the request.
        source: Box<kube::Error>,
    },
}

/// Reads everything that the decisions for one portal need. Watches are not read without their context: a
/// portal that is being deleted watches for nothing.
pub async fn gather(
    portal: &HardwarePortal,
    namespace: &str,
    client: &Client,
    sources: &Sources,
    store: &Store,
    watches: Option<&WatchContext>,
    own: &OwnSecrets<'_>,
) -> Result<Gathered, GatherError> {
    let name = portal.name_any();
    let reader = Reader {
        portal: &name,
        store,
        own,
        secrets: Api::namespaced(client.clone(), namespace),
        config_maps: Api::namespaced(client.clone(), namespace),
    };
    let mysql = match portal.spec.database.as_ref().and_then(|database| database.mysql.as_ref()) {
        Some(mysql) => Some(reader.read_mysql(portal, namespace, mysql, sources).await?),
        None => None,
    };
    let watches = match watches {
        Some(context) => read_watches(context, own).await?,
        None => GatheredWatches::default(),
    };
    let tokens = reader.read_tokens().await?;
    let source_tokens = sources_with_a_token(portal).into_iter().map(|source| {
        let token = token_in(&tokens, &names::source_token_key(source));
        (source.to_owned(), token)
    });
    Ok(Gathered {
        mysql,
        source_tokens: source_tokens.collect(),
        observations_token: token_in(&tokens, names::TOKEN_KEY),
        watches,
        live: Live::read(own.cache, namespace, &name),
    })
}

async fn read_watches(
    context: &WatchContext,
    own: &OwnSecrets<'_>,
) -> Result<GatheredWatches, GatherError> {
    let OwnSecrets { namespace, portal, .. } = *own;
    // So that a new leader knows what was rendered, and does not write it again.
    let rendered = names::watches_secret(portal);
    if own.is_seen(&rendered) {
        own.get(&rendered).await.map_err(reading("the Secret with the portal's watches"))?;
    }
    let watches = context.index.of_portal(namespace, portal);
    let secrets = context.secrets.read(namespace, portal, secret_names(&watches)).await;
    let secrets = secrets.map_err(reading("a Secret that a HardwareWatch names"))?;
    Ok(GatheredWatches { watches, secrets })
}

struct Reader<'a> {
    portal: &'a str,
    store: &'a Store,
    /// What the operator has written itself.
    own: &'a OwnSecrets<'a>,
    /// What others have.
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
}

impl Reader<'_> {
    async fn read_mysql(
        &self,
        portal: &HardwarePortal,
        namespace: &str,
        mysql: &MysqlDatabase,
        sources: &Sources,
    ) -> Result<GatheredMysql, GatherError> {
        let uid = portal.uid().unwrap_or_default();
        let state = self.store.read(&uid).await?.map(|record| record.state);
        let request = SourceRequest {
            namespace,
            portal: self.portal,
            known_state: state.as_ref().and_then(|state| state.terraform.as_ref()),
            accepted_lineage: portal
                .annotations()
                .get(ACCEPT_LINEAGE_ANNOTATION)
                .map(String::as_str),
        };
        if is_rotation_asked_for(portal, state.as_ref(), Timestamp::now()) {
            sources.forget(&uid);
        }
        // The validation of the spec bounds the text; where it does not, every pass reads the source.
        let rotation = mysql.rotation.clone().unwrap_or_default();
        let poll = humantime::parse_duration(&rotation.poll_interval).unwrap_or_default();
        // The futures of the AWS SDK are large.
        let source = Box::pin(sources.read_recent(&mysql.source, &request, &uid, poll)).await;
        let authorities = match mysql.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            Some(reference) => Some(self.read_authorities(reference).await?),
            None => None,
        };
        Ok(GatheredMysql { source, state, published: self.read_published().await?, authorities })
    }

    /// A pod that mounts what does not exist waits for ever without a word. The operator verifies the
    /// same server, so it reads what the pods mount.
    async fn read_authorities(&self, ca: &CaReference) -> Result<Vec<u8>, GatherError> {
        let what = reading("a certificate authority");
        let not_found = |kind, name: &str, key: &str| GatherError::CaNotFound {
            kind,
            name: name.to_owned(),
            key: key.to_owned(),
        };
        if let Some(reference) = &ca.config_map_key_ref {
            let found = self.config_maps.get_opt(&reference.name).await.map_err(what)?;
            let text =
                found.and_then(|map| map.data).and_then(|mut data| data.remove(&reference.key));
            let text = text.ok_or_else(|| not_found("ConfigMap", &reference.name, &reference.key));
            return text.map(String::into_bytes);
        }
        let Some(reference) = &ca.secret_key_ref else { return Ok(Vec::new()) };
        let missing = || not_found("Secret", &reference.name, &reference.key);
        let metadata = self.secrets.get_metadata_opt(&reference.name).await.map_err(&what)?;
        let metadata = metadata.ok_or_else(missing)?;
        let label = metadata.labels().get(ALLOW_PORTAL_LABEL).map(String::as_str);
        if !source::allows(label, self.portal) {
            return Err(GatherError::CaNotAllowed {
                secret: reference.name.clone(),
                portal: self.portal.to_owned(),
            });
        }
        let found = self.secrets.get_opt(&reference.name).await.map_err(what)?;
        let bytes =
            found.and_then(|secret| secret.data).and_then(|mut data| data.remove(&reference.key));
        Ok(bytes.ok_or_else(missing)?.0)
    }

    /// A file that cannot be parsed counts as absent, and is written anew.
    async fn read_published(&self) -> Result<Option<CredentialSet>, GatherError> {
        let name = names::database_secret(self.portal);
        let secret = self.own.get(&name).await.map_err(reading("the pods' credentials"))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let file = data.get(names::CREDENTIALS_KEY);
        Ok(file.and_then(|bytes| CredentialSet::from_json(&bytes.0).ok()))
    }

    async fn read_tokens(&self) -> Result<BTreeMap<String, ByteString>, GatherError> {
        let name = names::observations_secret(self.portal);
        let secret = self.own.get(&name).await.map_err(reading("the observations token"))?;
        Ok(secret.and_then(|secret| secret.data).unwrap_or_default())
    }
}

/// The sources that have a token of their own, each once: those that others run and that are named, and
/// those that the operator runs.
pub(super) fn sources_with_a_token(portal: &HardwarePortal) -> BTreeSet<&str> {
    let spec = &portal.spec;
    let of_others = spec.observations.iter().flat_map(|it| it.sources.iter().flatten());
    let own = spec.sources.iter().flatten().filter_map(CollectedSource::resolved_name);
    of_others.map(|source| source.name.as_str()).chain(own).collect()
}

/// The token that a Secret has under a key, or a new one.
fn token_in(secret: &BTreeMap<String, ByteString>, key: &str) -> SecretString {
    let token = secret.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    token.filter(|token| !token.is_empty()).map_or_else(new_token, SecretString::from)
}

/// 256 bits from the operating system, as 64 hexadecimal digits.
fn new_token() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// Whether a rotation is asked for that has not been met yet. It has to see what the source says now.
fn is_rotation_asked_for(portal: &HardwarePortal, state: Option<&State>, now: Timestamp) -> bool {
    let text = portal.annotations().get(ROTATE_AT_ANNOTATION);
    let Some(at) = text.and_then(|text| text.parse::<Timestamp>().ok()) else { return false };
    let last = state.and_then(|state| state.requested);
    let is_idle = state.is_none_or(|state| state.change.is_none());
    at <= now && is_idle && last.is_none_or(|last| last < at)
}

fn reading(what: &'static str) -> impl Fn(kube::Error) -> GatherError {
    move |source| GatherError::Api { what, source: Box::new(source) }
}

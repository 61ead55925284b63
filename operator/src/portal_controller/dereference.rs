//! The one step that reads: what the spec refers to, and what is already there.

use std::collections::BTreeMap;

use crds::{ALLOW_PORTAL_LABEL, HardwarePortal, KeyReference, SecretSource};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, ResourceExt};
use secrecy::SecretString;
use service_kit::credentials::CredentialSet;

use super::{
    build::names,
    live::{Cache, Live},
};

/// What was read.
#[derive(Debug)]
pub struct Dereferenced {
    /// The account that the source holds; none without a source.
    pub source: Option<SourceCredential>,
    /// What the pods' credentials file holds now.
    pub published: Option<CredentialSet>,
    /// The token that observations are posted with: the existing one, or a new one.
    pub observations_token: SecretString,
    /// The children as they are.
    pub live: Live,
}

/// The account that a source holds, as it is written there.
#[derive(Debug)]
pub struct SourceCredential {
    /// Version of the source, as the source counts.
    pub version: String,
    /// Host, perhaps as `host:port`.
    pub host: Option<String>,
    /// Port.
    pub port: Option<String>,
    /// Name of the account.
    pub username: String,
    /// Its password.
    pub password: SecretString,
    /// Name of the schema.
    pub database: Option<String>,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The source does not exist.
    #[error(
        "failed to find the Secret \"{0}\" that database.mysql.source.secret names; create it in this namespace"
    )]
    SourceNotFound(String),
    /// The source's owner has not allowed this portal to read it.
    #[error(
        "the Secret \"{secret}\" is not read: it lacks the label {ALLOW_PORTAL_LABEL}={portal} by which its owner would allow that"
    )]
    SourceNotAllowed {
        /// Name of the Secret.
        secret: String,
        /// Name of the portal.
        portal: String,
    },
    /// The source lacks something.
    #[error("failed to use the Secret \"{secret}\": key \"{key}\" {problem}")]
    SourceInvalid {
        /// Name of the Secret.
        secret: String,
        /// Name of the key.
        key: String,
        /// What is wrong with its value.
        problem: &'static str,
    },
    /// The certificate authority does not exist.
    #[error(
        "failed to find the {kind} \"{name}\" that database.mysql.tls.ca names; create it in this namespace"
    )]
    CaNotFound {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The API server did not give an answer to build on.
    #[error("failed to read {what}: {source}")]
    Api {
        /// What was to be read.
        what: &'static str,
        /// What the API server said.
        source: Box<kube::Error>,
    },
}

/// Reads everything that the decisions for one portal need.
pub async fn dereference(
    portal: &HardwarePortal,
    namespace: &str,
    client: &Client,
    cache: &Cache,
) -> Result<Dereferenced, DereferenceError> {
    let reader = Reader {
        portal: portal.name_any(),
        secrets: Api::namespaced(client.clone(), namespace),
        config_maps: Api::namespaced(client.clone(), namespace),
    };
    let mysql = portal.spec.database.as_ref().and_then(|database| database.mysql.as_ref());
    let mut source = None;
    if let Some(mysql) = mysql {
        if let Some(secret) = &mysql.source.secret {
            source = Some(reader.read_source(secret).await?);
        }
        if let Some(ca) = mysql.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            reader.expect_ca(ca.config_map_key_ref.as_ref(), ca.secret_key_ref.as_ref()).await?;
        }
    }
    let published = if mysql.is_some() { reader.read_published().await? } else { None };
    Ok(Dereferenced {
        source,
        published,
        observations_token: reader.read_observations_token().await?,
        live: cache.live(namespace, &reader.portal),
    })
}

struct Reader {
    portal: String,
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
}

impl Reader {
    /// Asks for the labels first, so that the data of a Secret that does not allow it is not even
    /// fetched.
    async fn read_source(
        &self,
        source: &SecretSource,
    ) -> Result<SourceCredential, DereferenceError> {
        let not_found = || DereferenceError::SourceNotFound(source.name.clone());
        let metadata = self
            .secrets
            .get_metadata_opt(&source.name)
            .await
            .map_err(reading("a source Secret"))?;
        let metadata = metadata.ok_or_else(not_found)?;
        if metadata.labels().get(ALLOW_PORTAL_LABEL) != Some(&self.portal) {
            return Err(DereferenceError::SourceNotAllowed {
                secret: source.name.clone(),
                portal: self.portal.clone(),
            });
        }
        let secret =
            self.secrets.get_opt(&source.name).await.map_err(reading("a source Secret"))?;
        let secret = secret.ok_or_else(not_found)?;
        let version = secret.resource_version().unwrap_or_default();
        let keys = source.keys.clone().unwrap_or_default();
        let values = Values { secret: &source.name, data: secret.data.unwrap_or_default() };
        Ok(SourceCredential {
            version,
            host: values.optional(&keys.host)?,
            port: values.optional(&keys.port)?,
            username: values.required(&keys.username)?,
            password: values.required(&keys.password)?.into(),
            database: values.optional(&keys.database)?,
        })
    }

    /// A pod that mounts what does not exist waits for ever without a word.
    async fn expect_ca(
        &self,
        config_map: Option<&KeyReference>,
        secret: Option<&KeyReference>,
    ) -> Result<(), DereferenceError> {
        let what = reading("a certificate authority");
        let (found, kind, name) = match (config_map, secret) {
            (Some(key), _) => {
                let found = self.config_maps.get_metadata_opt(&key.name).await.map_err(what)?;
                (found.is_some(), "ConfigMap", &key.name)
            }
            (None, Some(key)) => {
                let found = self.secrets.get_metadata_opt(&key.name).await.map_err(what)?;
                (found.is_some(), "Secret", &key.name)
            }
            (None, None) => return Ok(()),
        };
        if found { Ok(()) } else { Err(DereferenceError::CaNotFound { kind, name: name.clone() }) }
    }

    /// A file that somebody has broken counts as absent: the next generation replaces it.
    async fn read_published(&self) -> Result<Option<CredentialSet>, DereferenceError> {
        let name = names::database_secret(&self.portal);
        let secret = self.secrets.get_opt(&name).await.map_err(reading("the pods' credentials"))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let file = data.get(names::CREDENTIALS_KEY);
        Ok(file.and_then(|bytes| CredentialSet::from_json(&bytes.0).ok()))
    }

    async fn read_observations_token(&self) -> Result<SecretString, DereferenceError> {
        let name = names::observations_secret(&self.portal);
        let secret =
            self.secrets.get_opt(&name).await.map_err(reading("the observations token"))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let token =
            data.get(names::TOKEN_KEY).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
        Ok(token.filter(|token| !token.is_empty()).map_or_else(new_token, SecretString::from))
    }
}

/// 256 bits from the operating system, as 64 hexadecimal digits.
fn new_token() -> SecretString {
    use std::fmt::Write;
    let bytes: [u8; 32] = rand::random();
    let mut text = String::with_capacity(64);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every text");
    }
    text.into()
}

/// The values of a source Secret.
struct Values<'a> {
    secret: &'a str,
    data: BTreeMap<String, ByteString>,
}

impl Values<'_> {
    fn required(&self, key: &str) -> Result<String, DereferenceError> {
        self.optional(key)?.ok_or_else(|| self.invalid(key, "is missing or empty"))
    }

    /// Line ends around a value come from how Secrets are often made: `echo … | base64`.
    fn optional(&self, key: &str) -> Result<Option<String>, DereferenceError> {
        let Some(bytes) = self.data.get(key) else { return Ok(None) };
        let text =
            std::str::from_utf8(&bytes.0).map_err(|_| self.invalid(key, "is not UTF-8 text"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn invalid(&self, key: &str, problem: &'static str) -> DereferenceError {
        DereferenceError::SourceInvalid {
            secret: self.secret.to_owned(),
            key: key.to_owned(),
            problem,
        }
    }
}

fn reading(what: &'static str) -> impl Fn(kube::Error) -> DereferenceError {
    move |source| DereferenceError::Api { what, source: Box::new(source) }
}

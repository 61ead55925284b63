//! Where the data are, and how the pods log in there.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The database: embedded or MySQL, not both.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[x_kube(
    validation = Rule::new("!(has(self.embedded) && has(self.mysql))").message("database: write either embedded or mysql, not both")
)]
pub struct Database {
    /// SQLite in the hardware pod. It has one writer: one replica, replaced with a short pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// MySQL 8 or MariaDB 10.6 and later, such as RDS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql: Option<MysqlDatabase>,
}

/// SQLite in the hardware pod.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct EmbeddedDatabase {
    /// A volume that outlives the pod. Default: none, so the data are lost with the pod, and the
    /// condition DatabaseReady says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// A volume for the embedded database.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[x_kube(
    validation = Rule::new("self.size == oldSelf.size && has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("database.embedded.storage: size and storageClassName cannot be changed; the volume exists already")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Size as a Kubernetes quantity in bytes. Default: 1Gi, enough for years of a few hundred pools.
    #[serde(default = "Storage::default_size")]
    #[schemars(length(max = 20), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti|M|G|T)$"))]
    pub size: String,
    /// Class of the volume. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Whether the volume claim stays when the portal is deleted; a new portal of the same name then
    /// finds its data again. Default: true.
    #[serde(default = "yes")]
    pub retain: bool,
}

impl Storage {
    fn default_size() -> String {
        "1Gi".to_owned()
    }
}

fn yes() -> bool {
    true
}

/// A MySQL server.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct MysqlDatabase {
    /// Where the server's address and the account come from.
    pub source: MysqlSource,
    /// Host name or address of the server, if the source does not give one. A source's host cannot
    /// be overridden: its credential is sent nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$')").message("database.mysql.host: write a host name or an IPv4 address alone; the port belongs in database.mysql.port"))]
    pub host: Option<String>,
    /// Port of the server, if the source does not give one. Default: 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Name of the schema, if the source does not give one. At most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_$-]+$')").message("database.mysql.database: write letters, digits, _, $ and - only"))]
    pub database: Option<String>,
    /// How connections are encrypted. Default: required, with the roots of Amazon RDS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How the pods follow a changed credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// Where the server's address and the account come from; exactly one.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.secret)").message("database.mysql.source: say where the account comes from, for example secret: {name: hardware-database}")
)]
pub struct MysqlSource {
    /// A Secret in this namespace that carries the label gill-hicks.dev/allow-portal with the
    /// portal's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
}

/// A Secret with an account.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct SecretSource {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Names of the keys in it. Default: MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD and
    /// MYSQL_DATABASE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<SecretKeys>,
}

/// Names of the keys of a source Secret.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SecretKeys {
    /// Key of the host, which may be written as host:port. Default: MYSQL_HOST.
    #[serde(default = "SecretKeys::default_host")]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Key of the port. Default: MYSQL_PORT. The Secret may lack it.
    #[serde(default = "SecretKeys::default_port")]
    #[schemars(length(min = 1, max = 253))]
    pub port: String,
    /// Key of the account's name. Default: MYSQL_USER.
    #[serde(default = "SecretKeys::default_username")]
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// Key of the account's password. Default: MYSQL_PASSWORD.
    #[serde(default = "SecretKeys::default_password")]
    #[schemars(length(min = 1, max = 253))]
    pub password: String,
    /// Key of the schema's name. Default: MYSQL_DATABASE. The Secret may lack it.
    #[serde(default = "SecretKeys::default_database")]
    #[schemars(length(min = 1, max = 253))]
    pub database: String,
}

impl SecretKeys {
    fn default_host() -> String {
        "MYSQL_HOST".to_owned()
    }
    fn default_port() -> String {
        "MYSQL_PORT".to_owned()
    }
    fn default_username() -> String {
        "MYSQL_USER".to_owned()
    }
    fn default_password() -> String {
        "MYSQL_PASSWORD".to_owned()
    }
    fn default_database() -> String {
        "MYSQL_DATABASE".to_owned()
    }
}

impl Default for SecretKeys {
    fn default() -> Self {
        Self {
            host: Self::default_host(),
            port: Self::default_port(),
            username: Self::default_username(),
            password: Self::default_password(),
            database: Self::default_database(),
        }
    }
}

/// How connections to the server are encrypted.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[x_kube(
    validation = Rule::new("self.mode != 'Disabled' || !has(self.ca)").message("database.mysql.tls: a ca has no effect with mode Disabled; remove one of them")
)]
pub struct Tls {
    /// Required: connect over TLS and verify the server's certificate and name. Disabled: connect in
    /// plain text, which shows the password's hash and all data to the network. Default: Required.
    #[serde(default)]
    pub mode: TlsMode,
    /// The certificate authorities to trust, as PEM. Default: those of Amazon RDS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaReference>,
}

/// Whether connections are encrypted.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
pub enum TlsMode {
    /// Connect over TLS and verify the server.
    #[default]
    Required,
    /// Connect in plain text.
    Disabled,
}

/// Where a certificate authority is kept; exactly one.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.configMapKeyRef) != has(self.secretKeyRef)").message("database.mysql.tls.ca: write exactly one of configMapKeyRef and secretKeyRef")
)]
pub struct CaReference {
    /// A key of a ConfigMap in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
    /// A key of a Secret in this namespace. The pods mount it; the operator does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
}

/// A key of an object in this namespace.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct KeyReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key in its data. Default: ca.pem.
    #[serde(default = "KeyReference::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl KeyReference {
    fn default_key() -> String {
        "ca.pem".to_owned()
    }
}

/// How the pods follow a changed credential.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.pollInterval.matches('^([0-9]{1,6}[smh])+$') && duration(self.pollInterval) >= duration('1s') && duration(self.pollInterval) <= duration('24h')").message("database.mysql.rotation.pollInterval: write a time from 1s to 24h, such as 60s")
)]
pub struct Rotation {
    /// Who changes the credential. Follow: somebody else changes the source, and the pods follow
    /// without a restart. Default: Follow.
    #[serde(default)]
    pub mode: RotationMode,
    /// How often the source is looked at, as a time such as 30s, 5m or 1h. Default: 60s.
    #[serde(default = "Rotation::default_poll_interval")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,6}[smh])+$"))]
    pub poll_interval: String,
}

impl Rotation {
    fn default_poll_interval() -> String {
        "60s".to_owned()
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self { mode: RotationMode::Follow, poll_interval: Self::default_poll_interval() }
    }
}

/// Who changes the credential.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
pub enum RotationMode {
    /// Somebody else changes the source, and the pods follow.
    #[default]
    Follow,
}

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
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.deletionPolicy == 'Retain' || !has(self.rotation) || self.rotation.mode != 'Follow'").message("database.mysql.deletionPolicy: in mode Follow the operator makes no accounts that it could drop; write Retain, or another rotation.mode")
)]
pub struct MysqlDatabase {
    /// Where the server's address and the account come from.
    pub source: MysqlSource,
    /// Host name or address of the server, if the source does not give one. A source's host cannot
    /// be overridden: its credential is sent nowhere else. A credential without a host is sent only to
    /// the host that the label, annotation or tag gill-hicks.dev/database-host of the secret names, or
    /// to one that the operator's ALLOWED_DATABASE_HOSTS lists.
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
    /// Who changes the pods' credential, how and when. Default: two accounts of the operator's own
    /// that take turns, every 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// What happens to the accounts that the operator made, when the portal is deleted and on a server
    /// that it leaves. Retain: they stay on the server, locked, so that nobody can log in as them.
    /// DropAccounts: they are dropped, and the portal's deletion waits for that, at most three minutes.
    /// Schema and data stay in both cases. Default: Retain.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What happens to the operator's accounts when the portal is deleted.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
pub enum DeletionPolicy {
    /// They stay on the server, locked: nobody can log in as them any more.
    #[default]
    Retain,
    /// They are dropped.
    DropAccounts,
}

/// Where the server's address and the account come from; exactly one.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.secret) ? 1 : 0) + (has(self.terraformState) ? 1 : 0) + (has(self.secretsManager) ? 1 : 0) == 1").message("database.mysql.source: say where the account comes from, with exactly one of secret: {name: hardware-mysql}, terraformState: {secretSuffix: rds}, secretsManager: {secretId: hardware, region: eu-west-1}")
)]
pub struct MysqlSource {
    /// A Secret in this namespace that carries the label gill-hicks.dev/allow-portal with the
    /// portal's name, or with several portals' names joined by ".".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// The state that Terraform or OpenTofu keeps in this namespace with the backend "kubernetes",
    /// whose labels contain gill-hicks.dev/allow-portal with the portal's name, or with several
    /// portals' names joined by ".". At most 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terraform_state: Option<TerraformStateSource>,
    /// A secret of AWS Secrets Manager that carries the tag gill-hicks.dev/allow-portal with the value
    /// NAMESPACE/NAME of the portal, or with several of them separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_manager: Option<SecretsManagerSource>,
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
    /// Key of the host, which may be written as host:port. Default: MYSQL_HOST. If the Secret lacks
    /// it, database.mysql.host counts.
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

/// The outputs of a Terraform or OpenTofu state that is kept in the cluster.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TerraformStateSource {
    /// The backend's secret_suffix. 1 to 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_suffix: String,
    /// The workspace. Default: default. 1 to 63 characters.
    #[serde(default = "TerraformStateSource::default_workspace")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub workspace: String,
    /// Names of the outputs of the root module. Default: MYSQL_HOST, MYSQL_PORT, MYSQL_USER,
    /// MYSQL_PASSWORD, MYSQL_DATABASE and MYSQL_PASSWORD_SECRET_ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<TerraformOutputs>,
}

impl TerraformStateSource {
    fn default_workspace() -> String {
        "default".to_owned()
    }
}

/// Names of outputs of a state.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TerraformOutputs {
    /// Output with the host, which may be written as host:port. Default: MYSQL_HOST. The state may
    /// lack it.
    #[serde(default = "SecretKeys::default_host")]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Output with the port. Default: MYSQL_PORT. The state may lack it.
    #[serde(default = "SecretKeys::default_port")]
    #[schemars(length(min = 1, max = 253))]
    pub port: String,
    /// Output with the account's name. Default: MYSQL_USER. The state may lack it if it gives the
    /// ARN of a secret, which holds the name too.
    #[serde(default = "SecretKeys::default_username")]
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// Output with the account's password. Default: MYSQL_PASSWORD. If the state lacks it,
    /// passwordSecretArn is used.
    #[serde(default = "SecretKeys::default_password")]
    #[schemars(length(min = 1, max = 253))]
    pub password: String,
    /// Output with the schema's name. Default: MYSQL_DATABASE. The state may lack it.
    #[serde(default = "SecretKeys::default_database")]
    #[schemars(length(min = 1, max = 253))]
    pub database: String,
    /// Output with the ARN of the secret in AWS Secrets Manager that holds the account, such as the
    /// master_user_secret of an RDS instance. That secret needs the tag
    /// gill-hicks.dev/allow-portal with the value NAMESPACE/NAME of the portal and, as RDS keeps no
    /// host in it, the tag gill-hicks.dev/database-host with the host. Default:
    /// MYSQL_PASSWORD_SECRET_ARN.
    #[serde(default = "TerraformOutputs::default_password_secret_arn")]
    #[schemars(length(min = 1, max = 253))]
    pub password_secret_arn: String,
}

impl TerraformOutputs {
    fn default_password_secret_arn() -> String {
        "MYSQL_PASSWORD_SECRET_ARN".to_owned()
    }
}

impl Default for TerraformOutputs {
    fn default() -> Self {
        Self {
            host: SecretKeys::default_host(),
            port: SecretKeys::default_port(),
            username: SecretKeys::default_username(),
            password: SecretKeys::default_password(),
            database: SecretKeys::default_database(),
            password_secret_arn: Self::default_password_secret_arn(),
        }
    }
}

/// A secret of AWS Secrets Manager whose value is the JSON of RDS and of the rotation functions:
/// username, password and perhaps host, port and dbname.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretsManagerSource {
    /// Name or ARN of the secret. At most 2048 characters.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[A-Za-z0-9/_+=.@:!-]+$"))]
    pub secret_id: String,
    /// Region that the secret is in, such as eu-west-1.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}$"))]
    pub region: String,
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
    /// A key of a Secret in this namespace that carries the label gill-hicks.dev/allow-portal with the
    /// portal's name, or with several portals' names joined by ".". The pods mount it, and the operator
    /// reads it.
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

/// Who changes the pods' credential, how and when.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.interval.matches('^([0-9]{1,6}[smh])+$') && duration(self.interval) >= duration('1m') && duration(self.interval) <= duration('8760h')").message("database.mysql.rotation.interval: write a time from 1m to 8760h, such as 720h"),
    validation = Rule::new("self.pollInterval.matches('^([0-9]{1,6}[smh])+$') && duration(self.pollInterval) >= duration('1s') && duration(self.pollInterval) <= duration('24h')").message("database.mysql.rotation.pollInterval: write a time from 1s to 24h, such as 60s")
)]
pub struct Rotation {
    /// AlternatingUsers: the operator makes two accounts that take turns; the source's account must
    /// have CREATE USER. DualPassword: the operator makes one account that has two passwords while it
    /// changes; MySQL 8.0.19 or MariaDB 10.4 and later. Follow: the pods use the source's account
    /// itself, and follow when somebody else changes it. No mode restarts a pod. Default:
    /// AlternatingUsers.
    #[serde(default)]
    pub mode: RotationMode,
    /// Time from one change of the pods' credential to the next, as a time such as 720h. Without
    /// effect in mode Follow. Default: 720h, which is 30 days.
    #[serde(default = "Rotation::default_interval")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,6}[smh])+$"))]
    pub interval: String,
    /// How often the source is read and the pods' login is tried, as a time such as 30s, 5m or 1h. A
    /// login of the source that the server refused is not repeated earlier. Default: 60s.
    #[serde(default = "Rotation::default_poll_interval")]
    #[schemars(length(max = 20), regex(pattern = r"^([0-9]{1,6}[smh])+$"))]
    pub poll_interval: String,
}

impl Rotation {
    fn default_interval() -> String {
        "720h".to_owned()
    }
    fn default_poll_interval() -> String {
        "60s".to_owned()
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            mode: RotationMode::default(),
            interval: Self::default_interval(),
            poll_interval: Self::default_poll_interval(),
        }
    }
}

/// Who changes the pods' credential.
#[derive(
    schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq,
)]
pub enum RotationMode {
    /// The operator makes two accounts that take turns.
    #[default]
    AlternatingUsers,
    /// The operator makes one account that has two passwords while it changes.
    DualPassword,
    /// Somebody else changes the source's account, and the pods follow.
    Follow,
}

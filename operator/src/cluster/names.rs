//! Names of children. A portal's name has at most 40 characters, so that these have at most 63.

/// Deployment, Service, ServiceAccount, autoscaler, budget and policy of the API.
#[must_use]
pub fn hardware(portal: &str) -> String {
    format!("{portal}-hardware")
}

/// Deployment, Service, ServiceAccount, autoscaler, budget, policy and Ingress of the web page.
#[must_use]
pub fn portal(portal: &str) -> String {
    format!("{portal}-portal")
}

/// Deployment, ServiceAccount and policy of the collector.
#[must_use]
pub fn collector(portal: &str) -> String {
    format!("{portal}-collector")
}

/// Secret with the credentials file.
#[must_use]
pub fn database_secret(portal: &str) -> String {
    format!("{portal}-database")
}

/// Secret in which earlier versions of the operator kept the state of the credential's rotation.
#[must_use]
pub fn rotation_secret(portal: &str) -> String {
    format!("{portal}-rotation")
}

/// Secret with the tokens that observations are posted with.
#[must_use]
pub fn observations_secret(portal: &str) -> String {
    format!("{portal}-observations")
}

/// Secret with what the API watches for, and where it sends to.
#[must_use]
pub fn watches_secret(portal: &str) -> String {
    format!("{portal}-watches")
}

/// ConfigMap with the catalog.
#[must_use]
pub fn config(portal: &str) -> String {
    format!("{portal}-config")
}

/// Volume claim of the embedded database.
#[must_use]
pub fn data_claim(portal: &str) -> String {
    format!("{portal}-data")
}

/// Key of the credentials file.
pub const CREDENTIALS_KEY: &str = "credentials.json";
/// Key of the credentials file of the migration account.
pub const MIGRATION_CREDENTIALS_KEY: &str = "owner.json";
/// Key of the token.
pub const TOKEN_KEY: &str = "token";

/// Key of the file with the tokens of sources that have one of their own, as the hardware pods read it.
pub const SOURCE_TOKENS_KEY: &str = "sources.json";

/// Key of the token of one source.
#[must_use]
pub fn source_token_key(source: &str) -> String {
    format!("source-{source}")
}
/// Key of the document with the watches.
pub const WATCHES_KEY: &str = "watches.json";
/// Key of the catalog.
pub const CATALOG_KEY: &str = "catalog.json";
/// Volume of the embedded database, in the pods.
pub const DATA_VOLUME: &str = "data";

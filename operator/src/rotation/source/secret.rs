//! A Secret in the portal's namespace.

use std::collections::BTreeMap;

use crds::{ALLOW_PORTAL_LABEL, SecretSource};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt, api::ObjectMeta};
use service_kit::credentials::Candidate;

use super::{
    Reading, Request, SourceError, bounds,
    permission::{self, Holder, allows, host_named_on},
};

/// Reads the account that a Secret holds.
pub async fn read(
    secrets: &Api<Secret>,
    source: &SecretSource,
    request: &Request<'_>,
) -> Result<Reading, SourceError> {
    let what = describe(&source.name);
    let secret = get_allowed(secrets, &source.name, request.portal).await?;
    let secret = secret.ok_or_else(|| SourceError::NotFound { what: what.clone() })?;
    // A Secret that was deleted and made anew may have any resourceVersion.
    let version = format!(
        "{}/{}",
        secret.uid().unwrap_or_default(),
        secret.resource_version().unwrap_or_default()
    );
    let named_host = host_named_on(&secret.metadata);
    let keys = source.keys.clone().unwrap_or_default();
    let values = Values { what: what.clone(), data: secret.data.unwrap_or_default() };
    let host = values.optional(&keys.host, bounds::HOST)?;
    Ok(Reading {
        version,
        allowed_host: host.clone().or(named_host),
        holder: Holder::secret(what),
        host,
        port: values.optional(&keys.port, bounds::PORT)?,
        database: values.optional(&keys.database, bounds::DATABASE)?,
        candidates: vec![Candidate {
            username: values.required(&keys.username, bounds::USERNAME)?,
            password: values.required(&keys.password, bounds::PASSWORD)?.into(),
        }],
        state: None,
    })
}

/// A Secret whose administrator lets the portal read it, if it exists. Asks for the labels first, so
/// that the data of one that does not allow it is not even fetched.
pub(super) async fn get_allowed(
    secrets: &Api<Secret>,
    name: &str,
    portal: &str,
) -> Result<Option<Secret>, SourceError> {
    let what = describe(name);
    let failed = |error| SourceError::of_api(&what, &error);
    let Some(metadata) = secrets.get_metadata_opt(name).await.map_err(failed)? else {
        return Ok(None);
    };
    expect_allowed(&what, &metadata.metadata, portal)?;
    let secret = secrets.get_opt(name).await.map_err(failed)?;
    if let Some(secret) = &secret {
        // It may have been changed, or made anew, between the two requests.
        expect_allowed(&what, &secret.metadata, portal)?;
    }
    Ok(secret)
}

fn expect_allowed(what: &str, metadata: &ObjectMeta, portal: &str) -> Result<(), SourceError> {
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(ALLOW_PORTAL_LABEL));
    if allows(label.map(String::as_str), portal) {
        return Ok(());
    }
    Err(SourceError::NotAllowed {
        what: what.to_owned(),
        permission: permission::missing_label(portal),
    })
}

pub(super) fn describe(name: &str) -> String {
    format!("the Secret \"{name}\"")
}

/// The values of a Secret.
struct Values {
    what: String,
    data: BTreeMap<String, ByteString>,
}

impl Values {
    fn required(&self, key: &str, most: usize) -> Result<String, SourceError> {
        let value = self.optional(key, most)?;
        value.ok_or_else(|| self.invalid(key, "expected a value, found none"))
    }

    /// Line ends around a value come from how Secrets are often made: `echo … | base64`.
    fn optional(&self, key: &str, most: usize) -> Result<Option<String>, SourceError> {
        let Some(bytes) = self.data.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes.0)
            .map_err(|_| self.invalid(key, "expected UTF-8 text, found other bytes"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        bounds::expect_at_most(most, text).map_err(|problem| self.invalid(key, &problem))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    fn invalid(&self, key: &str, problem: &str) -> SourceError {
        SourceError::Invalid {
            what: self.what.clone(),
            problem: format!("key \"{key}\": {problem}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::{Reason, SecretKeys, SecretSource};
    use k8s_openapi::{ByteString, api::core::v1::Secret};
    use kube::Api;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::read;
    use crate::{
        cluster::{
            fake_api::{FakeApi, failure},
            retry::Retry,
        },
        rotation::source::{Reading, Request, SourceError},
    };

    const PATH: &str = "/api/v1/namespaces/team/secrets/db";

    fn secret(labels: &Value, values: &[(&str, &[u8])]) -> Value {
        let data =
            values.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "db", "namespace": "team", "labels": labels,
                "uid": "6c1e", "resourceVersion": "42",
            },
            "data": data.collect::<std::collections::BTreeMap<_, _>>(),
        })
    }

    fn allowed() -> Value {
        json!({"gill-hicks.dev/allow-portal": "p"})
    }

    async fn read_from(api: &FakeApi, keys: Option<SecretKeys>) -> Result<Reading, SourceError> {
        let source = SecretSource { name: "db".to_owned(), keys };
        let request =
            Request { namespace: "team", portal: "p", known_state: None, accepted_lineage: None };
        let secrets: Api<Secret> = Api::namespaced(api.client(), request.namespace);
        read(&secrets, &source, &request).await
    }

    #[tokio::test]
    async fn a_secret_gives_its_account_without_the_line_ends_around_it() {
        let values: [(&str, &[u8]); 4] = [
            ("MYSQL_HOST", b"db.example:3307\n"),
            ("MYSQL_USER", b"root\r\n"),
            ("MYSQL_PASSWORD", b" s3cret \n"),
            ("MYSQL_PORT", b""),
        ];
        let api = FakeApi::default().with(PATH, secret(&allowed(), &values));
        let reading = read_from(&api, None).await.expect("a good Secret");
        assert_eq!(reading.version, "6c1e/42");
        assert_eq!(reading.host.as_deref(), Some("db.example:3307"));
        assert_eq!((reading.port.as_deref(), reading.database.as_deref()), (None, None));
        assert_eq!(reading.candidates[0].username, "root");
        assert_eq!(reading.candidates[0].password.expose_secret(), " s3cret ");
        assert!(!format!("{reading:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn keys_can_have_other_names() {
        let keys = SecretKeys { username: "user".to_owned(), ..SecretKeys::default() };
        let values: [(&str, &[u8]); 2] = [("user", b"root"), ("MYSQL_PASSWORD", b"x")];
        let api = FakeApi::default().with(PATH, secret(&allowed(), &values));
        let reading = read_from(&api, Some(keys)).await.expect("a good Secret");
        assert_eq!(reading.candidates[0].username, "root");
    }

    #[tokio::test]
    async fn the_data_of_a_secret_without_the_portals_label_are_not_fetched() {
        for labels in [json!({}), json!({"gill-hicks.dev/allow-portal": "another"})] {
            let api = FakeApi::default().with(PATH, secret(&labels, &[("MYSQL_USER", b"root")]));
            let error = read_from(&api, None).await.expect_err("not allowed");
            assert_eq!(error.reason(), Reason::SourceNotAllowed);
            assert!(error.to_string().contains("gill-hicks.dev/allow-portal=p"), "{error}");
            assert_eq!(api.requests(), [format!("metadata {PATH}")]);
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_unreadable_is_named_by_its_key() {
        let bad: [(&str, &[u8]); 2] = [("MYSQL_USER", b"root"), ("MYSQL_PASSWORD", b"\xff")];
        let api = FakeApi::default().with(PATH, secret(&allowed(), &bad));
        let error = read_from(&api, None).await.expect_err("no text");
        assert_eq!(error.reason(), Reason::SourceInvalid);
        assert!(error.to_string().contains("MYSQL_PASSWORD"), "{error}");
        let api = FakeApi::default().with(PATH, secret(&allowed(), &[("MYSQL_USER", b"\n")]));
        let error = read_from(&api, None).await.expect_err("no user");
        assert!(error.to_string().contains("MYSQL_USER"), "{error}");
        let error = read_from(&FakeApi::default(), None).await.expect_err("no Secret");
        assert_eq!(error.reason(), Reason::SourceNotFound);
    }

    #[tokio::test]
    async fn one_secret_can_be_for_several_portals() {
        let values: [(&str, &[u8]); 2] = [("MYSQL_USER", b"root"), ("MYSQL_PASSWORD", b"x")];
        let labels = json!({"gill-hicks.dev/allow-portal": "other.p"});
        let api = FakeApi::default().with(PATH, secret(&labels, &values));
        let reading = read_from(&api, None).await.expect("one of two portals");
        assert_eq!(reading.candidates[0].username, "root");
    }

    #[tokio::test]
    async fn the_host_beside_a_login_counts_more_than_the_one_that_is_named() {
        let login: [(&str, &[u8]); 2] = [("MYSQL_USER", b"root"), ("MYSQL_PASSWORD", b"x")];
        let mut labels = allowed();
        labels["gill-hicks.dev/database-host"] = json!("named.example");
        let api = FakeApi::default().with(PATH, secret(&labels, &login));
        let reading = read_from(&api, None).await.expect("a good Secret");
        assert_eq!((reading.host, reading.allowed_host.as_deref()), (None, Some("named.example")));
        let with_host = [login[0], login[1], ("MYSQL_HOST", b"own.example".as_slice())];
        let api = FakeApi::default().with(PATH, secret(&labels, &with_host));
        let reading = read_from(&api, None).await.expect("a good Secret");
        assert_eq!(reading.allowed_host.as_deref(), Some("own.example"));
        let api = FakeApi::default().with(PATH, secret(&allowed(), &login));
        let reading = read_from(&api, None).await.expect("a good Secret");
        assert_eq!(reading.allowed_host, None, "nobody says where it may be sent");
    }

    #[tokio::test]
    async fn a_value_that_no_server_takes_is_refused_by_its_length() {
        let long = b"s3cret".repeat(1000);
        for key in ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_DATABASE", "MYSQL_USER", "MYSQL_PASSWORD"] {
            let mut values: Vec<(&str, &[u8])> =
                vec![("MYSQL_USER", b"root"), ("MYSQL_PASSWORD", b"x")];
            values.retain(|(name, _)| *name != key);
            values.push((key, &long));
            let api = FakeApi::default().with(PATH, secret(&allowed(), &values));
            let error = read_from(&api, None).await.expect_err(key);
            assert_eq!(error.reason(), Reason::SourceInvalid);
            let message = error.to_string();
            assert!(message.contains(key) && message.contains("found 6000"), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_changes_nothing() {
        let api = FakeApi::default().with(PATH, failure(503, "ServiceUnavailable", "overloaded"));
        let error = read_from(&api, None).await.expect_err("no answer");
        assert_eq!((error.reason(), error.retry()), (Reason::SourceUnavailable, Retry::Backoff));
        assert!(error.to_string().contains("overloaded"), "{error}");
        let api = FakeApi::default().with(PATH, failure(429, "TooManyRequests", "slow down"));
        let error = read_from(&api, None).await.expect_err("throttled");
        assert_eq!((error.reason(), error.retry()), (Reason::SourceUnavailable, Retry::Backoff));
        let quoting = json!("{\"metadata\": {\"labels\": \"s3cret\"}}");
        let api = FakeApi::default().with(PATH, quoting);
        let error = read_from(&api, None).await.expect_err("malformed");
        assert_eq!((error.reason(), error.retry()), (Reason::SourceUnavailable, Retry::Backoff));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

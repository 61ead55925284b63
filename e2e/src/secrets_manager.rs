//! A Secrets Manager that speaks AWS's own protocol: moto's server, which `e2e/with-aws` starts.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{program::run, setting};

/// Whoever asks names account, region and service in the signature; this server checks no more.
const AUTHORIZATION: &str = "Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/eu-west-1/secretsmanager/aws4_request, SignedHeaders=host, Signature=0";

/// Makes a secret, tagged for one portal.
pub fn create(name: &str, namespace: &str, portal: &str, value: &Value) -> Result<()> {
    let tag =
        json!({"Key": "gill-hicks.dev/allow-portal", "Value": format!("{namespace}/{portal}")});
    call("CreateSecret", &json!({"Name": name, "SecretString": value.to_string(), "Tags": [tag]}))
}

/// Gives a secret another value, as a rotation function does.
pub fn change(name: &str, value: &Value) -> Result<()> {
    call("PutSecretValue", &json!({"SecretId": name, "SecretString": value.to_string()}))
}

/// With curl, as nothing else here speaks TLS to an authority of a test's own. The request is no
/// argument: it holds a password.
fn call(operation: &str, request: &Value) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
        .arg(setting("TEST_AWS_CA_FILE")?)
        .args(["--header", AUTHORIZATION, "--header", "Content-Type: application/x-amz-json-1.1"])
        .args(["--header", &format!("X-Amz-Target: secretsmanager.{operation}")])
        .args(["--data", "@-"])
        .arg(setting("TEST_AWS_ENDPOINT")?);
    run(&mut curl, &request.to_string()).with_context(|| operation.to_owned())?;
    Ok(())
}

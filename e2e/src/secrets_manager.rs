//! A Secrets Manager that speaks AWS's own protocol: moto's server, which `e2e/with-aws` starts.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::setting;

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

/// With curl, as nothing else here speaks TLS to an authority of a test's own.
fn call(operation: &str, request: &Value) -> Result<()> {
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
        .arg(setting("TEST_AWS_CA_FILE")?)
        .args(["--header", AUTHORIZATION, "--header", "Content-Type: application/x-amz-json-1.1"])
        .args(["--header", &format!("X-Amz-Target: secretsmanager.{operation}")])
        // Not an argument: it holds a password.
        .args(["--data", "@-"])
        .arg(setting("TEST_AWS_ENDPOINT")?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run curl")?;
    let mut stdin = curl.stdin.take().context("a pipe")?;
    stdin.write_all(request.to_string().as_bytes())?;
    drop(stdin);
    let output = curl.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{operation}: {} {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

//! A real terraform with its state in the real cluster. The root has no provider, only outputs, so
//! nothing is downloaded.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{program::run, setting};

/// A root whose outputs are those of terraform/rds, with the state in a namespace of the cluster.
#[derive(Debug)]
pub struct Terraform {
    folder: TempDir,
}

impl Terraform {
    /// Writes the root and initializes it. Its state's Secrets let `portal` read them.
    pub fn init(namespace: &str, portal: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = json!({
            "terraform": {"backend": {"kubernetes": {
                "secret_suffix": "rds",
                "namespace": namespace,
                "config_path": setting("KUBECONFIG")?,
                "labels": {"gill-hicks.dev/allow-portal": portal},
            }}},
            "variable": {"outputs": {"type": "map(string)"}, "padding": {"type": "string"}},
            // Makes the state as large as a test asks for.
            "resource": {"terraform_data": {"padding": {"input": "${var.padding}"}}},
            "output": {
                "MYSQL_HOST": {"value": "${var.outputs.MYSQL_HOST}"},
                "MYSQL_PORT": {"value": "${var.outputs.MYSQL_PORT}"},
                "MYSQL_USER": {"value": "${var.outputs.MYSQL_USER}"},
                "MYSQL_PASSWORD": {"value": "${var.outputs.MYSQL_PASSWORD}", "sensitive": true},
                "MYSQL_DATABASE": {"value": "${var.outputs.MYSQL_DATABASE}"},
            },
        });
        fs::write(folder.path().join("main.tf.json"), root.to_string())?;
        let terraform = Self { folder };
        terraform.run(&["init"])?;
        Ok(terraform)
    }

    /// Applies the root with these outputs, in a state of at least `padding` bytes even when it is
    /// compressed.
    pub fn apply(&self, outputs: &Value, padding: usize) -> Result<()> {
        let variables = json!({"outputs": outputs, "padding": noise(padding)?});
        // A file, not an argument: it holds a password.
        fs::write(self.folder.path().join("test.auto.tfvars.json"), variables.to_string())?;
        self.run(&["apply", "-auto-approve"])
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut terraform = Command::new("terraform");
        terraform
            .arg(format!("-chdir={}", self.folder.path().display()))
            .args(arguments)
            .args(["-input=false", "-no-color"])
            .env("CHECKPOINT_DISABLE", "1");
        run(&mut terraform, "").with_context(|| {
            format!("terraform {arguments:?}; these tests need 1.11 or later on PATH")
        })?;
        Ok(())
    }
}

/// Hexadecimal digits of random bytes, which compress to half their number and no further.
fn noise(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut random = vec![0_u8; bytes];
    fs::File::open(Path::new("/dev/urandom"))?.read_exact(&mut random)?;
    Ok(random.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
        use std::fmt::Write;
        write!(text, "{byte:02x}").expect("a String takes every text");
        text
    }))
}

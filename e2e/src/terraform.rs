//! A real terraform with its state in the real cluster. The root has no provider, only outputs, so
//! nothing is downloaded.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
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
        terraform.run(&["init", "-input=false"])?;
        Ok(terraform)
    }

    /// Applies the root with these outputs, in a state of at least `padding` bytes even when it is
    /// compressed.
    pub fn apply(&self, outputs: &Value, padding: usize) -> Result<()> {
        self.set_variables(outputs, padding)?;
        self.run(&["apply", "-auto-approve", "-input=false"])
    }

    /// Begins to apply the root, and stops where terraform asks a person whether it should. By then it
    /// holds the lock of the state.
    pub fn propose(&self, outputs: &Value, padding: usize) -> Result<Proposal> {
        self.set_variables(outputs, padding)?;
        let said = self.folder.path().join("said");
        let file = fs::File::create(&said)?;
        let mut terraform = self.command(&["apply"]);
        terraform.stdin(Stdio::piped()).stderr(file.try_clone()?).stdout(file);
        Ok(Proposal { terraform: terraform.spawn()?, said })
    }

    fn set_variables(&self, outputs: &Value, padding: usize) -> Result<()> {
        let variables = json!({"outputs": outputs, "padding": noise(padding)?});
        // A file, not an argument: it holds a password.
        fs::write(self.folder.path().join("test.auto.tfvars.json"), variables.to_string())?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut terraform = Command::new("terraform");
        terraform
            .arg(format!("-chdir={}", self.folder.path().display()))
            .args(arguments)
            .arg("-no-color")
            .env("CHECKPOINT_DISABLE", "1");
        terraform
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        run(&mut self.command(arguments), "").with_context(|| {
            format!("terraform {arguments:?}; these tests need 1.11 or later on PATH")
        })?;
        Ok(())
    }
}

/// A terraform that waits for a person's word. Without one it gives up, and its lock with it.
#[derive(Debug)]
pub struct Proposal {
    terraform: Child,
    said: PathBuf,
}

impl Proposal {
    /// Says yes, and waits for the end.
    pub fn approve(mut self) -> Result<()> {
        let mut stdin = self.terraform.stdin.take().context("a pipe")?;
        stdin.write_all(b"yes\n")?;
        drop(stdin);
        let status = self.terraform.wait()?;
        ensure!(status.success(), "terraform: {status}: {}", fs::read_to_string(&self.said)?);
        Ok(())
    }
}

/// Hexadecimal digits of random bytes, which compress to half their number and no further.
fn noise(bytes: usize) -> Result<String> {
    use std::io::Read;
    let mut random = vec![0_u8; bytes];
    fs::File::open(Path::new("/dev/urandom"))?.read_exact(&mut random)?;
    Ok(hex::encode(random))
}

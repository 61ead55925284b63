//! The local cluster's node: its images, and containers of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use reqwest::Client;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::process::is_ready;

/// Name of the container; one at a time.
const CONTAINER: &str = "gill-hicks-bench";

/// Ports on the node that neither Kubernetes nor its pods take.
const PUBLIC_PORT: u16 = 15_001;
const ADMIN_PORT: u16 = 18_081;

/// A container that is not ready by then never will be.
const DEADLINE: Duration = Duration::from_secs(30);

/// Short against the times that are measured by waiting.
const POLL_PERIOD: Duration = Duration::from_millis(1);

/// How to reach the node of a running local cluster, and what to look for on it
#[derive(Args, Debug)]
#[group(requires_all = ["containerd", "runc_root", "cgroup", "address", "image_prefix", "tag"])]
pub(crate) struct Node {
    /// Socket of the node's containerd
    #[arg(long, required = false, value_name = "SOCKET")]
    containerd: PathBuf,
    /// Folder for runc's state, which the cluster removes with itself
    #[arg(long, required = false, value_name = "FOLDER")]
    runc_root: PathBuf,
    /// Cgroup of everything that runs on the node
    #[arg(long, required = false, value_name = "NAME")]
    cgroup: String,
    /// Address of the node
    #[arg(long = "node-address", required = false, value_name = "ADDRESS")]
    address: String,
    /// Images are called PREFIX/operator:TAG and so on
    #[arg(long, required = false, value_name = "PREFIX")]
    image_prefix: String,
    /// Tag of the images
    #[arg(long, required = false, value_name = "TAG")]
    tag: String,
}

impl Node {
    /// The name of one of the product's images.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}:{}", self.image_prefix, self.tag)
    }

    /// Whether the node has all of these images.
    pub(crate) fn has_images(&self, names: &[&str]) -> Result<bool> {
        let list = self.ctr(&["images", "list", "--quiet"])?;
        Ok(names.iter().all(|name| list.lines().any(|line| line == self.image(name))))
    }

    /// Bytes of the image's layers and its configuration, as a registry keeps them.
    pub(crate) fn image_bytes(&self, name: &str) -> Result<u64> {
        let image = self.image(name);
        let list = self.ctr(&["images", "list", &format!("name=={image}")])?;
        let digest = find_digest(&list).with_context(|| format!("no digest of {image}: {list}"))?;
        let manifest = self.ctr(&["content", "get", digest])?;
        let manifest: Manifest = serde_json::from_str(&manifest)
            .with_context(|| format!("not a manifest of one image: {manifest}"))?;
        Ok(manifest.bytes())
    }

    /// Time from asking containerd to run a new container of the image until its program is ready.
    pub(crate) async fn time_to_ready(
        &self,
        client: &Client,
        name: &str,
        environment: &[(&str, String)],
    ) -> Result<Duration> {
        // Written to by the image's user, whom this machine does not know.
        let data = tempfile::tempdir()?;
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o777))?;
        let mut variables: Vec<String> =
            environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let listen = format!("{}_LISTEN={}:{PUBLIC_PORT}", name.to_uppercase(), self.address);
        variables.extend([listen, format!("ADMIN_LISTEN={}:{ADMIN_PORT}", self.address)]);

        let started = Instant::now();
        let container = self.run(name, &variables, data)?;
        let url = format!("http://{}:{ADMIN_PORT}/readyz", self.address);
        while !is_ready(client, &url).await {
            ensure!(started.elapsed() < DEADLINE, "the container of {name} did not become ready");
            sleep(POLL_PERIOD).await;
        }
        let elapsed = started.elapsed();
        drop(container);
        Ok(elapsed)
    }

    /// The node's network is containerd's own, so `--net-host` means the node.
    fn run(&self, name: &str, variables: &[String], data: TempDir) -> Result<Container<'_>> {
        // First of all, so that it also removes what an interrupted run left.
        let container = Container { node: self, data };
        container.remove();
        let mount =
            format!("type=bind,src={},dst=/data,options=rbind:rw", container.data.path().display());
        let (runc_root, image) = (self.runc_root.display().to_string(), self.image(name));
        let cgroup = format!("/{}/{CONTAINER}", self.cgroup);
        let mut arguments = vec!["run", "--detach", "--null-io", "--net-host", "--snapshotter"];
        arguments.extend(["overlayfs", "--runc-root", &runc_root, "--cgroup", &cgroup]);
        arguments.extend(["--mount", &mount]);
        arguments.extend(variables.iter().flat_map(|variable| ["--env", variable]));
        arguments.extend([image.as_str(), CONTAINER]);
        self.ctr(&arguments)?;
        Ok(container)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let output = self.ctr_command(arguments).output();
        let output = output.context("failed to start ctr (Debian: containerd)")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {} failed: {errors}", arguments.join(" "));
        String::from_utf8(output.stdout).context("ctr wrote something else than text")
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.containerd).args(["--namespace", "k8s.io"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

/// A container; ends with the value.
struct Container<'a> {
    node: &'a Node,
    /// Its volume, removed after it.
    data: TempDir,
}

impl Container<'_> {
    /// Quietly, as usually one of the two is not there.
    fn remove(&self) {
        for arguments in [
            ["tasks", "delete", "--force", CONTAINER].as_slice(),
            &["containers", "delete", CONTAINER],
        ] {
            let mut command = self.node.ctr_command(arguments);
            drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
        }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The part of an image's manifest that counts.
#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    size: u64,
}

impl Manifest {
    fn bytes(&self) -> u64 {
        self.config.size + self.layers.iter().map(|layer| layer.size).sum::<u64>()
    }
}

fn find_digest(list: &str) -> Option<&str> {
    list.split_whitespace().find(|word| word.starts_with("sha256:"))
}

#[cfg(test)]
mod tests {
    use super::{Manifest, find_digest};

    #[test]
    fn an_image_is_as_large_as_its_parts() {
        let manifest: Manifest = serde_json::from_str(
            r#"{"schemaVersion":2,"config":{"digest":"sha256:0","size":700},
                "layers":[{"digest":"sha256:1","size":9000},{"digest":"sha256:2","size":300}]}"#,
        )
        .unwrap();
        assert_eq!(manifest.bytes(), 10_000);
    }

    #[test]
    fn the_digest_is_found_in_ctrs_table() {
        let list = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                    localhost/gill-hicks/portal:main-1 application/vnd.oci.image.manifest.v1+json \
                    sha256:abc 9.3 MiB linux/amd64 -\n";
        assert_eq!(find_digest(list), Some("sha256:abc"));
        assert_eq!(find_digest("REF TYPE DIGEST SIZE PLATFORMS LABELS\n"), None);
    }
}

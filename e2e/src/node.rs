//! Trouble on a node, made from outside of a pod. The local cluster's node is this machine, whose root
//! these tests run as.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::program::run;

/// A pod whose process does nothing until this is dropped: its connections stay open, and it answers
/// nobody.
#[derive(Debug)]
pub struct Hung {
    process: String,
}

impl Hung {
    /// Stops the process in a pod of one container.
    pub fn hang(pod: &Pod) -> Result<Self> {
        let containers = pod.status.iter().flat_map(|status| &status.container_statuses);
        let id = containers.flatten().find_map(|container| container.container_id.as_deref());
        let id = id.and_then(|id| id.strip_prefix("containerd://")).context("a container runs")?;
        let hung = Self { process: find_process(id)? };
        hung.signal("-STOP")?;
        Ok(hung)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        run(Command::new("kill").args([signal, &self.process]), "").map(drop)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if let Err(error) = self.signal("-CONT") {
            eprintln!("process {} stays stopped: {error:#}", self.process);
        }
    }
}

/// The one process whose cgroup is named after the container.
fn find_process(container: &str) -> Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Most entries are no process, and some end meanwhile.
        let Ok(groups) = fs::read_to_string(path.join("cgroup")) else { continue };
        if groups.contains(container) {
            found.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    ensure!(found.len() == 1, "container {container} has the processes {found:?}");
    Ok(found.remove(0))
}

/// Keeps a pod for good at what its volume with a Secret holds: a kubelet that fails to write there once
/// mounts a new volume in its place, which a container that runs never sees (1.34 was seen to do so).
pub fn freeze_volume(pod: &Pod, volume: &str) -> Result<()> {
    let uid = pod.uid().context("a stored object has a uid")?;
    let end = format!("/pods/{uid}/volumes/kubernetes.io~secret/{volume}");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mount = mounts.find(|mount| mount.ends_with(&end));
    let mount = mount.with_context(|| format!("nothing is mounted at …{end}"))?;
    run(Command::new("mount").args(["-o", "remount,ro", mount]), "").map(drop)
}

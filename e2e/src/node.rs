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
    process: u32,
}

impl Hung {
    /// Stops the process in a pod of one container.
    pub fn hang(pod: &Pod) -> Result<Self> {
        let hung = Self { process: process_of(pod)? };
        signal("-STOP", hung.process)?;
        Ok(hung)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if let Err(error) = signal("-CONT", self.process) {
            eprintln!("process {} stays stopped: {error:#}", self.process);
        }
    }
}

/// Ends the process in a pod of one container as the end of its machine does. The kubelet starts it
/// anew.
pub fn kill(pod: &Pod) -> Result<()> {
    signal("-KILL", process_of(pod)?)
}

/// A pod that cannot reach the API server until this is dropped. What it sends is swallowed, as on a
/// network that is cut: no connection is refused or ends.
#[derive(Debug)]
pub struct Partition {
    rule: Vec<String>,
}

impl Partition {
    /// Cuts a pod off.
    pub fn begin(pod: &Pod) -> Result<Self> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let address = address.context("the pod has an address")?;
        let rule = format!("INPUT --source {address} --protocol tcp --dport 6443 --jump DROP");
        let partition = Self { rule: rule.split(' ').map(str::to_owned).collect() };
        partition.change("--insert")?;
        Ok(partition)
    }

    fn change(&self, how: &str) -> Result<()> {
        let mut iptables = Command::new("nsenter");
        iptables.args(["--net=/run/netns/gill-hicks", "iptables", "--wait", how]);
        run(iptables.args(&self.rule), "").map(drop)
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if let Err(error) = self.change("--delete") {
            eprintln!("a pod stays cut off by {:?}: {error:#}", self.rule);
        }
    }
}

fn signal(signal: &str, process: u32) -> Result<()> {
    run(Command::new("kill").args([signal, &process.to_string()]), "").map(drop)
}

/// The number of the process in a pod of one container.
pub fn process_of(pod: &Pod) -> Result<u32> {
    let containers = pod.status.iter().flat_map(|status| &status.container_statuses);
    let id = containers.flatten().find_map(|container| container.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("containerd://")).context("a container runs")?;
    find_process(id)
}

/// The one process whose cgroup is named after the container.
fn find_process(container: &str) -> Result<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Most entries are no process, and some end meanwhile.
        let Ok(groups) = fs::read_to_string(path.join("cgroup")) else { continue };
        if groups.contains(container) {
            found.extend(path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
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

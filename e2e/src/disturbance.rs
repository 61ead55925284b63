//! What happens to pods in a cluster's life: evictions, ends of processes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::EvictParams};

use crate::{Namespace, namespace::connect_without_retries, program::run};

/// What became of a request to evict a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The pod is on its way out.
    Granted,
    /// 429: the disruption budget allows no more for now.
    TooMany,
}

/// Asks the Eviction API to end a pod, as a node drain does.
pub async fn evict(namespace: &Namespace, pod: &str) -> Result<Eviction> {
    // Kubernetes says 429 for what the budget forbids.
    let client = connect_without_retries().await?;
    let pods: Api<Pod> = Api::namespaced(client, namespace.name());
    match pods.evict(pod, &EvictParams::default()).await {
        Ok(_) => Ok(Eviction::Granted),
        Err(kube::Error::Api(status)) if status.code == 429 => Ok(Eviction::TooMany),
        Err(error) => Err(error).with_context(|| format!("failed to evict {pod}")),
    }
}

/// Ends a pod's process on the node without a warning, as a crash or the kernel would. Only where the
/// node's processes are this machine's.
pub fn kill_process(pod: &Pod, program: &str) -> Result<()> {
    let uid = pod.uid().context("a stored object has a uid")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // A process may end while this looks at it.
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let is_in_pod = read("cgroup").contains(&uid);
        // The other one holds the pod's network.
        if is_in_pod && read("comm").trim() == program {
            found.push(folder);
        }
    }
    let name = pod.name_any();
    ensure!(found.len() == 1, "{} processes named {program} in pod {name}", found.len());
    let id =
        found.first().and_then(|it| Path::new(it).file_name()).context("a process's number")?;
    run(Command::new("kill").arg("-KILL").arg(id), "")?;
    Ok(())
}

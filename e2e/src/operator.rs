//! What the running operator says about itself on its admin port.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, ObjectList},
};

/// Where `deploy/install` puts it.
pub const NAMESPACE: &str = "gill-hicks-system";

/// Its admin port, as deploy/manifests/operator.yaml has it.
const ADMIN_PORT: u16 = 8081;

/// The operator's pods.
pub async fn pods(client: &Client) -> Result<ObjectList<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=gill-hicks-operator");
    let found = pods.list(&selector).await?;
    ensure!(!found.items.is_empty(), "no pod of the operator runs in {NAMESPACE}");
    Ok(found)
}

/// Passes over portals since the start, whatever came of them, of all replicas together.
pub async fn passes(client: &Client) -> Result<u64> {
    let mut passes = 0;
    for pod in pods(client).await? {
        let address = pod.status.and_then(|status| status.pod_ip).context("no pod address")?;
        let url = format!("http://{address}:{ADMIN_PORT}/metrics");
        let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
        passes += sum(&text, "reconcile_total");
    }
    Ok(passes)
}

/// The sum of a counter over all its labels, in Prometheus' text format.
fn sum(text: &str, name: &str) -> u64 {
    let of_name = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_it = labels.is_empty() || labels.starts_with('{');
        if is_it { value.parse::<u64>().ok() } else { None }
    };
    text.lines().filter_map(of_name).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let text = "# TYPE reconcile_total counter\nreconcile_total{outcome=\"applied\"} 40\n\
                    reconcile_total{outcome=\"a b\"} 2\nreconcile_total_other 7\n";
        assert_eq!(sum(text, "reconcile_total"), 42);
        assert_eq!(sum(text, "portals"), 0);
    }
}

//! What dashboard and alerts read is there: the pods are found as a Prometheus would find them, by the
//! PodMonitors, and scraped.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use e2e::{
    Namespace,
    monitoring::{self, MetricsEndpoint, PodMonitor},
    promql::{Selector, selectors},
    scrape::{self, Labels, Series},
    wait::eventually,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

/// Answers of an API server are an open set: that one was given today says nothing.
const OPEN_LABEL: &str = "code";

#[tokio::test]
async fn every_series_of_dashboard_and_alerts_is_exposed_with_its_labels() -> Result<()> {
    let namespace = Namespace::open("e2e-monitoring").await?;
    // Nobody allows it to read the cluster, which is something to see.
    namespace.apply_portal("watched", json!({"sources": [{"kubernetes": {}}]})).await?;
    namespace.wait_until_ready("watched").await?;
    // Routes are counted from their first request on.
    let page = namespace.url("watched-portal").await?;
    reqwest::get(&page).await?.error_for_status()?;
    namespace.hardware_rows("watched").await?;
    let observation = json!({
        "source": "e2e", "expected_interval_s": 60,
        "observations": [{"provider": "Amazon", "name": "c5", "total": 2, "in_use": 1}],
    });
    namespace.observe("watched", &observation).await?;

    let expressions = monitoring::expressions()?;
    let checked = eventually("every series", e2e::namespace::SETTLED, async || {
        let series = scrape_all(&namespace).await?;
        let portals: BTreeSet<&String> =
            series.iter().filter_map(|one| one.labels.get("portal")).collect();
        ensure!(portals == BTreeSet::from([&"watched".to_owned()]), "portals {portals:?}");
        let mut missing = BTreeSet::new();
        let mut checked = 0;
        for expression in &expressions {
            for selector in selectors(&expression.text)? {
                if !series.iter().any(|one| is_read_by(&selector, one)) {
                    missing.insert(format!("{selector} ({})", expression.place));
                }
                checked += 1;
            }
        }
        let missing: Vec<String> = missing.into_iter().collect();
        ensure!(missing.is_empty(), "{} are missing:\n{}", missing.len(), missing.join("\n"));
        Ok(checked)
    })
    .await?;
    println!("{checked} selectors of {} expressions find series", expressions.len());
    namespace.delete_portal("watched").await
}

/// Whether a selector finds a series that has every label it needs.
fn is_read_by(selector: &Selector, series: &Series) -> bool {
    let value = |label: &str| series.labels.get(label).map(String::as_str);
    selector.metric == series.name
        && selector.labels.iter().all(|label| value(label).is_some())
        && selector.matchers.iter().all(|matcher| {
            matcher.name == OPEN_LABEL || matcher.is_match(value(&matcher.name).unwrap_or(""))
        })
}

/// Everything that a Prometheus with our PodMonitors would read.
async fn scrape_all(namespace: &Namespace) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for (own_namespace, monitor) in monitoring::pod_monitors()? {
        let pods: Api<Pod> = if monitor.namespace_selector == json!({"any": true}) {
            Api::all(namespace.client())
        } else {
            Api::namespaced(namespace.client(), &own_namespace)
        };
        let selector: LabelSelector = serde_json::from_value(monitor.selector.clone())?;
        let selector = ListParams::default().labels_from(&selector.try_into()?);
        let mut found = 0;
        for pod in pods.list(&selector).await? {
            // Pods of other tests come and go.
            let is_ours = [namespace.name(), &own_namespace]
                .contains(&pod.namespace().unwrap_or_default().as_str());
            let is_going = pod.metadata.deletion_timestamp.is_some();
            if is_ours && !is_going {
                all.extend(scrape_pod(&monitor, &pod).await?);
                found += 1;
            }
        }
        ensure!(found > 0, "the PodMonitor for {} finds no pod", monitor.selector);
    }
    Ok(all)
}

async fn scrape_pod(monitor: &PodMonitor, pod: &Pod) -> Result<Vec<Series>> {
    let spec = pod.spec.as_ref().context("a spec")?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = address.with_context(|| format!("pod {} has no address", pod.name_any()))?;
    let mut all = Vec::new();
    for endpoint in &monitor.pod_metrics_endpoints {
        for container in &spec.containers {
            let mut ports = container.ports.iter().flatten();
            let port = ports.find(|port| port.name.as_ref() == Some(&endpoint.port));
            let Some(port) = port else { continue };
            let url = format!("http://{address}:{}{}", port.container_port, endpoint.path);
            let text = reqwest::get(&url).await?.error_for_status()?.text().await?;
            let target = target_labels(monitor, endpoint, pod, &container.name)?;
            for mut series in scrape::parse(&text).with_context(|| url.clone())? {
                for (name, value) in &target {
                    let taken = series.labels.insert(name.clone(), value.clone());
                    // Prometheus would rename it to exported_….
                    ensure!(taken.is_none(), "{}: the label {name} is the target's", series.name);
                }
                all.push(series);
            }
        }
    }
    ensure!(!all.is_empty(), "pod {} exposes nothing", pod.name_any());
    Ok(all)
}

/// The labels that Prometheus adds to every series of a target.
fn target_labels(
    monitor: &PodMonitor,
    endpoint: &MetricsEndpoint,
    pod: &Pod,
    container: &str,
) -> Result<Labels> {
    // As Prometheus writes them, with _ for what a label's name cannot have.
    let plain = |name: &str| name.replace(|it: char| !it.is_ascii_alphanumeric(), "_");
    let meta: BTreeMap<String, &String> = pod
        .labels()
        .iter()
        .map(|(name, value)| (format!("__meta_kubernetes_pod_label_{}", plain(name)), value))
        .collect();
    let mut labels = Labels::from([
        ("namespace".to_owned(), pod.namespace().context("a namespace")?),
        ("pod".to_owned(), pod.name_any()),
        ("container".to_owned(), container.to_owned()),
        (
            "job".to_owned(),
            pod.labels().get(&monitor.job_label).context("the job's label")?.clone(),
        ),
    ]);
    for relabeling in &endpoint.relabelings {
        let values: Option<Vec<&str>> = relabeling
            .source_labels
            .iter()
            .map(|source| meta.get(source).map(|value| value.as_str()))
            .collect();
        let values = values.with_context(|| format!("{relabeling:?} of {}", pod.name_any()))?;
        labels.insert(relabeling.target_label.clone(), values.join(";"));
    }
    Ok(labels)
}

//! The dashboard, the alerts and the PodMonitors of `deploy/monitoring`.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// An expression, and where it stands.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The panel or alert.
    pub place: String,
    /// PromQL.
    pub text: String,
}

/// One alert.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name.
    pub alert: String,
    /// When it fires.
    pub expr: String,
    /// For how long the expression must have been true.
    #[serde(default, rename = "for")]
    pub for_: Option<String>,
    /// Labels of the alert.
    pub labels: Value,
    /// What people are told.
    pub annotations: Value,
}

/// What `PodMonitor` says, as far as ours use it. Another field is an error: the tests would not
/// know what it does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodMonitor {
    /// Label of pods that becomes `job`.
    pub job_label: String,
    /// Where to look; the monitor's own namespace by default.
    #[serde(default)]
    pub namespace_selector: Value,
    /// Which pods.
    pub selector: Value,
    /// What to read of them.
    pub pod_metrics_endpoints: Vec<MetricsEndpoint>,
}

/// One port of a pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricsEndpoint {
    /// Name of the port.
    pub port: String,
    /// Path on it.
    pub path: String,
    /// Labels that are added to its series.
    #[serde(default)]
    pub relabelings: Vec<Relabeling>,
}

/// A label that is taken from another one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Relabeling {
    /// What Prometheus knows of the pod.
    pub source_labels: Vec<String>,
    /// What it is called in the series.
    pub target_label: String,
}

fn read(name: &str) -> Result<String> {
    let path = Path::new("../deploy/monitoring").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// The `spec` of each object in a file, with its namespace.
fn specs<T: DeserializeOwned>(name: &str) -> Result<Vec<(String, T)>> {
    let text = read(name)?;
    let documents = serde_yaml::Deserializer::from_str(&text);
    let specs = documents.map(|document| {
        let object = Value::deserialize(document)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let spec = serde_json::from_value(object["spec"].clone())?;
        Ok((namespace, spec))
    });
    specs.collect::<Result<_>>().with_context(|| name.to_owned())
}

/// Every alert on gill-hicks itself.
pub fn alerts() -> Result<Vec<Alert>> {
    alerts_in("rules.yaml")
}

/// The alerts on hardware that users begin with.
pub fn example_alerts() -> Result<Vec<Alert>> {
    alerts_in("example-availability-rules.yaml")
}

fn alerts_in(file: &str) -> Result<Vec<Alert>> {
    let mut alerts = Vec::new();
    for (_, spec) in specs::<Value>(file)? {
        for group in spec["groups"].as_array().context("groups")? {
            alerts.extend(serde_json::from_value::<Vec<Alert>>(group["rules"].clone())?);
        }
    }
    Ok(alerts)
}

/// Every PodMonitor with its namespace.
pub fn pod_monitors() -> Result<Vec<(String, PodMonitor)>> {
    specs("pod-monitors.yaml")
}

/// The dashboard.
pub fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&read("dashboard.json")?)?)
}

/// Every expression of dashboard, alerts and examples, with Grafana's variables filled in as Grafana would.
pub fn expressions() -> Result<Vec<Expression>> {
    let mut expressions = Vec::new();
    let mut add = |place: String, text: &str| {
        let text = text.replace("$__rate_interval", "1m");
        let text = text.replace("$namespace", ".*").replace("$portal", ".*");
        expressions.push(Expression { place, text });
    };
    for Alert { alert, expr, .. } in alerts()?.into_iter().chain(example_alerts()?) {
        add(format!("alert {alert}"), &expr);
    }
    let dashboard = dashboard()?;
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let place = format!("panel {}", panel["title"]);
            add(place, target["expr"].as_str().context("an expression")?);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("variables")? {
        let query = variable["definition"].as_str().unwrap_or_default();
        if let Some(inner) = query.strip_prefix("label_values(") {
            let (selector, label) = inner.rsplit_once(',').context("a selector and a label")?;
            let label = label.trim().trim_end_matches(')');
            let place = format!("variable {}", variable["name"]);
            add(place, &format!("group by ({label}) ({selector})"));
        }
    }
    Ok(expressions)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{Alert, alerts, dashboard, expressions, pod_monitors};
    use crate::{program::read_page, promql::selectors};

    #[test]
    fn every_expression_is_promql() {
        let expressions = expressions().expect("files of deploy/monitoring");
        assert!(expressions.len() > 40, "{} expressions", expressions.len());
        for expression in expressions {
            let found = selectors(&expression.text);
            let found = found.unwrap_or_else(|error| panic!("{}: {error}", expression.place));
            for selector in found {
                let job = selector.value_of("job");
                // The names are short enough that somebody else's program may have them as well.
                assert!(job.is_some(), "{}: {selector} names no job", expression.place);
            }
        }
    }

    #[test]
    fn every_alert_says_what_it_means_and_where_to_read_on() {
        let alerts = alerts().expect("rules");
        assert!(alerts.len() > 10, "{} alerts", alerts.len());
        let mut names = BTreeSet::new();
        for Alert { alert, expr: _, for_, labels, annotations } in alerts {
            assert!(names.insert(alert.clone()), "{alert} is there twice");
            let severity = labels["severity"].as_str().unwrap_or_default();
            assert!(["critical", "warning"].contains(&severity), "{alert}: severity {severity}");
            if let Some(time) = for_ {
                assert!(time.ends_with(['m', 'h']), "{alert}: for {time}");
            }
            let text = |name: &str| annotations[name].as_str().unwrap_or_default().to_owned();
            assert!(text("summary").ends_with('.'), "{alert}: a sentence in summary");
            assert!(text("description").ends_with(|end: char| !end.is_whitespace()), "{alert}");
            assert!(text("description").len() > 30, "{alert}: a description worth reading");
            let link = text("runbook_url");
            let (page, anchor) = link.split_once('#').expect("a page and a heading");
            let page = read_page(page.strip_prefix("docs/").expect("a page of docs"));
            let page = page.expect("the page exists");
            let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
            let anchors: Vec<String> = headings.map(str::to_lowercase).collect();
            assert!(anchors.contains(&anchor.to_owned()), "{alert}: {link} leads nowhere");
            assert_eq!(anchor, alert.to_lowercase(), "{alert} leads to another's heading");
        }
    }

    #[test]
    fn every_panel_has_a_title_a_unit_and_a_description_and_a_place_of_its_own() {
        let dashboard = dashboard().expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let (mut ids, mut titles, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in panels {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}: its id");
            assert!(titles.insert(title), "{title} is there twice");
            let at = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{title} is wider than the page");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{title} overlaps another panel");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{title}: a description in sentences");
            assert_ne!(panel["fieldConfig"]["defaults"]["unit"], Value::Null, "{title}: a unit");
            assert_ne!(panel["targets"][0]["expr"], Value::Null, "{title}: something to show");
        }
    }

    #[test]
    fn jobs_that_expressions_select_are_those_of_the_pod_monitors() {
        let monitors = pod_monitors().expect("PodMonitors");
        let jobs: BTreeSet<String> = monitors
            .iter()
            .map(|(_, monitor)| {
                let value = &monitor.selector["matchLabels"][&monitor.job_label];
                value.as_str().expect("the label that becomes the job is selected").to_owned()
            })
            .collect();
        let mut selected = BTreeSet::new();
        for expression in expressions().expect("files") {
            for selector in selectors(&expression.text).expect("PromQL") {
                selected.extend(selector.value_of("job").map(str::to_owned));
            }
        }
        assert_eq!(selected, jobs);
    }
}

//! What a pod exposes, read as Prometheus reads it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// One time series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value now.
    pub value: f64,
}

/// The port of every pod of ours that only those who watch it reach.
const ADMIN_PORT: u16 = 8081;

/// Reads what a pod of ours exposes.
pub async fn admin_port(pod: &Pod) -> Result<Vec<Series>> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let url = format!("http://{}:{ADMIN_PORT}/metrics", address.context("a pod has an address")?);
    parse(&reqwest::get(&url).await?.error_for_status()?.text().await?)
}

/// A counter, summed over all its series with these labels.
#[must_use]
pub fn count(series: &[Series], name: &str, labels: &[(&str, &str)]) -> u64 {
    let has_labels = |one: &Series| {
        labels.iter().all(|(key, value)| one.labels.get(*key).is_some_and(|it| it == value))
    };
    let found = series.iter().filter(|one| one.name == name && has_labels(one));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what happened is counted in whole numbers, from 0 on"
    )]
    found.map(|one| one.value as u64).sum()
}

/// Reads the text format.
pub fn parse(text: &str) -> Result<Vec<Series>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_line(line).with_context(|| line.to_owned())).collect()
}

fn parse_line(line: &str) -> Result<Series> {
    let end = line.find(['{', ' ']).context("expected a value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = parse_labels(inner, &mut labels)?;
    }
    let value = rest.split_whitespace().next().context("expected a value")?;
    Ok(Series { name: name.to_owned(), labels, value: value.parse()? })
}

/// Reads `name="value",…}` and gives what comes after it.
fn parse_labels<'a>(mut rest: &'a str, labels: &mut Labels) -> Result<&'a str> {
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, quoted) = rest.split_once("=\"").context("expected name=\"value\"")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

fn unquote(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next().context("expected a character after \\")?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    bail!("expected a closing quote")
}

#[cfg(test)]
mod tests {
    use super::{Labels, count, parse};

    #[test]
    fn the_text_format_is_read() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"a \\\"b\\\" }\\\\\"} 2\n\nb 0.5\nc{} +Inf 17\n";
        let series = parse(text).expect("the format");
        let (a, b, c) = (&series[0], &series[1], &series[2]);
        let labels = [("x", "1"), ("y", r#"a "b" }\"#)];
        let labels: Labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!((a.name.as_str(), &a.labels, a.value), ("a", &labels, 2.0));
        assert_eq!((b.name.as_str(), b.labels.len(), b.value), ("b", 0, 0.5));
        assert_eq!((c.name.as_str(), c.value), ("c", f64::INFINITY));
        for wrong in ["a", "a{x=\"1\" 2", "a{x} 1", "a one"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_counter_is_summed_over_its_labels() {
        let text = "# TYPE reconcile_total counter\nreconcile_total{outcome=\"applied\"} 40\n\
                    reconcile_total{outcome=\"a b\"} 2\nreconcile_total_other 7\n";
        let series = parse(text).expect("the format");
        assert_eq!(count(&series, "reconcile_total", &[]), 42);
        assert_eq!(count(&series, "reconcile_total", &[("outcome", "a b")]), 2);
        assert_eq!(count(&series, "portals", &[]), 0);
    }
}

//! What it costs to fit one pool.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::figure::{Figure, Goal};

const GOAL: Goal = Goal::AtMost(0.1);

/// Runs the example `fit_cost`, which takes medians itself.
pub(crate) async fn measure(fit_cost: &Path, mut found: impl FnMut(Figure)) -> Result<()> {
    let output = Command::new(fit_cost).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("failed to start {}", fit_cost.display()))?;
    ensure!(output.status.success(), "fit_cost ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    found(Figure::new("fit_cost_per_pool", parse(&text, "fit_ns")? / 1e6, "ms").with_goal(GOAL));
    found(Figure::new("assess_cost_per_pool", parse(&text, "assess_ns")? / 1e6, "ms"));
    Ok(())
}

/// The value in the line `name value`.
fn parse(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("fit_cost printed no {name}: {text}"))?;
    value.parse().with_context(|| format!("{name} is not a number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn costs_are_read_by_their_names() {
        let text = "fit_ns 31234\nassess_ns 12.5\n";
        assert!((parse(text, "fit_ns").unwrap() - 31_234.0).abs() < 1e-9);
        assert!((parse(text, "assess_ns").unwrap() - 12.5).abs() < 1e-9);
        assert!(parse(text, "fit").is_err());
    }
}

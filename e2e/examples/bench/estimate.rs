//! What it costs to take in an observation, and to give an answer.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::figure::{Figure, Goal};

const OBSERVE_GOAL: Goal = Goal::AtMost(1000.0);
const ASSESS_GOAL: Goal = Goal::AtMost(100.0);

/// Runs the example `estimate_cost`, which takes medians itself.
pub(crate) async fn measure(estimate_cost: &Path, mut found: impl FnMut(Figure)) -> Result<()> {
    let output = Command::new(estimate_cost).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("failed to start {}", estimate_cost.display()))?;
    ensure!(output.status.success(), "estimate_cost ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    found(Figure::new("observe_cost", parse(&text, "observe_ns")?, "ns").with_goal(OBSERVE_GOAL));
    found(Figure::new("assess_cost", parse(&text, "assess_ns")?, "ns").with_goal(ASSESS_GOAL));
    Ok(())
}

/// The value in the line `name value` of what an example printed.
pub(crate) fn parse(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("the example printed no {name}: {text}"))?;
    value.parse().with_context(|| format!("{name} is not a number: {value}"))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn costs_are_read_by_their_names() {
        let text = "observe_ns 31234\nassess_ns 12.5\n";
        assert!((parse(text, "observe_ns").unwrap() - 31_234.0).abs() < 1e-9);
        assert!((parse(text, "assess_ns").unwrap() - 12.5).abs() < 1e-9);
        assert!(parse(text, "observe").is_err());
    }
}

//! What was measured, and what was hoped for.

use std::fmt;

use serde::{Serialize, Serializer};

/// Digits that are kept of a value; more would be noise.
const SIGNIFICANT_DIGITS: i32 = 4;

/// One number with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

/// What a value should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    /// A number for its own sake.
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value: round(value), unit, goal: None }
    }

    /// The same with a goal. It is held against the rounded value, so that readers come to the same
    /// verdict.
    pub(crate) fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// `name value unit (goal …)`.
impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, goal } = self;
        write!(formatter, "{name} {value} {unit} ")?;
        match goal {
            None => formatter.write_str("(goal none)"),
            Some(goal) if goal.is_met_by(*value) => write!(formatter, "(goal {goal})"),
            Some(goal) => write!(formatter, "(goal {goal}, missed)"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(formatter, ">= {least}"),
            Self::AtMost(most) => write!(formatter, "<= {most}"),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // From the largest digit to the last one that is kept.
    let mut scale = 1.0;
    while value.abs() * scale < 10_f64.powi(SIGNIFICANT_DIGITS - 1) {
        scale *= 10.0;
    }
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Figure, Goal};

    #[test]
    fn a_line_has_name_value_unit_and_goal() {
        let ratio = |value| Figure::new("hardware_vs_hyper_requests", value, "ratio");
        let goal = Goal::AtLeast(0.9);
        for (figure, line) in [
            (ratio(0.95), "hardware_vs_hyper_requests 0.95 ratio (goal none)"),
            (ratio(0.95).with_goal(goal), "hardware_vs_hyper_requests 0.95 ratio (goal >= 0.9)"),
            (
                ratio(0.89).with_goal(goal),
                "hardware_vs_hyper_requests 0.89 ratio (goal >= 0.9, missed)",
            ),
            (
                Figure::new("size", 15.1, "MB").with_goal(Goal::AtMost(15.0)),
                "size 15.1 MB (goal <= 15, missed)",
            ),
        ] {
            assert_eq!(figure.to_string(), line);
        }
    }

    #[test]
    fn json_has_the_same_four_parts() {
        let figure = Figure::new("some_cost", 0.0312, "ms");
        let expected = json!({"name": "some_cost", "value": 0.0312, "unit": "ms", "goal": null});
        assert_eq!(serde_json::to_value(figure.clone()).unwrap(), expected);
        let expected =
            json!({"name": "some_cost", "value": 0.0312, "unit": "ms", "goal": "<= 0.1"});
        assert_eq!(serde_json::to_value(figure.with_goal(Goal::AtMost(0.1))).unwrap(), expected);
    }

    #[test]
    fn values_are_rounded_but_whole_digits_stay() {
        for (value, rounded) in [
            (34_567.89, 34_568.0),
            (0.912_345, 0.9123),
            (12.345_6, 12.35),
            (0.0, 0.0),
            (0.000_123_456, 0.000_123_5),
        ] {
            assert_eq!(
                Figure::new("", value, "").value.to_bits(),
                f64::to_bits(rounded),
                "{value}"
            );
        }
    }
}

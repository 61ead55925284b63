//! Which series an expression of PromQL reads.

use std::{collections::BTreeSet, fmt};

use anyhow::{Result, anyhow};
use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, LabelModifier, VectorSelector},
};

/// The series that one selector reads, and every label that the expression needs of them.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Name of the metric.
    pub metric: String,
    /// Conditions on the values of labels.
    pub matchers: Vec<Matcher>,
    /// Labels that matchers, groupings and joins name.
    pub labels: BTreeSet<String>,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matchers: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
        write!(f, "{}{{{}}} by {:?}", self.metric, matchers.join(", "), self.labels)
    }
}

impl Selector {
    /// The value that a label must have, if there is exactly one.
    #[must_use]
    pub fn value_of(&self, label: &str) -> Option<&str> {
        let mut matchers = self.matchers.iter();
        let found = matchers.find(|it| it.name == label && it.op == MatchOp::Equal)?;
        Some(&found.value)
    }
}

/// Parses an expression, and gives every selector in it.
pub fn selectors(expression: &str) -> Result<Vec<Selector>> {
    let parsed = parser::parse(expression).map_err(|error| anyhow!("{error}: {expression}"))?;
    let mut found = Vec::new();
    collect(&parsed, &BTreeSet::new(), &mut found)?;
    Ok(found)
}

/// `needed` are the labels that what is around the expression takes from it.
fn collect(expr: &Expr, needed: &BTreeSet<String>, found: &mut Vec<Selector>) -> Result<()> {
    match expr {
        Expr::VectorSelector(selector) => found.push(read(selector, needed)?),
        Expr::MatrixSelector(matrix) => found.push(read(&matrix.vs, needed)?),
        Expr::Aggregate(aggregate) => {
            let mut needed = needed.clone();
            if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                needed.extend(labels.labels.iter().cloned());
            }
            if let Some(parameter) = &aggregate.param {
                collect(parameter, &BTreeSet::new(), found)?;
            }
            collect(&aggregate.expr, &needed, found)?;
        }
        Expr::Binary(binary) => {
            let mut needed = needed.clone();
            let matching = binary.modifier.as_ref().and_then(|it| it.matching.as_ref());
            if let Some(LabelModifier::Include(labels)) = matching {
                needed.extend(labels.labels.iter().cloned());
            }
            collect(&binary.lhs, &needed, found)?;
            collect(&binary.rhs, &needed, found)?;
        }
        Expr::Call(call) => {
            for argument in &call.args.args {
                collect(argument, needed, found)?;
            }
        }
        Expr::Paren(inner) => collect(&inner.expr, needed, found)?,
        Expr::Unary(inner) => collect(&inner.expr, needed, found)?,
        Expr::Subquery(inner) => collect(&inner.expr, needed, found)?,
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        Expr::Extension(_) => return Err(anyhow!("{expr} is no PromQL of Prometheus")),
    }
    Ok(())
}

fn read(selector: &VectorSelector, needed: &BTreeSet<String>) -> Result<Selector> {
    let metric = selector.name.clone();
    let metric = metric.ok_or_else(|| anyhow!("{selector} names no metric"))?;
    let matchers = selector.matchers.matchers.clone();
    let mut labels = needed.clone();
    labels.extend(matchers.iter().map(|matcher| matcher.name.clone()));
    Ok(Selector { metric, matchers, labels })
}

#[cfg(test)]
mod tests {
    use super::selectors;

    #[test]
    fn every_selector_is_found_with_the_labels_that_are_taken_from_it() {
        let expression = r#"
            histogram_quantile(0.9, sum by (le, route) (rate(a_bucket{job="j"}[5m])))
              / on (zone) group_left max without (pod) (b offset 5m)
            or absent(c{x!="1"}) > topk by (y) (3, d)"#;
        let found: Vec<String> =
            selectors(expression).expect("PromQL").iter().map(ToString::to_string).collect();
        let expected = [
            r#"a_bucket{job="j"} by {"job", "le", "route", "zone"}"#,
            r#"b{} by {"zone"}"#,
            r#"c{x!="1"} by {"x"}"#,
            r#"d{} by {"y"}"#,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_promql_is_refused() {
        for wrong in ["sum by (a", "rate(a)", "a[5m] > 1", "nosuch(a)", "{job=\"j\"}"] {
            assert!(selectors(wrong).is_err(), "{wrong}");
        }
    }
}

//! Answers of `/api/v1/query`, and the pools that follow from two of them. Pure.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Deserialize;

use super::PoolQuery;
use crate::statement::{Pool, Pools, Seen};

/// Body of `GET /api/v1/query`, as the documentation of Prometheus has it.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) status: String,
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) data: Option<Data>,
}

/// What a query came to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    result_type: String,
    result: serde_json::Value,
}

/// A time, and a number in text.
pub(super) type Sample = (f64, String);

/// One series.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Series {
    #[serde(default)]
    pub(super) metric: BTreeMap<String, String>,
    pub(super) value: Sample,
}

impl Data {
    /// Its series; a number is one without labels.
    pub(super) fn into_series(self) -> Result<Vec<Series>, String> {
        let series = match self.result_type.as_str() {
            "vector" => serde_json::from_value(self.result),
            "scalar" => serde_json::from_value(self.result)
                .map(|value| vec![Series { metric: BTreeMap::new(), value }]),
            "matrix" => {
                return Err("a range of values; take max_over_time or the like of it".to_owned());
            }
            other => return Err(format!("a {other} instead of numbers")),
        };
        series.map_err(|error| format!("something that is none of Prometheus ({error})"))
    }
}

/// The pools of which both numbers are known, and what was wrong with the others.
pub(super) fn pools(
    query: &PoolQuery,
    total: &[Series],
    in_use: &[Series],
) -> (Pools, Vec<String>) {
    let mut complaints = Vec::new();
    let totals = by_pool(query, "total", total, &mut complaints);
    let mut taken = by_pool(query, "inUse", in_use, &mut complaints);
    let mut pools = Pools::new();
    for (pool, total) in totals {
        match taken.remove(&pool) {
            Some(in_use) => {
                // What is half taken is taken, and half a unit is none.
                let (total, in_use) = (whole(total.floor()), whole(in_use.ceil()));
                pools.insert(pool, Seen::Counts { total, in_use: in_use.min(total) });
            }
            None => complaints.push(format!("inUse gives nothing for {}", pool.name)),
        }
    }
    complaints.extend(taken.keys().map(|pool| format!("total gives nothing for {}", pool.name)));
    (pools, complaints)
}

fn by_pool(
    query: &PoolQuery,
    field: &str,
    series: &[Series],
    complaints: &mut Vec<String>,
) -> BTreeMap<Pool, f64> {
    let mut numbers = BTreeMap::new();
    for Series { metric, value: (_, number) } in series {
        let entry = query.pool(metric).and_then(|pool| {
            let number = number.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 0.0);
            let number = number.ok_or_else(|| format!("{field} of {} is no count", pool.name))?;
            Ok((pool, number))
        });
        match entry {
            Err(complaint) => complaints.push(complaint),
            Ok((pool, number)) => match numbers.entry(pool) {
                Entry::Vacant(entry) => {
                    entry.insert(number);
                }
                Entry::Occupied(entry) => complaints.push(format!(
                    "{field} gives several series for {}; write sum by (…) of the labels that name it",
                    entry.key().name
                )),
            },
        }
    }
    numbers
}

/// A whole number that is not negative, at most the largest that the API takes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before")]
fn whole(number: f64) -> u32 {
    number.min(f64::from(i32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Answer, Series, pools};
    use crate::{
        sources::prometheus::{Options, PoolQuery},
        statement::Seen,
    };

    fn query() -> PoolQuery {
        let options: Options = serde_json::from_value(json!({"url": "http://p:9090", "pools": [{
            "total": "a", "inUse": "b", "provider": "Lab", "name": "{partition}", "region": "{site}",
        }]}))
        .expect("options");
        options.queries().expect("good").remove(0)
    }

    fn series(list: &Value) -> Vec<Series> {
        let body = json!({"status": "success", "data": {"resultType": "vector", "result": list}});
        let answer: Answer = serde_json::from_value(body).expect("an answer");
        answer.data.expect("data").into_series().expect("series")
    }

    fn one(partition: &str, value: &str) -> Value {
        json!({"metric": {"partition": partition, "site": "x"}, "value": [1_700_000_000.5, value]})
    }

    #[test]
    fn both_numbers_of_a_pool_make_it() {
        let total = series(&json!([one("gpu", "8"), one("cpu", "16.9"), one("new", "4")]));
        let in_use = series(&json!([one("cpu", "3.1"), one("gpu", "9"), one("old", "1")]));
        let (pools, complaints) = pools(&query(), &total, &in_use);
        let found: Vec<_> = pools.iter().map(|(pool, seen)| (pool.name.as_str(), *seen)).collect();
        let counts = |in_use, total| Seen::Counts { total, in_use };
        assert_eq!(found, [("cpu", counts(4, 16)), ("gpu", counts(8, 8))]);
        assert_eq!(complaints, ["inUse gives nothing for new", "total gives nothing for old"]);
    }

    #[test]
    fn what_is_no_count_or_has_no_name_leaves_the_others_alone() {
        let total = series(&json!([
            one("a", "NaN"), one("b", "+Inf"), one("c", "-1"), one("d", "1"), one("d", "2"),
            {"metric": {"site": "x"}, "value": [0, "1"]}, one(" ", "1"),
        ]));
        let in_use = series(&json!([one("d", "0")]));
        let (pools, complaints) = pools(&query(), &total, &in_use);
        assert_eq!(pools.len(), 1, "{pools:?}");
        assert_eq!(
            complaints,
            [
                "total of a is no count",
                "total of b is no count",
                "total of c is no count",
                "total gives several series for d; write sum by (…) of the labels that name it",
                "a series lacks the label partition, which name is made of",
                "name is empty for a series",
            ]
        );
    }

    #[test]
    fn a_number_is_a_series_and_a_range_is_not() {
        let data = |data: Value| -> Answer {
            serde_json::from_value(json!({"status": "success", "data": data})).expect("an answer")
        };
        let scalar = data(json!({"resultType": "scalar", "result": [1, "3"]}));
        assert_eq!(scalar.data.expect("data").into_series().expect("one")[0].value.1, "3");
        let range = data(json!({"resultType": "matrix", "result": []}));
        assert!(range.data.expect("data").into_series().is_err());
    }
}

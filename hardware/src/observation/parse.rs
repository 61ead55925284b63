//! The body of `POST /v1/observations`, checked field by field, so that whoever sent it learns which
//! one is wrong, what was found there and what is expected.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    Batch, Count, Observation, PoolName,
    fields::{Object, Path},
};

/// Observations in one batch.
pub const MAX_OBSERVATIONS: usize = 10_000;

const DEFAULT_INTERVAL_S: i32 = 60;
/// A day, the longest interval a fit accepts.
const MAX_INTERVAL_S: i64 = 86_400;

/// Lengths of the columns, in characters.
const MAX_NAME: usize = 128;
const MAX_PLACE: usize = 64;

/// Why a batch was refused. Nothing of it has been applied then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The body is not JSON.
    #[error("failed to read the body as JSON: {0}")]
    Json(String),
    /// A field is missing, unknown or holds something else than it should.
    #[error("field {field}: expected {expected}, found {found}")]
    Field {
        /// Path of the field.
        field: String,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: String,
    },
    /// An observation was made in the future.
    #[error(
        "field {field}: expected a time up to a minute ahead of this clock ({now}), found {found}"
    )]
    Future {
        /// Path of the field.
        field: String,
        /// What it holds.
        found: String,
        /// This server's time.
        now: String,
    },
}

/// Reads and checks a batch that arrives at `now`.
pub fn parse_batch(body: &[u8], now: DateTime<Utc>) -> Result<Batch, BatchError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| BatchError::Json(error.to_string()))?;
    let batch =
        Object::new(&value, Path::root(), &["source", "expected_interval_s", "observations"])?;
    let source = batch.text("source", MAX_NAME)?.required(&batch, "source")?;
    let interval = batch.integer("expected_interval_s", 1, MAX_INTERVAL_S)?;
    let list = match batch.get("observations") {
        Some(Value::Array(list)) if list.len() <= MAX_OBSERVATIONS => list,
        Some(Value::Array(list)) => {
            let found = format!("a list of {}", list.len());
            return Err(batch.wrong_as(
                "observations",
                found,
                &format!("at most {MAX_OBSERVATIONS} observations"),
            ));
        }
        _ => return Err(batch.wrong("observations", "a list of observations")),
    };
    let observations = list.iter().enumerate().map(|(index, value)| {
        parse_observation(value, batch.path.child("observations").item(index), now)
    });
    Ok(Batch {
        source,
        expected_interval_s: interval.unwrap_or(DEFAULT_INTERVAL_S),
        observations: observations.collect::<Result<_, _>>()?,
    })
}

fn parse_observation(
    value: &Value,
    path: Path,
    now: DateTime<Utc>,
) -> Result<Observation, BatchError> {
    const FIELDS: [&str; 10] = [
        "provider",
        "name",
        "region",
        "zone",
        "tier",
        "unit",
        "observed_at",
        "total",
        "in_use",
        "available",
    ];
    let fields = Object::new(value, path, &FIELDS)?;
    let place = |name, default: &str| {
        fields.text(name, MAX_PLACE).map(|text| text.0.unwrap_or_else(|| default.to_owned()))
    };
    let pool = PoolName {
        provider: fields.text("provider", MAX_NAME)?.required(&fields, "provider")?,
        name: fields.text("name", MAX_NAME)?.required(&fields, "name")?,
        region: place("region", "")?,
        zone: place("zone", "")?,
        tier: place("tier", "on-demand")?,
        unit: place("unit", "unit")?,
    };
    let observed_at = fields.time("observed_at", now)?;
    Ok(Observation { pool, observed_at, count: parse_count(&fields)? })
}

fn parse_count(fields: &Object) -> Result<Count, BatchError> {
    let max = i64::from(i32::MAX);
    if fields.get("available").is_some() {
        for name in ["total", "in_use"] {
            if fields.get(name).is_some() {
                return Err(fields.wrong(name, "nothing here, as available is given"));
            }
        }
        let Some(Value::Bool(available)) = fields.get("available") else {
            return Err(fields.wrong("available", "true or false"));
        };
        return Ok(Count { total: None, free: i32::from(*available) });
    }
    let total = fields.integer("total", 0, max)?;
    let total = total
        .ok_or_else(|| fields.wrong("total", "units in total (or available: true or false)"))?;
    let in_use = fields.integer("in_use", 0, i64::from(total))?;
    let in_use = in_use.ok_or_else(|| fields.wrong("in_use", "units in use"))?;
    Ok(Count { total: Some(total), free: total - in_use })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::json;

    use super::{BatchError, parse_batch};
    use crate::observation::{Batch, Count};

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").expect("a time").to_utc()
    }

    fn parse(body: &serde_json::Value) -> Result<Batch, BatchError> {
        parse_batch(body.to_string().as_bytes(), now())
    }

    /// What is said of one observation with these members changed.
    fn complaint(members: &serde_json::Value) -> String {
        let mut observation = json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": 6});
        for (name, value) in members.as_object().expect("an object") {
            observation[name] = value.clone();
        }
        let error = parse(&json!({"source": "lab", "observations": [observation]}));
        error.expect_err("refused").to_string()
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let observation = json!({"provider": " Amazon ", "name": "c5", "total": 8, "in_use": 6});
        let batch = parse(&json!({"source": "lab", "observations": [observation]})).expect("good");
        assert_eq!((batch.source.as_str(), batch.expected_interval_s), ("lab", 60));
        let observation = &batch.observations[0];
        assert_eq!(observation.pool.provider, "Amazon");
        assert_eq!(observation.pool.tier, "on-demand");
        assert_eq!(observation.observed_at, now().naive_utc());
        assert_eq!(observation.count, Count { total: Some(8), free: 2 });
    }

    #[test]
    fn a_wrong_field_is_named_with_what_was_found_and_what_is_expected() {
        let cases = [
            (
                json!({"total": "8"}),
                "field observations[0].total: expected a whole number from 0 to 2147483647, found \"8\"",
            ),
            (
                json!({"in_use": 9}),
                "field observations[0].in_use: expected a whole number from 0 to 8, found 9",
            ),
            (
                json!({"name": "  "}),
                "field observations[0].name: expected a text that is not empty, found \"  \"",
            ),
            (
                json!({"available": true}),
                "field observations[0].total: expected nothing here, as available is given, found 8",
            ),
            (
                json!({"observed_at": "yesterday"}),
                "field observations[0].observed_at: expected a time such as 2026-01-31T12:00:00Z, \
                 found \"yesterday\"",
            ),
            (
                json!({"observed_at": "2026-01-01T00:01:01Z"}),
                "field observations[0].observed_at: expected a time up to a minute ahead of this \
                 clock (2026-01-01T00:00:00+00:00), found \"2026-01-01T00:01:01Z\"",
            ),
        ];
        for (members, expected) in cases {
            assert_eq!(complaint(&members), expected);
        }
        assert!(complaint(&json!({"colour": "red"})).starts_with("field observations[0].colour"));
    }

    #[test]
    fn a_wrong_batch_is_named_as_well() {
        let error = parse(&json!({"observations": []})).expect_err("nobody reports");
        assert_eq!(
            error.to_string(),
            "field source: expected a text that is not empty, found nothing"
        );
        let error = parse(&json!([1, 2])).expect_err("no object");
        assert_eq!(error.to_string(), "field the body: expected an object, found a list of 2");
        assert!(matches!(parse_batch(b"{", now()), Err(BatchError::Json(_))));
    }

    #[test]
    fn a_small_skew_of_clocks_is_tolerated() {
        let observation = json!({"provider": "p", "name": "n", "available": true,
            "observed_at": "2026-01-01T00:00:59.9996Z"});
        let batch = parse(&json!({"source": "lab", "observations": [observation]}));
        let observed_at = batch.expect("good").observations[0].observed_at;
        assert_eq!(observed_at.and_utc().timestamp_subsec_millis(), 999, "cut to milliseconds");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse_batch(&body, now()));
        }

        #[test]
        fn no_value_makes_the_parser_panic(
            field in "source|observations|total|in_use|observed_at|available|provider",
            text in ".{0,100}", number in any::<f64>(),
        ) {
            for value in [json!(text), json!(number), json!([]), json!({}), json!(null)] {
                let mut body = json!({"source": "s", "observations": [{"provider": "p",
                    "name": "n", "total": 1, "in_use": 0}]});
                if body.get(&field).is_some() {
                    body[&field] = value;
                } else {
                    body["observations"][0][&field] = value;
                }
                drop(parse(&body));
            }
        }

        #[test]
        fn units_are_taken_if_no_more_are_in_use_than_there_are(
            total in -2_i32..20, in_use in -2_i32..20,
        ) {
            let observation = json!({"provider": "p", "name": "n", "total": total, "in_use": in_use});
            let batch = parse(&json!({"source": "s", "observations": [observation]}));
            let count = batch.map(|batch| batch.observations[0].count).ok();
            let free = total - in_use;
            let is_possible = in_use >= 0 && free >= 0;
            prop_assert_eq!(count, is_possible.then_some(Count { total: Some(total), free }));
        }
    }
}

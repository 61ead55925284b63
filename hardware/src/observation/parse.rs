//! The body of `POST /v1/observations`, checked field by field, so that whoever sent it learns which
//! one is wrong, what was found there and what is expected.

use availability::{Observation, Timestamp};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::{
    Batch, Item, PoolName, Refusals, ReportedProblem, Unlisted,
    fields::{Object, Path},
    interval_of,
};

/// Observations in one batch.
pub const MAX_OBSERVATIONS: usize = 10_000;

const DEFAULT_INTERVAL_S: u32 = 60;
/// A day, the longest interval that the definition of levels accepts.
const MAX_INTERVAL_S: u32 = 86_400;

/// What a column of the database holds.
pub const MAX_UNITS: u32 = i32::MAX.unsigned_abs();

/// Length of the columns provider, name and source, in characters.
pub const MAX_NAME: usize = 128;
/// Length of the columns region, zone, tier and unit, in characters.
pub const MAX_PLACE: usize = 64;
/// Length of the columns of a problem, in characters.
const MAX_PROBLEM_CODE: usize = 64;
const MAX_PROBLEM_DETAIL: usize = 500;

/// Some programs put it before a text in UTF-8. JSON allows a reader to skip it (RFC 8259, section 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

const BATCH_FIELDS: &[&str] =
    &["source", "expected_interval_s", "observed_at", "unlisted", "problem", "observations"];
const PROBLEM_FIELDS: &[&str] = &["code", "detail"];
const OBSERVATION_FIELDS: &[&str] = &[
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

/// Why a batch, or one observation of it, was refused.
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

impl BatchError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "invalid_json",
            Self::Field { .. } => "invalid_field",
            Self::Future { .. } => "observed_in_future",
        }
    }
}

/// A body that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The observations that are well formed.
    pub batch: Batch,
    /// The others.
    pub refusals: Refusals,
    /// How many observations got the time of arrival, as neither they nor the batch say when they
    /// were made.
    pub undated: u32,
}

/// Reads a batch that arrives at `now`. Observations that are wrong leave the others alone; an error
/// is about the batch itself.
pub fn parse_batch(body: &[u8], now: DateTime<Utc>) -> Result<Received, BatchError> {
    let fields = Object::new(read_body(body)?, Path::root(), BATCH_FIELDS)?;
    let source = fields.text("source", MAX_NAME)?.required(&fields, "source")?;
    let interval = fields.integer("expected_interval_s", 1, MAX_INTERVAL_S)?;
    let observed_at = fields.time("observed_at", now)?;
    let list = fields.list("observations", MAX_OBSERVATIONS)?;
    let path = fields.path.child("observations");

    let arrived = Timestamp::from_millis(now.timestamp_millis());
    let unlisted = parse_unlisted(&fields, observed_at.unwrap_or(arrived))?;
    let problem = parse_problem(&fields)?;
    let mut items = Vec::with_capacity(list.len());
    let (mut refusals, mut undated) = (Refusals::default(), 0);
    for (index, item) in (0..).zip(list) {
        match parse_item(item, path.item(index), now) {
            Ok((pool, at, observation)) => {
                let at = at.or(observed_at);
                undated += u32::from(at.is_none());
                items.push(Item { index, pool, at: at.unwrap_or(arrived), observation });
            }
            Err(error) => refusals.add(index, error.code(), error.to_string()),
        }
    }
    let interval = interval_of(interval.unwrap_or(DEFAULT_INTERVAL_S));
    let is_whole = refusals.total() == 0;
    let batch = Batch { source, interval, unlisted, problem, items, is_whole };
    Ok(Received { batch, refusals, undated })
}

/// The JSON value that a body is.
pub(super) fn read_body(body: &[u8]) -> Result<&RawValue, BatchError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    serde_json::from_slice(body).map_err(|error| BatchError::Json(error.to_string()))
}

/// What a batch of time `at` says of pools that it does not list.
fn parse_unlisted(fields: &Object, at: Timestamp) -> Result<Option<Unlisted>, BatchError> {
    const EXPECTED: &str = "\"unchanged\" or \"gone\"";
    let text =
        fields.text("unlisted", MAX_PLACE).map_err(|_| fields.wrong("unlisted", EXPECTED))?;
    match text.0.as_deref() {
        None => Ok(None),
        Some("unchanged") => Ok(Some(Unlisted::Unchanged(at))),
        Some("gone") => Ok(Some(Unlisted::Gone(at))),
        Some(_) => Err(fields.wrong("unlisted", EXPECTED)),
    }
}

/// What keeps the source from seeing its pools as they are.
fn parse_problem(fields: &Object) -> Result<Option<ReportedProblem>, BatchError> {
    let Some(problem) = fields.get("problem") else { return Ok(None) };
    let problem = Object::new(problem, fields.path.child("problem"), PROBLEM_FIELDS)?;
    let code = problem.code("code", MAX_PROBLEM_CODE)?;
    let detail = problem.text("detail", MAX_PROBLEM_DETAIL)?.required(&problem, "detail")?;
    if fields.get("unlisted").is_some() {
        let expected =
            "nothing here, as a source with a problem does not see what it does not list";
        return Err(fields.wrong("unlisted", expected));
    }
    Ok(Some(ReportedProblem { code, detail }))
}

type Parsed = (PoolName, Option<Timestamp>, Observation);

fn parse_item(item: &RawValue, path: Path, now: DateTime<Utc>) -> Result<Parsed, BatchError> {
    let fields = Object::new(item, path, OBSERVATION_FIELDS)?;
    let pool = parse_pool_name(&fields)?;
    let at = fields.time("observed_at", now)?;
    Ok((pool, at, parse_observation(&fields)?))
}

/// The names of the pool that an item is about.
pub(super) fn parse_pool_name(fields: &Object) -> Result<PoolName, BatchError> {
    let place = |name, default: &str| {
        fields.text(name, MAX_PLACE).map(|text| text.0.unwrap_or_else(|| default.to_owned()))
    };
    Ok(PoolName {
        provider: fields.text("provider", MAX_NAME)?.required(fields, "provider")?,
        name: fields.text("name", MAX_NAME)?.required(fields, "name")?,
        region: place("region", "")?,
        zone: place("zone", "")?,
        tier: place("tier", "on-demand")?,
        unit: place("unit", "unit")?,
    })
}

fn parse_observation(fields: &Object) -> Result<Observation, BatchError> {
    if let Some(is_available) = fields.boolean("available")? {
        for name in ["total", "in_use"] {
            if fields.get(name).is_some() {
                return Err(fields.wrong(name, "nothing here, as available is given"));
            }
        }
        return Ok(Observation::Available(is_available));
    }
    let total = fields.integer("total", 0, MAX_UNITS)?;
    let total = total
        .ok_or_else(|| fields.wrong("total", "units in total (or available: true or false)"))?;
    let in_use = fields.integer("in_use", 0, MAX_UNITS)?;
    let in_use = in_use.ok_or_else(|| fields.wrong("in_use", "units in use"))?;
    // A pool that shrinks keeps what runs there until it ends.
    Ok(Observation::counts(total, in_use))
}

#[cfg(test)]
mod tests {
    use availability::{Observation, Timestamp};
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{BatchError, MAX_OBSERVATIONS, Received, parse_batch};
    use crate::observation::{Batch, ReportedProblem, Unlisted};

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").expect("a time").to_utc()
    }

    fn arrived() -> Timestamp {
        Timestamp::from_millis(now().timestamp_millis())
    }

    fn parse(body: &Value) -> Result<Received, BatchError> {
        parse_batch(body.to_string().as_bytes(), now())
    }

    /// A batch of one observation, written as JSON writes it.
    fn parse_one(observation: &str) -> Received {
        let body = format!(r#"{{"source": "lab", "observations": [{observation}]}}"#);
        parse_batch(body.as_bytes(), now()).expect("a good batch")
    }

    /// Code and detail of what is said of one observation.
    fn complaint(observation: &str) -> (String, String) {
        let received = parse_one(observation);
        assert_eq!(received.batch.items, [], "{observation}");
        let refused = received.refusals.into_listed().remove(0);
        assert_eq!(refused.index, 0);
        (refused.code, refused.detail)
    }

    fn only_batch(received: Received) -> Batch {
        assert_eq!(received.refusals.clone().into_listed(), []);
        received.batch
    }

    /// Any JSON, often with the names of fields.
    fn json_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,10}".prop_map(Value::from),
            Just(Value::from("2025-12-31T23:00:00Z")),
        ];
        let name = "provider|name|region|tier|observed_at|total|in_use|available|.{0,5}";
        scalar.prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..6).prop_map(|members| members
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let observation = json!({"provider": " Amazon ", "name": "c5", "total": 8, "in_use": 6});
        let received = parse(&json!({"source": "lab", "observations": [observation]}));
        let received = received.expect("good");
        assert_eq!(received.undated, 1);
        let batch = only_batch(received);
        assert_eq!((batch.source.as_str(), batch.interval.get().as_secs()), ("lab", 60));
        assert_eq!(batch.unlisted, None);
        let item = &batch.items[0];
        assert_eq!(item.pool.provider, "Amazon");
        assert_eq!(item.pool.tier, "on-demand");
        assert_eq!(item.at, arrived());
        assert_eq!(item.observation, Observation::counts(8, 6));
    }

    #[test]
    fn whole_numbers_are_taken_however_json_writes_them() {
        let table = [
            ("8", "6", (8, 2)),
            ("8.0", "6.000", (8, 2)),
            ("1e1", "0.1E1", (10, 9)),
            ("80e-1", "-0", (8, 8)),
            ("8", "-0.0", (8, 8)),
            ("2147483647", "2147483647", (2_147_483_647, 0)),
            ("8", "9", (8, 0)),
            ("0", "2147483647", (0, 0)),
        ];
        for (total, in_use, (expected_total, free)) in table {
            let observation = format!(
                r#"{{"provider": "p", "name": "n", "total": {total}, "in_use": {in_use}}}"#
            );
            let batch = only_batch(parse_one(&observation));
            let expected = Observation::counts(expected_total, expected_total - free);
            assert_eq!(batch.items[0].observation, expected, "{observation}");
        }
    }

    #[test]
    fn a_wrong_number_is_shown_as_it_was_sent() {
        for wrong in ["8.5", "-1", "2147483648", "1e400", "1E-1", "\"8\"", "true"] {
            let observation =
                format!(r#"{{"provider": "p", "name": "n", "total": {wrong}, "in_use": 0}}"#);
            let (code, detail) = complaint(&observation);
            assert_eq!(code, "invalid_field");
            assert_eq!(
                detail,
                format!(
                    "field observations[0].total: expected a whole number from 0 to 2147483647, \
                     found {wrong}"
                )
            );
        }
    }

    #[test]
    fn a_wrong_field_is_named_with_what_was_found_and_what_is_expected() {
        let cases = [
            (
                r#""in_use": [1, 2]"#,
                "in_use: expected a whole number from 0 to 2147483647, found a list of 2",
            ),
            (
                r#""in_use": {}"#,
                "in_use: expected a whole number from 0 to 2147483647, found an object",
            ),
            (r#""in_use": null"#, "in_use: expected units in use, found null"),
            (
                r#""total": null"#,
                "total: expected units in total (or available: true or false), found null",
            ),
            (r#""name": "  ""#, "name: expected a text that is not empty, found \"  \""),
            (r#""name": 5"#, "name: expected text, found 5"),
            (r#""name": "\ud800""#, r#"name: expected text, found "\ud800""#),
            (
                r#""tier": "a\u0007""#,
                r#"tier: expected at most 64 characters, none of them a control character, found "a\u0007""#,
            ),
            (
                r#""available": true"#,
                "total: expected nothing here, as available is given, found 8",
            ),
            (r#""available": "yes""#, "available: expected true or false, found \"yes\""),
            (
                r#""observed_at": "yesterday""#,
                "observed_at: expected a time such as 2026-01-31T12:00:00Z, found \"yesterday\"",
            ),
            (
                r#""observed_at": 5"#,
                "observed_at: expected a time such as 2026-01-31T12:00:00Z, found 5",
            ),
            (
                r#""observed_at": "1969-01-01T00:00:00Z""#,
                "observed_at: expected a time after 1970, found \"1969-01-01T00:00:00Z\"",
            ),
            (
                r#""colour": "red""#,
                "colour: expected one of provider, name, region, zone, tier, unit, observed_at, \
                 total, in_use, available, found a field that is not known",
            ),
        ];
        for (member, expected) in cases {
            // Of two members with the same name the last one counts.
            let observation = format!(
                r#"{{"provider": "Amazon", "name": "c5", "total": 8, "in_use": 6, {member}}}"#
            );
            let expected = format!("field observations[0].{expected}");
            assert_eq!(complaint(&observation), ("invalid_field".to_owned(), expected));
        }
        let expected = "field observations[0]: expected an object, found \"c5\"";
        assert_eq!(complaint("\"c5\"").1, expected);
        assert!(complaint(r#"{"\ud800": 1}"#).1.contains("a name that is no text"));
        let (_, detail) = complaint(&format!(r#"{{"{}": 1}}"#, "x".repeat(1_000_000)));
        assert!(detail.len() < 500, "{} bytes", detail.len());
    }

    #[test]
    fn an_observation_of_the_future_has_a_code_of_its_own() {
        let future = r#"{"provider": "p", "name": "n", "available": true,
            "observed_at": "2026-01-01T00:01:01Z"}"#;
        let detail = "field observations[0].observed_at: expected a time up to a minute ahead of this \
                      clock (2026-01-01T00:00:00+00:00), found \"2026-01-01T00:01:01Z\"";
        assert_eq!(complaint(future), ("observed_in_future".to_owned(), detail.to_owned()));
    }

    #[test]
    fn a_wrong_observation_leaves_the_others_alone() {
        let good = json!({"provider": "p", "name": "n", "available": true});
        let list = json!([good, {}, good, 5, good]);
        let received = parse(&json!({"source": "lab", "observations": list})).expect("a batch");
        let places = |indices: &[u32]| indices.to_vec();
        let taken: Vec<u32> = received.batch.items.iter().map(|seen| seen.index).collect();
        assert_eq!(taken, places(&[0, 2, 4]));
        assert_eq!(received.refusals.total(), 2);
        let refused: Vec<u32> =
            received.refusals.into_listed().iter().map(|refused| refused.index).collect();
        assert_eq!(refused, places(&[1, 3]));
    }

    #[test]
    fn a_wrong_batch_is_refused_as_a_whole() {
        let list_of = |length: usize| {
            format!(r#"{{"source": "lab", "observations": [{}]}}"#, vec!["{}"; length].join(","))
        };
        let cases = [
            (
                r#"{"observations": []}"#.to_owned(),
                "field source: expected a text that is not empty, found nothing",
            ),
            ("[1, 2]".to_owned(), "field the body: expected an object, found a list of 2"),
            (
                r#"{"source": "lab", "observations": [], "colour": 1}"#.to_owned(),
                "field colour: expected one of source, expected_interval_s, observed_at, \
                 unlisted, problem, observations, found a field that is not known",
            ),
            (
                r#"{"source": "lab", "observations": [], "expected_interval_s": 0.5}"#.to_owned(),
                "field expected_interval_s: expected a whole number from 1 to 86400, found 0.5",
            ),
            (
                r#"{"source": "lab", "observed_at": "2026-01-01T00:02:00Z", "observations": []}"#
                    .to_owned(),
                "field observed_at: expected a time up to a minute ahead of this clock \
                 (2026-01-01T00:00:00+00:00), found \"2026-01-01T00:02:00Z\"",
            ),
            (
                r#"{"source": "lab"}"#.to_owned(),
                "field observations: expected a list of at most 10000 observations, found nothing",
            ),
            (
                list_of(MAX_OBSERVATIONS + 1),
                "field observations: expected a list of at most 10000 observations, found a list of \
                 10001",
            ),
        ];
        for (body, expected) in cases {
            let error = parse_batch(body.as_bytes(), now()).expect_err("refused");
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(
            parse_batch(list_of(MAX_OBSERVATIONS).as_bytes(), now())
                .expect("full")
                .refusals
                .total(),
            10_000
        );
    }

    #[test]
    fn what_is_no_json_is_refused_as_a_whole() {
        for body in [&b"{"[..], b"", b"\xEF\xBB\xBF", b"{} {}", b"\"\xFF\"", b"[08]", b"[1,]"] {
            let error = parse_batch(body, now()).expect_err("refused");
            assert_eq!(error.code(), "invalid_json", "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        let body = "\u{FEFF} {\"source\": \"lab\", \"observations\": []}";
        assert_eq!(parse_batch(body.as_bytes(), now()).expect("good").batch.source, "lab");
    }

    #[test]
    fn the_time_of_the_batch_is_that_of_observations_without_one() {
        let dated = |at: &str| {
            json!({"provider": "p", "name": "n", "available": true,
            "observed_at": at})
        };
        let undated = json!({"provider": "p", "name": "n", "available": true});
        let received = parse(&json!({"source": "lab", "observed_at": "2025-12-31T23:00:00Z",
            "observations": [undated, dated("2025-12-31T22:00:00Z")]}));
        let received = received.expect("good");
        assert_eq!(received.undated, 0);
        let times: Vec<i64> = only_batch(received)
            .items
            .iter()
            .map(|seen| seen.at.as_millis() - arrived().as_millis())
            .collect();
        assert_eq!(times, [-3_600_000, -7_200_000]);
    }

    #[test]
    fn a_batch_may_speak_of_what_it_does_not_list() {
        let unlisted = |value: &str| {
            let body = format!(
                r#"{{"source": "lab", "observed_at": "2025-12-31T23:00:00Z", "unlisted": {value},
                    "observations": []}}"#
            );
            parse_batch(body.as_bytes(), now()).map(|received| received.batch.unlisted)
        };
        let at = Timestamp::from_millis(arrived().as_millis() - 3_600_000);
        assert_eq!(unlisted("null"), Ok(None));
        assert_eq!(unlisted("\"unchanged\""), Ok(Some(Unlisted::Unchanged(at))));
        assert_eq!(unlisted("\"gone\""), Ok(Some(Unlisted::Gone(at))));
        for wrong in ["5", "\"lost\"", "true"] {
            let error = unlisted(wrong).expect_err("refused").to_string();
            let expected =
                format!("field unlisted: expected \"unchanged\" or \"gone\", found {wrong}");
            assert_eq!(error, expected);
        }
    }

    /// What becomes of a batch with this problem and no observations.
    fn parse_problem(problem: &str) -> Result<Option<ReportedProblem>, String> {
        let body = format!(r#"{{"source": "lab", "problem": {problem}, "observations": []}}"#);
        let received = parse_batch(body.as_bytes(), now());
        received.map(|it| it.batch.problem).map_err(|error| error.to_string())
    }

    #[test]
    fn a_problem_has_a_code_and_a_detail() {
        let longest_code = "x".repeat(64);
        let longest_detail = "é".repeat(500);
        let table = [
            ("pods_forbidden", "Bind the role."),
            ("a", "b"),
            ("e2_", " trimmed "),
            (&longest_code, "b"),
            ("a", &longest_detail),
        ];
        for (code, detail) in table {
            let expected =
                ReportedProblem { code: code.to_owned(), detail: detail.trim().to_owned() };
            let sent = json!({"code": code, "detail": detail}).to_string();
            assert_eq!(parse_problem(&sent), Ok(Some(expected)));
        }
        assert_eq!(parse_problem("null"), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_a_problem_is_named_with_what_is_expected() {
        let code = "problem.code: expected at most 64 characters of a-z, 0-9 and _, the first one a \
                    letter, such as pods_forbidden, found";
        let detail = "problem.detail: expected";
        let long = |length: usize| "x".repeat(length);
        let table = [
            (
                r#""no rights""#.to_owned(),
                r#"problem: expected an object, found "no rights""#.to_owned(),
            ),
            (r#"{"detail": "d"}"#.to_owned(), format!("{code} nothing")),
            (r#"{"code": 5, "detail": "d"}"#.to_owned(), format!("{code} 5")),
            (r#"{"code": "", "detail": "d"}"#.to_owned(), format!(r#"{code} """#)),
            (r#"{"code": "Pods", "detail": "d"}"#.to_owned(), format!(r#"{code} "Pods""#)),
            (r#"{"code": "4xx", "detail": "d"}"#.to_owned(), format!(r#"{code} "4xx""#)),
            (r#"{"code": "_a", "detail": "d"}"#.to_owned(), format!(r#"{code} "_a""#)),
            (r#"{"code": " a", "detail": "d"}"#.to_owned(), format!(r#"{code} " a""#)),
            (r#"{"code": "a-b", "detail": "d"}"#.to_owned(), format!(r#"{code} "a-b""#)),
            (r#"{"code": "é", "detail": "d"}"#.to_owned(), format!(r#"{code} "é""#)),
            (
                format!(r#"{{"code": "{}", "detail": "d"}}"#, long(65)),
                format!(r#"{code} "{}""#, long(65)),
            ),
            (
                r#"{"code": "a"}"#.to_owned(),
                format!("{detail} a text that is not empty, found nothing"),
            ),
            (
                r#"{"code": "a", "detail": " "}"#.to_owned(),
                format!(r#"{detail} a text that is not empty, found " ""#),
            ),
            (
                r#"{"code": "a", "detail": ["d"]}"#.to_owned(),
                format!("{detail} text, found a list of 1"),
            ),
            (
                r#"{"code": "a", "detail": "one\ntwo"}"#.to_owned(),
                format!(
                    r#"{detail} at most 500 characters, none of them a control character, found "one\ntwo""#
                ),
            ),
            (
                format!(r#"{{"code": "a", "detail": "{}"}}"#, long(501)),
                format!(
                    r#"{detail} at most 500 characters, none of them a control character, found "{}…"#,
                    long(79)
                ),
            ),
            (
                r#"{"code": "a", "detail": "d", "since": 1}"#.to_owned(),
                "problem.since: expected one of code, detail, found a field that is not known"
                    .to_owned(),
            ),
        ];
        for (problem, expected) in table {
            assert_eq!(parse_problem(&problem), Err(format!("field {expected}")), "{problem}");
        }
    }

    #[test]
    fn a_batch_with_a_problem_may_list_pools_and_says_nothing_of_others() {
        let batch = |unlisted: Value| {
            let good = json!({"provider": "p", "name": "n", "available": true});
            parse(&json!({"source": "lab", "unlisted": unlisted, "observations": [good],
                "problem": {"code": "pods_forbidden", "detail": "Bind the role."}}))
        };
        let taken = only_batch(batch(Value::Null).expect("good"));
        assert_eq!((taken.items.len(), taken.problem.is_some()), (1, true));
        for unlisted in ["unchanged", "gone"] {
            let error = batch(unlisted.into()).expect_err("refused").to_string();
            let expected = format!(
                "field unlisted: expected nothing here, as a source with a problem does not see what it \
                 does not list, found \"{unlisted}\""
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_small_skew_of_clocks_is_tolerated() {
        let observation = json!({"provider": "p", "name": "n", "available": true,
            "observed_at": "2026-01-01T00:00:59.9996Z"});
        let received = parse(&json!({"source": "lab", "observations": [observation]}));
        let at = only_batch(received.expect("good")).items[0].at;
        assert_eq!(at.as_millis() - arrived().as_millis(), 59_999, "cut to milliseconds");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse_batch(&body, now()));
        }

        #[test]
        fn no_text_that_looks_like_json_makes_the_parser_panic(
            observations in r#"[\[\]{}",:\\0-9eu\.a-]{0,60}"#
        ) {
            let body = format!(r#"{{"source": "lab", "observations": [{observations}]}}"#);
            drop(parse_batch(body.as_bytes(), now()));
        }

        #[test]
        fn no_value_makes_the_parser_panic(
            field in "source|observations|problem|total|in_use|observed_at|available|provider",
            text in ".{0,100}", number in any::<f64>(),
        ) {
            for value in [json!(text), json!(number), json!([]), json!({}), json!(null)] {
                let mut body = json!({"source": "s", "problem": null, "observations": [{"provider": "p",
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
        fn no_item_spoils_another(items in prop::collection::vec(json_value(), 0..20)) {
            let good = json!({"provider": "p", "name": "n", "available": true});
            // A good one before each, and one at the end.
            let mut list: Vec<Value> = items.iter().flat_map(|item| [good.clone(), item.clone()]).collect();
            list.push(good);
            let received = parse(&json!({"source": "lab", "observations": list}));
            let received = received.expect("a good batch");
            let taken: Vec<u32> = received.batch.items.iter().map(|item| item.index).collect();
            prop_assert!((0..=items.len()).all(|place| taken.contains(&u32::try_from(2 * place).expect("few"))));
            let refused = usize::try_from(received.refusals.total()).expect("few");
            prop_assert_eq!(taken.len() + refused, list.len());
        }

        #[test]
        fn every_observation_is_taken_or_refused(
            list in proptest::collection::vec("5|null|\\{\\}|\\[\\[1\\]\\]|G", 0..200)
        ) {
            let good = r#"{"provider": "p", "name": "n", "available": true}"#;
            let items: Vec<&str> =
                list.iter().map(|item| if item == "G" { good } else { item.as_str() }).collect();
            let received = parse_one(&items.join(","));
            let taken = received.batch.items.len();
            prop_assert_eq!(taken, items.iter().filter(|item| **item == good).count());
            let refused = usize::try_from(received.refusals.total()).expect("small");
            prop_assert_eq!(taken + refused, items.len());
        }

        #[test]
        fn units_in_use_leave_the_others_free(total in -2_i32..20, in_use in -2_i32..20) {
            let observation = json!({"provider": "p", "name": "n", "total": total, "in_use": in_use});
            let received = parse_one(&observation.to_string());
            let seen = received.batch.items.first().map(|item| item.observation);
            let units = |number: i32| u32::try_from(number).ok();
            let expected = units(total).zip(units(in_use));
            let expected = expected.map(|(total, in_use)| Observation::counts(total, in_use));
            prop_assert_eq!(seen, expected);
        }
    }
}

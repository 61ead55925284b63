//! The body of `POST /v1/attempts`, checked as that of observations is, and the answer to it.

use availability::{Attempt, Wanted};
use chrono::{DateTime, Utc};
use hardware_api::{AttemptSummary, RefusedAttempt, RefusedObservation};
use serde_json::value::RawValue;

use super::{
    BatchError, MAX_NAME, MAX_UNITS, PoolName, Refusals,
    fields::{Object, Path},
    parse::{parse_pool_name, read_body},
    show_time,
};

/// Attempts in one batch.
const MAX_ATTEMPTS: usize = 10_000;

/// The latest attempts to get a pool that levels follow from and that are shown.
pub const KEPT_ATTEMPTS: usize = 20;

/// Length of the column code, in characters.
const MAX_CODE: usize = 64;

const BATCH_FIELDS: &[&str] = &["source", "attempts"];
const ATTEMPT_FIELDS: &[&str] =
    &["provider", "name", "region", "zone", "tier", "unit", "units", "outcome", "at", "code"];

/// Attempts that one source reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptBatch {
    /// Who reports.
    pub source: String,
    /// What was tried, in any order of time.
    pub items: Vec<AttemptItem>,
}

/// An attempt to get units of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptItem {
    /// Its place in the batch that was sent.
    pub index: u32,
    /// Where.
    pub pool: PoolName,
    /// What was tried, and what came of it.
    pub attempt: Attempt,
    /// What the provider said, if the source passes it on.
    pub code: Option<String>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenAttempt {
    /// It is new.
    Accepted,
    /// It was known already.
    Duplicate,
    /// The source has reported another outcome of the same attempt.
    Contradicts,
    /// It is older than what is kept.
    TooOld,
}

/// A body that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedAttempts {
    /// The attempts that are well formed.
    pub batch: AttemptBatch,
    /// The others.
    pub refusals: Refusals,
}

/// Reads attempts that arrive at `now`. Those that are wrong leave the others alone; an error is about the batch
/// itself.
pub fn parse_attempts(body: &[u8], now: DateTime<Utc>) -> Result<ReceivedAttempts, BatchError> {
    let fields = Object::new(read_body(body)?, Path::root(), BATCH_FIELDS)?;
    let source = fields.text("source", MAX_NAME)?.required(&fields, "source")?;
    let list = fields.list("attempts", MAX_ATTEMPTS)?;
    let path = fields.path.child("attempts");
    let (mut items, mut refusals) = (Vec::with_capacity(list.len()), Refusals::default());
    for (index, item) in (0..).zip(list) {
        match parse_attempt(item, index, path.item(index), now) {
            Ok(item) => items.push(item),
            Err(error) => refusals.add(index, error.code(), error.to_string()),
        }
    }
    Ok(ReceivedAttempts { batch: AttemptBatch { source, items }, refusals })
}

fn parse_attempt(
    item: &RawValue,
    index: u32,
    path: Path,
    now: DateTime<Utc>,
) -> Result<AttemptItem, BatchError> {
    let fields = Object::new(item, path, ATTEMPT_FIELDS)?;
    let pool = parse_pool_name(&fields)?;
    let units = fields.integer("units", 1, MAX_UNITS)?.and_then(Wanted::new);
    let succeeded = parse_outcome(&fields)?;
    let at = fields.time("at", now)?;
    let at = at.ok_or_else(|| fields.wrong("at", "the time of the attempt"))?;
    let code = fields.text("code", MAX_CODE)?.0.filter(|code| !code.is_empty());
    let attempt = Attempt { at, units: units.unwrap_or(Wanted::ONE), succeeded };
    Ok(AttemptItem { index, pool, attempt, code })
}

/// Whether the attempt has succeeded.
fn parse_outcome(fields: &Object) -> Result<bool, BatchError> {
    const EXPECTED: &str = "\"succeeded\" or \"failed\"";
    let text = fields.text("outcome", MAX_CODE).map_err(|_| fields.wrong("outcome", EXPECTED))?;
    match text.0.as_deref() {
        Some("succeeded") => Ok(true),
        Some("failed") => Ok(false),
        _ => Err(fields.wrong("outcome", EXPECTED)),
    }
}

/// Puts the answer together. `taken` says what became of each attempt, in the order of the batch.
#[must_use]
pub fn summarize_attempts(received: ReceivedAttempts, taken: &[TakenAttempt]) -> AttemptSummary {
    let ReceivedAttempts { batch, mut refusals } = received;
    let mut summary = AttemptSummary::default();
    for (item, taken) in batch.items.iter().zip(taken) {
        match taken {
            TakenAttempt::Accepted => summary.accepted += 1,
            TakenAttempt::Duplicate => summary.duplicates += 1,
            TakenAttempt::Contradicts => {
                refusals.add(item.index, "contradicts", describe_contradiction(item));
            }
            TakenAttempt::TooOld => refusals.add(item.index, "too_old", describe_too_old(item)),
        }
    }
    summary.refused_total = refusals.total();
    let refused =
        |RefusedObservation { index, code, detail }| RefusedAttempt { index, code, detail };
    summary.refused = refusals.into_listed().into_iter().map(refused).collect();
    summary
}

fn describe_contradiction(item: &AttemptItem) -> String {
    let AttemptItem { index, pool, attempt, .. } = item;
    let (found, known) =
        if attempt.succeeded { ("succeeded", "failed") } else { ("failed", "succeeded") };
    format!(
        "attempts[{index}]: the attempt to get {} of pool {pool} at {} is known to have {known}, found {found}",
        attempt.units,
        show_time(attempt.at)
    )
}

fn describe_too_old(item: &AttemptItem) -> String {
    let AttemptItem { index, pool, attempt, .. } = item;
    format!(
        "attempts[{index}]: the attempt to get {} of pool {pool} at {} is longer ago than HISTORY_RETENTION, for \
         which history is kept",
        attempt.units,
        show_time(attempt.at)
    )
}

#[cfg(test)]
mod tests {
    use availability::{Attempt, Timestamp, Wanted};
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        AttemptItem, MAX_ATTEMPTS, ReceivedAttempts, TakenAttempt, parse_attempts,
        summarize_attempts,
    };

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").expect("a time").to_utc()
    }

    fn parse(attempts: &Value) -> ReceivedAttempts {
        let body = json!({"source": "lab", "attempts": attempts});
        parse_attempts(body.to_string().as_bytes(), now()).expect("a good batch")
    }

    fn attempt() -> Value {
        json!({"provider": "aws", "name": "c5", "outcome": "failed", "at": "2025-12-31T23:59:00Z"})
    }

    #[test]
    fn an_attempt_is_of_one_unit_unless_it_says_otherwise() {
        let mut four = attempt();
        (four["units"], four["outcome"], four["code"]) =
            (4.into(), "succeeded".into(), " granted ".into());
        let ReceivedAttempts { batch, refusals } = parse(&json!([attempt(), four]));
        assert_eq!((batch.source.as_str(), refusals.total()), ("lab", 0));
        let at = Timestamp::from_millis(now().timestamp_millis() - 60_000);
        let [AttemptItem { pool, attempt: one, code: None, .. }, other] = batch.items.as_slice()
        else {
            panic!("two attempts, found {batch:?}");
        };
        assert_eq!((pool.tier.as_str(), pool.unit.as_str()), ("on-demand", "unit"));
        assert_eq!(*one, Attempt { at, units: Wanted::ONE, succeeded: false });
        assert_eq!(other.code.as_deref(), Some("granted"));
        assert_eq!((other.attempt.units.get(), other.attempt.succeeded), (4, true));
    }

    #[test]
    fn a_wrong_attempt_is_refused_alone_with_what_is_expected() {
        let outcome = "outcome: expected \"succeeded\" or \"failed\", found";
        let time = "expected a time such as 2026-01-31T12:00:00Z, found";
        let table = [
            (json!({"outcome": "maybe"}), format!("{outcome} \"maybe\"")),
            (json!({"outcome": null}), format!("{outcome} null")),
            (json!({"outcome": true}), format!("{outcome} true")),
            (
                json!({"units": 0}),
                "units: expected a whole number from 1 to 2147483647, found 0".to_owned(),
            ),
            (json!({"at": null}), "at: expected the time of the attempt, found null".to_owned()),
            (json!({"at": "today"}), format!("at: {time} \"today\"")),
            (json!({"name": ""}), "name: expected a text that is not empty, found \"\"".to_owned()),
            (
                json!({"code": "a\u{7}"}),
                "code: expected at most 64 characters, none of them a control character, found \
                 \"a\\u0007\""
                    .to_owned(),
            ),
            (
                json!({"total": 8}),
                "total: expected one of provider, name, region, zone, tier, unit, units, outcome, \
                 at, code, found a field that is not known"
                    .to_owned(),
            ),
        ];
        for (wrong, expected) in table {
            let mut item = attempt();
            for (name, value) in wrong.as_object().expect("fields") {
                item[name] = value.clone();
            }
            let received = parse(&json!([attempt(), item]));
            assert_eq!(received.batch.items.len(), 1, "{wrong}");
            let refused = received.refusals.into_listed().remove(0);
            assert_eq!((refused.index, refused.code.as_str()), (1, "invalid_field"));
            assert_eq!(refused.detail, format!("field attempts[1].{expected}"));
        }
        let mut future = attempt();
        future["at"] = "2026-01-01T00:02:00Z".into();
        let refused = parse(&json!([future])).refusals.into_listed().remove(0);
        assert_eq!(refused.code, "observed_in_future");
    }

    #[test]
    fn a_wrong_batch_is_refused_as_a_whole() {
        let expected = "field attempts: expected a list of at most 10000 attempts, found";
        let table = [
            (json!({"source": "lab"}), format!("{expected} nothing")),
            (
                json!({"source": "lab", "attempts": vec![json!({}); MAX_ATTEMPTS + 1]}),
                format!("{expected} a list of 10001"),
            ),
            (
                json!({"attempts": []}),
                "field source: expected a text that is not empty, found nothing".to_owned(),
            ),
            (
                json!({"source": "lab", "attempts": [], "observations": []}),
                "field observations: expected one of source, attempts, found a field that is not \
                 known"
                    .to_owned(),
            ),
        ];
        for (body, expected) in table {
            let refused = parse_attempts(body.to_string().as_bytes(), now());
            assert_eq!(refused.expect_err("refused").to_string(), expected);
        }
        let error = parse_attempts(b"{", now()).expect_err("refused");
        assert_eq!(error.code(), "invalid_json");
    }

    #[test]
    fn what_was_not_taken_is_told_with_pool_and_time() {
        let received = parse(&json!([attempt(), attempt(), attempt(), attempt()]));
        let taken = [
            TakenAttempt::Accepted,
            TakenAttempt::Duplicate,
            TakenAttempt::Contradicts,
            TakenAttempt::TooOld,
        ];
        let summary = summarize_attempts(received, &taken);
        assert_eq!((summary.accepted, summary.duplicates, summary.refused_total), (1, 1, 2));
        let details: Vec<&str> = summary.refused.iter().map(|it| it.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "attempts[2]: the attempt to get 1 of pool aws c5 (on-demand, unit) at \
                 2025-12-31T23:59:00Z is known to have succeeded, found failed",
                "attempts[3]: the attempt to get 1 of pool aws c5 (on-demand, unit) at \
                 2025-12-31T23:59:00Z is longer ago than HISTORY_RETENTION, for which history is kept",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse_attempts(&body, now()));
        }

        #[test]
        fn no_value_makes_the_parser_panic(
            field in "source|attempts|provider|units|outcome|at|code",
            text in ".{0,100}", number in any::<f64>(),
        ) {
            for value in [json!(text), json!(number), json!([]), json!({}), json!(null)] {
                let mut body = json!({"source": "s", "attempts": [attempt()]});
                if body.get(&field).is_some() {
                    body[&field] = value;
                } else {
                    body["attempts"][0][&field] = value;
                }
                drop(parse_attempts(body.to_string().as_bytes(), now()));
            }
        }
    }
}

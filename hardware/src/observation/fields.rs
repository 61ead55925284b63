//! Members of a JSON object, each checked as it is taken, with a place to name when it is wrong.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::BatchError;

/// Clocks differ a little; more than this is a mistake, and would make data look fresh for ever.
const MAX_SKEW: TimeDelta = TimeDelta::seconds(60);

/// How much of a wrong value is shown, in characters.
const MAX_SHOWN: usize = 80;

/// A JSON object at some place of the body, all of whose members are known.
pub(super) struct Object<'a> {
    members: &'a Map<String, Value>,
    pub(super) path: Path,
}

/// A text that may be missing.
pub(super) struct Text(pub(super) Option<String>);

impl<'a> Object<'a> {
    pub(super) fn new(value: &'a Value, path: Path, known: &[&str]) -> Result<Self, BatchError> {
        let Value::Object(members) = value else {
            return Err(BatchError::Field {
                field: path.to_string(),
                found: show(value),
                expected: "an object".to_owned(),
            });
        };
        if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(BatchError::Field {
                field: path.child(&shorten(unknown)).to_string(),
                found: "a field that is not known".to_owned(),
                expected: format!("one of {}", known.join(", ")),
            });
        }
        Ok(Self { members, path })
    }

    /// A member; null is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Text, BatchError> {
        match self.get(name) {
            None => Ok(Text(None)),
            Some(Value::String(text)) => {
                let trimmed = text.trim();
                if trimmed.chars().count() > longest || trimmed.chars().any(char::is_control) {
                    let expected =
                        format!("at most {longest} characters, none of them a control character");
                    return Err(self.wrong(name, &expected));
                }
                Ok(Text(Some(trimmed.to_owned())))
            }
            Some(_) => Err(self.wrong(name, "text")),
        }
    }

    pub(super) fn integer(
        &self,
        name: &str,
        least: i64,
        most: i64,
    ) -> Result<Option<i32>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_i64().filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| i32::try_from(number).ok());
        let expected = || self.wrong(name, &format!("a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(expected)
    }

    pub(super) fn time(&self, name: &str, now: DateTime<Utc>) -> Result<NaiveDateTime, BatchError> {
        let at = match self.get(name) {
            None => now,
            Some(Value::String(text)) => DateTime::parse_from_rfc3339(text)
                .map_err(|_| self.wrong(name, "a time such as 2026-01-31T12:00:00Z"))?
                .to_utc(),
            Some(_) => return Err(self.wrong(name, "a time such as 2026-01-31T12:00:00Z")),
        };
        if at < DateTime::UNIX_EPOCH {
            return Err(self.wrong(name, "a time after 1970"));
        }
        if at - now > MAX_SKEW {
            return Err(BatchError::Future {
                field: self.path.child(name).to_string(),
                found: self.get(name).map_or_else(String::new, show),
                now: now.to_rfc3339(),
            });
        }
        Ok(at.naive_utc().trunc_subsecs(3))
    }

    pub(super) fn wrong(&self, name: &str, expected: &str) -> BatchError {
        let found = self.members.get(name).map_or_else(|| "nothing".to_owned(), show);
        self.wrong_as(name, found, expected)
    }

    pub(super) fn wrong_as(&self, name: &str, found: String, expected: &str) -> BatchError {
        let field = self.path.child(name).to_string();
        BatchError::Field { field, found, expected: expected.to_owned() }
    }
}

impl Text {
    pub(super) fn required(self, object: &Object, name: &str) -> Result<String, BatchError> {
        let text = self.0.filter(|text| !text.is_empty());
        text.ok_or_else(|| object.wrong(name, "a text that is not empty"))
    }
}

/// Where in the body something is, as `observations[3].total`.
#[derive(Clone)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn root() -> Self {
        Self(String::new())
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self(if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) })
    }

    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the body" } else { &self.0 })
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        _ => shorten(&value.to_string()),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

//! Members of a JSON object, each checked as it is taken, with a place to name when it is wrong.
//!
//! A value stays the text that was sent until it is taken, so what nobody asks for costs no memory,
//! and an error shows it as it was sent.

use std::fmt;

use availability::Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::{
    BatchError,
    json::{Members, read_list, read_members},
};

/// Clocks differ a little; more than this is a mistake, and would make data look fresh for ever.
const MAX_SKEW: TimeDelta = TimeDelta::seconds(60);

/// How much of a wrong value is shown, in characters.
const MAX_SHOWN: usize = 80;

const TIME: &str = "a time such as 2026-01-31T12:00:00Z";

/// A JSON object at some place of the body, all of whose members are known.
pub(super) struct Object<'a> {
    members: Members<'a>,
    pub(super) path: Path,
}

/// A text that may be missing.
pub(super) struct Text(pub(super) Option<String>);

impl<'a> Object<'a> {
    pub(super) fn new(
        value: &'a RawValue,
        path: Path,
        known: &'static [&'static str],
    ) -> Result<Self, BatchError> {
        let wrong = |field: &Path, found, expected| BatchError::Field {
            field: field.to_string(),
            found,
            expected,
        };
        if !value.get().starts_with('{') {
            return Err(wrong(&path, show(value), "an object".to_owned()));
        }
        let (members, unknown) = read_members(value, known).map_err(|error| {
            // Values have been read before: only a name can be wrong.
            wrong(&path, format!("a name that is no text ({error})"), "names of fields".to_owned())
        })?;
        if let Some(unknown) = unknown {
            let expected = format!("one of {}", known.join(", "));
            let field = path.child(&shorten(&unknown));
            return Err(wrong(&field, "a field that is not known".to_owned(), expected));
        }
        Ok(Self { members, path })
    }

    /// A member; null is as good as none.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.get(name).filter(|value| value.get() != "null")
    }

    pub(super) fn text(&self, name: &str, longest: usize) -> Result<Text, BatchError> {
        let Some(value) = self.get(name) else { return Ok(Text(None)) };
        let text = read_text(value).ok_or_else(|| self.wrong(name, "text"))?;
        let trimmed = text.trim();
        if trimmed.chars().count() > longest || trimmed.chars().any(char::is_control) {
            let expected =
                format!("at most {longest} characters, none of them a control character");
            return Err(self.wrong(name, &expected));
        }
        Ok(Text(Some(trimmed.to_owned())))
    }

    /// A name for programs, which must be there.
    pub(super) fn code(&self, name: &str, longest: usize) -> Result<String, BatchError> {
        let is_code = |text: &String| {
            let is_allowed = |c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_');
            text.len() <= longest
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.bytes().all(is_allowed)
        };
        self.get(name).and_then(read_text).filter(is_code).ok_or_else(|| {
            let expected = format!(
                "at most {longest} characters of a-z, 0-9 and _, the first one a letter, such as \
                 pods_forbidden"
            );
            self.wrong(name, &expected)
        })
    }

    /// A whole number, however JSON writes it: 8, 8.0, 0.8e1.
    pub(super) fn integer(
        &self,
        name: &str,
        least: u32,
        most: u32,
    ) -> Result<Option<u32>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let range = f64::from(least)..=f64::from(most);
        // What is no number in JSON is none here: a text has its quotes.
        let number = value.get().parse().ok();
        let number = number.filter(|number: &f64| number.fract() == 0.0 && range.contains(number));
        let number = number
            .ok_or_else(|| self.wrong(name, &format!("a whole number from {least} to {most}")))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, and between two u32"
        )]
        let number = number as u32;
        Ok(Some(number))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, BatchError> {
        match self.get(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    pub(super) fn time(
        &self,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Timestamp>, BatchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let at = read_text(value).and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
        let at = at.ok_or_else(|| self.wrong(name, TIME))?.to_utc();
        if at < DateTime::UNIX_EPOCH {
            return Err(self.wrong(name, "a time after 1970"));
        }
        if at - now > MAX_SKEW {
            return Err(BatchError::Future {
                field: self.path.child(name).to_string(),
                found: show(value),
                now: now.to_rfc3339(),
            });
        }
        Ok(Some(Timestamp::from_millis(at.timestamp_millis())))
    }

    /// The items of a list, at most `most`.
    pub(super) fn list(&self, name: &str, most: usize) -> Result<Vec<&'a RawValue>, BatchError> {
        let expected = format!("a list of at most {most} {name}");
        let list = self.get(name).filter(|value| value.get().starts_with('['));
        let list = list.ok_or_else(|| self.wrong(name, &expected))?;
        let list = read_list(list, most);
        if list.length > most {
            return Err(self.wrong(name, &expected));
        }
        Ok(list.first)
    }

    pub(super) fn wrong(&self, name: &str, expected: &str) -> BatchError {
        let found = self.members.get(name).map_or_else(|| "nothing".to_owned(), show);
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

    pub(super) fn item(&self, index: u32) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the body" } else { &self.0 })
    }
}

/// Nothing for other values, and for a text with half of a surrogate pair.
fn read_text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn show(value: &RawValue) -> String {
    match value.get() {
        list if list.starts_with('[') => format!("a list of {}", read_list(value, 0).length),
        object if object.starts_with('{') => "an object".to_owned(),
        scalar => shorten(scalar),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

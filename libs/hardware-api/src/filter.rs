//! The filter language of `GET /v1/availability?q=` and of the portal's search field.
//!
//! ```text
//! filter = { term }                          terms are separated by spaces; all of them must hold
//! term   = [ "-" ] [ field ":" ] values      "-" turns it around
//! values = value { "," value }               one of them must hold
//! value  = word | "\"" { character } "\""    in quotes, \" and \\ stand for " and \
//! field  = "provider" | "name" | "region" | "zone" | "tier" | "unit" | "source" | "level"
//! ```
//!
//! With a field, a value is the whole text of that field, and `*` in a word stands for any characters;
//! without one, it is a part of provider, name, region, zone, tier or unit. Case makes no difference. A word
//! has no space, comma, colon or double quote. In quotes `*` is a character as any other; with a field, `""`
//! is one that is empty.

use std::{fmt, str::FromStr};

use crate::Availability;

/// What a term is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Who offers it.
    Provider,
    /// What the provider calls it.
    Name,
    /// Region of the provider.
    Region,
    /// Zone of the region.
    Zone,
    /// How it is sold.
    Tier,
    /// What is counted.
    Unit,
    /// Who reports it.
    Source,
    /// HIGH, MEDIUM, LOW or UNKNOWN.
    Level,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 8] = [
        Self::Provider,
        Self::Name,
        Self::Region,
        Self::Zone,
        Self::Tier,
        Self::Unit,
        Self::Source,
        Self::Level,
    ];

    /// Its word in a filter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Name => "name",
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Tier => "tier",
            Self::Unit => "unit",
            Self::Source => "source",
            Self::Level => "level",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| word.eq_ignore_ascii_case(field.as_str()))
    }
}

/// What a text is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The texts between the `*`: one, if there is none.
    parts: Vec<String>,
}

impl Pattern {
    /// A text without `*`.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self { parts: vec![text.to_owned()] }
    }

    /// A text in which `*` stands for any characters.
    #[must_use]
    pub fn with_stars(text: &str) -> Self {
        Self { parts: text.split('*').map(str::to_owned).collect() }
    }

    /// The text, if there is no `*` in it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The same with each text between the `*` changed.
    #[must_use]
    pub fn map(&self, change: impl Fn(&str) -> String) -> Self {
        Self { parts: self.parts.iter().map(|part| change(part)).collect() }
    }

    /// Whether this is the whole of `text`.
    #[must_use]
    pub fn is_all_of(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.as_literal().is_none_or(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }

    /// Whether this is a part of `text`.
    #[must_use]
    pub fn is_part_of(&self, text: &str) -> bool {
        let mut rest = text;
        for part in &self.parts {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Whether what matches is left out.
    pub is_negated: bool,
    /// What is looked at; provider, name, region, zone, tier and unit if there is none.
    pub field: Option<Field>,
    /// Of which one must match.
    pub values: Vec<Pattern>,
}

impl Term {
    /// Whether `level` is among the values.
    #[must_use]
    pub fn names_level(&self, level: Availability) -> bool {
        let words = self.values.iter().filter_map(Pattern::as_literal);
        words.filter_map(Availability::from_word).any(|named| named == level)
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The conditions.
    pub terms: Vec<Term>,
}

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where it is wrong: the number of characters before.
    pub position: usize,
    /// What is there.
    pub found: String,
    /// What is expected there.
    pub expected: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, found, expected } = self;
        write!(
            f,
            "failed to read the filter after {position} characters: found {found:?}, expected {expected}"
        )
    }
}

impl std::error::Error for FilterError {}

/// Terms of a filter: each is compared with every pool.
const MAX_TERMS: usize = 20;
/// Values of a term.
pub const MAX_VALUES: usize = 100;

const FIELDS: &str =
    "one of provider, name, region, zone, tier, unit, source, level before the colon";
const LEVELS: &str = "HIGH, MEDIUM, LOW or UNKNOWN";

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader { text, at: 0 };
        let mut terms: Vec<Term> = Vec::new();
        loop {
            reader.skip(char::is_whitespace);
            if reader.rest().is_empty() {
                return Ok(Self { terms });
            }
            if terms.len() == MAX_TERMS {
                return Err(reader.error(reader.word(), "the end, after at most 20 terms"));
            }
            let term = reader.term()?;
            if term.values.len() > MAX_VALUES {
                return Err(reader.error("", "at most 100 values in a term"));
            }
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_skipped).len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.rest().starts_with(wanted);
        if is_there {
            self.at += wanted.len_utf8();
        }
        is_there
    }

    fn error(&self, found: &str, expected: &'static str) -> FilterError {
        let position = self.text[..self.at].chars().count();
        FilterError { position, found: found.to_owned(), expected }
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let is_negated = self.take('-');
        let field = self.field()?;
        let mut values = vec![self.value(field)?];
        while self.take(',') {
            values.push(self.value(field)?);
        }
        Ok(Term { is_negated, field, values })
    }

    fn field(&mut self) -> Result<Option<Field>, FilterError> {
        let word = self.word();
        if !word.is_empty() && self.rest()[word.len()..].starts_with(':') {
            let field = Field::from_word(word).ok_or_else(|| self.error(word, FIELDS))?;
            self.at += word.len() + 1;
            return Ok(Some(field));
        }
        Ok(None)
    }

    /// What is ahead up to a character that has a meaning.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | '"');
        &rest[..rest.find(is_end).unwrap_or(rest.len())]
    }

    fn value(&mut self, field: Option<Field>) -> Result<Pattern, FilterError> {
        let start = self.at;
        let value = if self.take('"') { self.quoted()? } else { self.plain()? };
        let level = value.as_literal().and_then(Availability::from_word);
        if field == Some(Field::Level) && level.is_none() {
            let found = &self.text[start..self.at];
            self.at = start;
            return Err(self.error(found, LEVELS));
        }
        Ok(value)
    }

    fn plain(&mut self) -> Result<Pattern, FilterError> {
        let word = self.word();
        if word.is_empty() {
            let found: String = self.rest().chars().take(1).collect();
            return Err(self.error(&found, "a word, or text in double quotes"));
        }
        self.at += word.len();
        // A second colon belongs to no field.
        if let Some(found) = self.rest().chars().next().filter(|c| matches!(c, ':' | '"')) {
            return Err(self.error(
                &found.to_string(),
                "a space or a comma; text with it goes in double quotes",
            ));
        }
        Ok(Pattern::with_stars(word))
    }

    fn quoted(&mut self) -> Result<Pattern, FilterError> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    let next = self.rest().chars().next();
                    return match next.filter(|c| !c.is_whitespace() && *c != ',') {
                        Some(found) => {
                            Err(self
                                .error(&found.to_string(), "a space or a comma after the quotes"))
                        }
                        None => Ok(Pattern::literal(&text)),
                    };
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    other => {
                        let found = other.map(|(_, c)| c.to_string()).unwrap_or_default();
                        self.at += at;
                        return Err(self.error(&found, "\\\" or \\\\"));
                    }
                },
                c => text.push(c),
            }
        }
        self.at = self.text.len();
        Err(self.error("", "a closing double quote"))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{term}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            f.write_str("-")?;
        }
        if let Some(field) = self.field {
            write!(f, "{}:", field.as_str())?;
        }
        for (index, value) in self.values.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.as_literal() else { return f.write_str(&self.parts.join("*")) };
        let has_meaning = |c: char| c.is_whitespace() || matches!(c, ',' | ':' | '"' | '*');
        if text.is_empty() || text.starts_with('-') || text.contains(has_meaning) {
            write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            f.write_str(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Field, Filter, Pattern, Term};

    fn parse(text: &str) -> Filter {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_filter_is_terms_of_fields_and_values() {
        let filter = parse("provider:aws,azure  -region:us-* \"a b\" gpu level:High");
        let term = |is_negated, field, values: &[Pattern]| Term {
            is_negated,
            field,
            values: values.to_vec(),
        };
        let literal = Pattern::literal;
        assert_eq!(
            filter.terms,
            [
                term(false, Some(Field::Provider), &[literal("aws"), literal("azure")]),
                term(true, Some(Field::Region), &[Pattern::with_stars("us-*")]),
                term(false, None, &[literal("a b")]),
                term(false, None, &[literal("gpu")]),
                term(false, Some(Field::Level), &[literal("High")]),
            ]
        );
        assert_eq!(parse("  "), Filter::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, position, found) in [
            ("colour:red", 0, "colour"),
            ("aws level:good", 10, "good"),
            ("level:h*", 6, "h*"),
            ("name:", 5, ""),
            ("name:a,", 7, ""),
            ("é \"open", 7, ""),
            ("a:b:c", 0, "a"),
            ("name:b:c", 6, ":"),
            ("\"a\"b", 3, "b"),
            (",", 0, ","),
            ("- a", 1, " "),
        ] {
            let error = text.parse::<Filter>().expect_err(text);
            assert_eq!(
                (error.position, error.found.as_str()),
                (position, found),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, is_all, is_part) in [
            ("us-*", "us-east-1", true, true),
            ("*east*", "us-east-1", true, true),
            ("us", "us-east-1", false, true),
            ("*", "", true, true),
            ("a*a", "a", false, false),
            ("a*b*c", "aXbYc", true, true),
            ("a*b*c", "aXcYb", false, false),
            ("st*1", "us-east-1", false, true),
        ] {
            let pattern = Pattern::with_stars(pattern);
            assert_eq!(pattern.is_all_of(text), is_all, "{pattern} {text}");
            assert_eq!(pattern.is_part_of(text), is_part, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_read_is_read_again(text in "[-a-z*:,\"\\\\ é]{0,30}") {
            if let Ok(filter) = text.parse::<Filter>() {
                prop_assert_eq!(parse(&filter.to_string()), filter);
            }
        }

        #[test]
        fn any_value_can_be_written(text in ".{0,12}", is_negated: bool, field in 0_usize..8) {
            let field = Some(Field::ALL[field]).filter(|field| *field != Field::Level);
            let filter = Filter { terms: vec![Term { is_negated, field, values: vec![Pattern::literal(&text)] }] };
            prop_assert_eq!(parse(&filter.to_string()), filter);
        }

        #[test]
        fn a_pattern_matches_as_one_that_tries_everything(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            fn matches(pattern: &[u8], text: &[u8]) -> bool {
                match pattern {
                    [] => text.is_empty(),
                    [b'*', rest @ ..] => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
                    [first, rest @ ..] => text.first() == Some(first) && matches(rest, &text[1..]),
                }
            }
            let expected = matches(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Pattern::with_stars(&pattern).is_all_of(&text), expected);
            let part = format!("*{pattern}*");
            prop_assert_eq!(Pattern::with_stars(&pattern).is_part_of(&text), matches(part.as_bytes(), text.as_bytes()));
        }
    }
}

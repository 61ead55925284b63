//! Query parameters, which are refused by name if nothing would come of them.

use std::{borrow::Cow, collections::BTreeMap, ops::RangeInclusive};

use availability::Wanted;
use axum::{
    extract::rejection::PathRejection,
    http::{StatusCode, Uri},
};
use url::form_urlencoded;

use super::Refusal;
use crate::observation::MAX_UNITS;

/// The parameters of a request, each given once.
#[derive(Debug)]
pub(super) struct Parameters {
    given: BTreeMap<&'static str, String>,
}

impl Parameters {
    /// Reads those that `allowed` names; others are refused. One without a value is as if it were not there,
    /// as forms send them.
    pub(super) fn read(uri: &Uri, allowed: &[&'static str]) -> Result<Self, Refusal> {
        let query = uri.query().unwrap_or_default();
        Self::from_pairs(uri.path(), form_urlencoded::parse(query.as_bytes()), allowed)
    }

    /// The same of names and values that came in another way to the route at `path`.
    pub(super) fn from_pairs<'a>(
        path: &str,
        pairs: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        allowed: &[&'static str],
    ) -> Result<Self, Refusal> {
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            let Some(known) = allowed.iter().find(|known| **known == name) else {
                let detail = format!("{path} has no query parameter {name}");
                let refusal = Refusal::new(StatusCode::BAD_REQUEST, "unknown_parameter", detail);
                return Err(refusal
                    .about(name.into_owned(), value.into_owned(), "a known parameter".to_owned())
                    .allowing(allowed.iter().copied()));
            };
            if value.is_empty() {
                continue;
            }
            if given.insert(*known, value.clone().into_owned()).is_some() {
                return Err(invalid(known, &value, "one value"));
            }
        }
        Ok(Self { given })
    }

    pub(super) fn get(&self, name: &'static str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &self,
        name: &'static str,
        bounds: RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, Refusal> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| {
            let (least, most) = bounds.into_inner();
            invalid(name, text, &format!("a whole number from {least} to {most}"))
        })
    }

    /// How many units are asked for.
    pub(super) fn units(&self) -> Result<Wanted, Refusal> {
        let units = self.number("units", 1..=MAX_UNITS, 1)?;
        Ok(Wanted::new(units).unwrap_or(Wanted::ONE))
    }

    /// The same parameters with another value for one of them, as a reference from where they were given.
    pub(super) fn with(&self, name: &'static str, value: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(self.without(name));
        query.append_pair(name, value);
        format!("?{}", query.finish())
    }

    /// The same parameters, in an order of their own.
    pub(super) fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.given).finish()
    }

    /// The same without one of them.
    pub(super) fn without(&self, name: &'static str) -> String {
        let others = self.given.iter().filter(|(known, _)| **known != name);
        form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish()
    }
}

/// A path that is not text.
pub(super) fn unreadable_path(error: &PathRejection) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_path", error.body_text())
}

/// A parameter with a value that it cannot have.
pub(super) fn invalid(name: &str, found: &str, expected: &str) -> Refusal {
    let detail = format!("{name}: found {found:?}, expected {expected}");
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).about(
        name.to_owned(),
        found.to_owned(),
        expected.to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Parameters;

    #[test]
    fn parameters_are_known_and_given_once() {
        let read = |query: &str| {
            let uri = format!("/v1/availability?{query}").parse().expect("a path");
            Parameters::read(&uri, &["q", "units"])
        };
        let given = read("q=a%20b%2Bc&units=").expect("known");
        assert_eq!(given.get("q"), Some("a b+c"));
        assert_eq!(given.get("units"), None, "as an empty field of a form");
        assert_eq!(given.with("units", "3"), "?q=a+b%2Bc&units=3");
        assert_eq!(given.with("q", "b"), "?q=b");
        let both = read("units=2&q=a").expect("known");
        assert_eq!((both.query(), both.without("units")), ("q=a&units=2".into(), "q=a".into()));
        for refused in ["colour=red", "q=a&q=b", "units=x", "units=0", "units=4294967296"] {
            let found = read(refused).and_then(|given| given.number("units", 1..=10, 1));
            assert!(found.is_err(), "{refused}");
        }
        assert_eq!(read("units=10").and_then(|it| it.number("units", 1..=10, 1)).ok(), Some(10));
    }

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(query in "((q|units)=)?[!-~]{0,40}") {
            let uri = format!("/v1/availability?{query}").parse();
            prop_assume!(uri.is_ok());
            if let Ok(given) = Parameters::read(&uri.expect("checked"), &["q", "units"]) {
                drop(given.number("units", 1..=10, 1));
            }
        }

        #[test]
        fn a_reference_to_the_next_page_has_what_was_given(q in ".{1,20}", cursor in "[-_a-zA-Z0-9]{1,20}") {
            let names = ["q", "cursor"];
            let empty = Parameters::read(&"/".parse().expect("a path"), &names).expect("nothing");
            let first = empty.with("q", &q);
            let first = Parameters::read(&format!("/{first}").parse().expect("a path"), &names);
            let next = first.expect("known").with("cursor", &cursor);
            let next = Parameters::read(&format!("/{next}").parse().expect("a path"), &names);
            let next = next.expect("known");
            prop_assert_eq!((next.get("q"), next.get("cursor")), (Some(&*q), Some(&*cursor)));
        }
    }
}

//! Tokens that open `POST /v1/observations` for one source each.

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest name of a source, in characters, as in observations.
const MAX_NAME: usize = 128;

/// The sources that have a token of their own. Only digests of the tokens are kept.
#[derive(Debug, Default)]
pub struct SourceTokens {
    digests: BTreeMap<String, [u8; 32]>,
}

impl SourceTokens {
    /// Reads a file of the form `{"source": "token", …}`. No error shows a token.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let expected = "expected {\"source\": \"token\", …}";
        let file: &RawValue =
            serde_json::from_slice(bytes).map_err(|error| format!("{expected}: {error}"))?;
        if !file.get().starts_with('{') {
            return Err(format!("{expected}, found something else than an object"));
        }
        let mut reader = serde_json::Deserializer::from_str(file.get());
        let entries = reader.deserialize_map(Entries);
        let entries = entries.map_err(|error| format!("{expected}: {error}"))?;
        let mut tokens = Self::default();
        for (source, token) in entries {
            tokens.add(source, token)?;
        }
        Ok(tokens)
    }

    fn add(&mut self, source: String, token: &RawValue) -> Result<(), String> {
        let length = source.chars().count();
        if source.trim() != source || !(1..=MAX_NAME).contains(&length) {
            return Err(format!(
                "source {source:?}: expected a name of 1 to {MAX_NAME} characters without space \
                 around it"
            ));
        }
        let token: Option<String> = serde_json::from_str(token.get()).ok();
        let is_header =
            |token: &String| !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
        let token = token.filter(is_header).ok_or_else(|| {
            format!(
                "source {source:?}: expected a token of visible ASCII characters without spaces"
            )
        })?;
        let digest = Sha256::digest(token).into();
        if let Some((other, _)) = self.digests.iter().find(|(_, known)| **known == digest) {
            return Err(format!("sources {other:?} and {source:?} have the same token"));
        }
        if self.digests.contains_key(&source) {
            return Err(format!("source {source:?} is listed twice"));
        }
        self.digests.insert(source, digest);
        Ok(())
    }

    /// How many sources have a token of their own.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether `source` has a token of its own.
    #[must_use]
    pub fn names(&self, source: &str) -> bool {
        self.digests.contains_key(source)
    }

    /// The source that `token` is for. Compares with every token, in a time that tells nothing of
    /// their content.
    #[must_use]
    pub fn source_of(&self, token: &str) -> Option<&str> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (source, known) in &self.digests {
            if bool::from(known.ct_eq(&digest)) {
                found = Some(source.as_str());
            }
        }
        found
    }
}

/// All members of an object, those with the same name too.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::SourceTokens;

    #[test]
    fn a_token_is_that_of_its_source_only() {
        let tokens = SourceTokens::parse(br#" {"lab": "one", "rack": "two"} "#).expect("good");
        assert_eq!((tokens.len(), tokens.names("lab"), tokens.names("Lab")), (2, true, false));
        assert_eq!(tokens.source_of("two"), Some("rack"));
        for wrong in ["", "on", "onE", "one ", "lab"] {
            assert_eq!(tokens.source_of(wrong), None, "{wrong:?}");
        }
        assert!(SourceTokens::parse(b"{}").expect("good").is_empty());
    }

    #[test]
    fn a_bad_file_is_explained_without_its_tokens() {
        let table = [
            ("", "expected {\"source\": \"token\", …}: EOF while parsing"),
            (r#"["s3cret"]"#, "found something else than an object"),
            (r#""s3cret""#, "found something else than an object"),
            (r#"{"lab": "s3cret""#, "EOF while parsing an object"),
            (r#"{"lab": ["s3cret"]}"#, "source \"lab\": expected a token of visible ASCII"),
            (r#"{"lab": "s3cret one"}"#, "source \"lab\": expected a token of visible ASCII"),
            (r#"{"lab": ""}"#, "source \"lab\": expected a token of visible ASCII"),
            (r#"{"lab": 5}"#, "source \"lab\": expected a token of visible ASCII"),
            (r#"{" lab": "s3cret"}"#, "source \" lab\": expected a name of 1 to 128 characters"),
            (r#"{"": "s3cret"}"#, "source \"\": expected a name of 1 to 128 characters"),
            (r#"{"lab": "s3cret", "lab": "s3cret2"}"#, "source \"lab\" is listed twice"),
            (
                r#"{"lab": "s3cret", "rack": "s3cret"}"#,
                "sources \"lab\" and \"rack\" have the same token",
            ),
        ];
        for (file, expected) in table {
            let error = SourceTokens::parse(file.as_bytes()).expect_err(file);
            assert!(error.contains(expected), "expected {expected}\nfound {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            drop(SourceTokens::parse(&bytes));
        }
    }
}

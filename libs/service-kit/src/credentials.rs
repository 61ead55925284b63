//! The credentials file: how a process logs in somewhere, and how it learns of a new way.
//!
//! Whoever rotates a credential publishes a set with a higher *generation*, whose candidates are in
//! the order in which a login should try them. During a rotation both the new and the old account
//! are candidates, so no order of events leaves a reader without one that works.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// One account.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Name of the account.
    pub username: String,
    /// Its password; never shown by `Debug`.
    pub password: SecretString,
}

impl Candidate {
    /// Whether both are the same account with the same password. Secrets have no comparison of their
    /// own.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

/// Where to log in, and as whom.
#[derive(Clone, Debug)]
pub struct CredentialSet {
    /// Increases with each change.
    pub generation: u64,
    /// Host name or address of the server.
    pub host: String,
    /// TCP port of the server.
    pub port: u16,
    /// Name of the database (in MySQL's words: the schema).
    pub database: String,
    /// At least one account, best first.
    pub candidates: Vec<Candidate>,
}

/// Why a credentials file was refused. Never shows its content.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Not JSON, or a field is missing or of another type.
    #[error(
        "expected {{generation, host, port, database, candidates: [{{username, password}}]}}, found {0}"
    )]
    Shape(Problem),
    /// No candidate at all.
    #[error("field candidates: expected at least one account, found none")]
    NoCandidate,
}

/// What the JSON parser says, reduced to kind and position: its messages quote values.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    category: &'static str,
    line: usize,
    column: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.category, self.line, self.column)
    }
}

impl From<&serde_json::Error> for Problem {
    fn from(error: &serde_json::Error) -> Self {
        Self {
            category: match error.classify() {
                serde_json::error::Category::Data => "a missing field or one of another type",
                serde_json::error::Category::Eof => "an early end",
                _ => "text that is no JSON",
            },
            line: error.line(),
            column: error.column(),
        }
    }
}

impl CredentialSet {
    /// Reads a credentials file.
    pub fn from_json(bytes: &[u8]) -> Result<Self, CredentialError> {
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| CredentialError::Shape(Problem::from(&error)))?;
        if file.candidates.is_empty() {
            return Err(CredentialError::NoCandidate);
        }
        let candidates = file.candidates.into_iter();
        Ok(Self {
            generation: file.generation,
            host: file.host,
            port: file.port,
            database: file.database,
            candidates: candidates
                .map(|entry| Candidate {
                    username: entry.username,
                    password: entry.password.into(),
                })
                .collect(),
        })
    }

    /// Writes a credentials file: the one place where passwords become text.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        let candidates = self.candidates.iter();
        let file = File {
            generation: self.generation,
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            candidates: candidates
                .map(|candidate| Entry {
                    username: candidate.username.clone(),
                    password: candidate.password.expose_secret().to_owned(),
                })
                .collect(),
        };
        serde_json::to_string(&file).expect("plain data").into()
    }
}

/// The file as it is on disk.
#[derive(Serialize, Deserialize)]
struct File {
    generation: u64,
    host: String,
    port: u16,
    database: String,
    candidates: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    username: String,
    password: String,
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::{Candidate, CredentialError, CredentialSet};

    fn set() -> CredentialSet {
        CredentialSet {
            generation: 7,
            host: "db.example".to_owned(),
            port: 3306,
            database: "hardware".to_owned(),
            candidates: vec![Candidate { username: "app".to_owned(), password: "s3cret".into() }],
        }
    }

    #[test]
    fn a_set_survives_the_file() {
        let json = set().to_json();
        let read = CredentialSet::from_json(json.expose_secret().as_bytes()).expect("its own form");
        assert_eq!(read.generation, 7);
        let expected = set();
        assert_eq!(
            (&read.host, read.port, &read.database),
            (&expected.host, expected.port, &expected.database)
        );
        assert_eq!(read.candidates.len(), expected.candidates.len());
        assert!(read.candidates[0].is_same(&expected.candidates[0]));
    }

    #[test]
    fn no_message_shows_a_password() {
        assert!(!format!("{:?}", set()).contains("s3cret"));
        let wrong = r#"{"generation":1,"host":"h","port":"s3cret","database":"d","candidates":[]}"#;
        let message = CredentialSet::from_json(wrong.as_bytes()).expect_err("port is no number");
        assert!(!message.to_string().contains("s3cret"), "{message}");
        assert!(message.to_string().contains("line 1"), "{message}");
    }

    #[test]
    fn a_set_without_candidates_is_refused() {
        let empty = r#"{"generation":1,"host":"h","port":1,"database":"d","candidates":[]}"#;
        let error = CredentialSet::from_json(empty.as_bytes()).expect_err("nobody to log in as");
        assert_eq!(error, CredentialError::NoCandidate);
    }
}

//! What accounts and schemas are called.

use std::fmt;

/// Hexadecimal digits of the portal's uid that are part of its accounts' names. Six bits of the first
/// twenty digits of a Kubernetes uid (a version 4 UUID) are constant, so 74 are random: no two portals
/// on one server share a name (of a million, with a probability of 1 in 4 · 10¹⁰, n² / 2⁷⁵). The
/// digits are those of the uid and no hash, so that a database administrator finds an account's portal
/// with `kubectl get hardwareportals -A -o custom-columns=…,UID:.metadata.uid`.
const UID_DIGITS: usize = 20;

const PREFIX: &str = "hw_";

/// Which of a portal's accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The first of the two that pods log in as.
    A,
    /// The second of them.
    B,
    /// The one that changes the schema, and exists only while a migration runs.
    Migration,
}

impl Slot {
    /// The account that takes over from this one; that of migrations has no other.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
            Self::Migration => Self::Migration,
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::A => "_a",
            Self::B => "_b",
            Self::Migration => "_o",
        }
    }
}

/// The name of an account that the operator made: `hw_`, twenty digits of the portal's uid, and which
/// one. 25 characters, of the 32 that RDS allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName {
    text: String,
    slot: Slot,
}

/// Why something is no name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not the uid of an object of Kubernetes.
    #[error("expected a uid that begins with {UID_DIGITS} hexadecimal digits, found \"{0}\"")]
    Uid(String),
    /// Not the name of an account of ours.
    #[error(
        "expected the name of an account as the operator makes them (hw_01234567890123456789_a), found \
         \"{0}\""
    )]
    Account(String),
    /// Not the name of a schema.
    #[error("expected the name of a database of at most 64 characters, found \"{0}\"")]
    Schema(String),
    /// A schema that belongs to the server.
    #[error("\"{0}\" is a database of the server itself, which no portal may use")]
    SystemSchema(String),
}

impl AccountName {
    /// The account of a portal, from the uid of its object.
    pub fn for_portal(uid: &str, slot: Slot) -> Result<Self, NameError> {
        let digits: String = uid.chars().filter(|character| *character != '-').collect();
        let digits = digits.get(..UID_DIGITS).filter(|digits| is_lower_hex(digits));
        let digits = digits.ok_or_else(|| NameError::Uid(uid.to_owned()))?;
        Ok(Self { text: format!("{PREFIX}{digits}{}", slot.suffix()), slot })
    }

    /// Reads a name back, as from the operator's own Secret.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        for slot in [Slot::A, Slot::B, Slot::Migration] {
            let digits =
                text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(slot.suffix()));
            if digits.is_some_and(|digits| digits.len() == UID_DIGITS && is_lower_hex(digits)) {
                return Ok(Self { text: text.to_owned(), slot });
            }
        }
        Err(NameError::Account(text.to_owned()))
    }

    /// Whether this is the name of an account of the same portal.
    #[must_use]
    pub fn is_of_same_portal(&self, name: &str) -> bool {
        Self::parse(name).is_ok_and(|other| other.portal_digits() == self.portal_digits())
    }

    /// The account of the same portal in another slot.
    #[must_use]
    pub fn in_slot(&self, slot: Slot) -> Self {
        Self { text: format!("{PREFIX}{}{}", self.portal_digits(), slot.suffix()), slot }
    }

    /// Which of its portal's accounts this is.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The name as the server knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The server-wide lock of all accounts of this portal; 40 of the 64 characters that MySQL allows.
    pub(super) fn lock_name(&self) -> String {
        format!("gill-hicks.accounts.{}", self.portal_digits())
    }

    fn portal_digits(&self) -> &str {
        &self.text[PREFIX.len()..PREFIX.len() + UID_DIGITS]
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of the schema (Kubernetes' users say database) that a portal's accounts may use.
///
/// Never one of the server's own: the root's rights cover those too, so an account with rights on
/// `mysql` could make itself anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// Characters of a schema's name, by the servers' own rule.
    const LONGEST: usize = 64;

    /// Schemas that come with the servers.
    const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if Self::SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(name)) {
            return Err(NameError::SystemSchema(name.to_owned()));
        }
        // What the servers refuse in identifiers.
        let is_refused = |character: char| character == '\0' || u32::from(character) > 0xFFFF;
        if name.is_empty()
            || name.chars().count() > Self::LONGEST
            || name.ends_with(' ')
            || name.chars().any(is_refused)
        {
            return Err(NameError::Schema(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as the server knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{AccountName, NameError, SchemaName, Slot};

    const UID: &str = "0a1b2c3d-4e5f-4607-8899-aabbccddeeff";

    fn name(slot: Slot) -> AccountName {
        AccountName::for_portal(UID, slot).expect("a uid")
    }

    #[test]
    fn an_account_is_named_after_its_portal_and_slot() {
        assert_eq!(name(Slot::A).as_str(), "hw_0a1b2c3d4e5f46078899_a");
        assert_eq!(name(Slot::B).as_str(), "hw_0a1b2c3d4e5f46078899_b");
        assert_eq!(name(Slot::Migration).as_str(), "hw_0a1b2c3d4e5f46078899_o");
        assert_eq!(name(Slot::A).in_slot(Slot::A.other()), name(Slot::B));
    }

    #[test]
    fn a_name_is_read_back_with_its_slot() {
        for slot in [Slot::A, Slot::B, Slot::Migration] {
            let name = name(slot);
            assert_eq!(AccountName::parse(name.as_str()), Ok(name.clone()));
            assert_eq!(name.slot(), slot);
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused() {
        for text in [
            "",
            "root",
            "hw_",
            "hw_0a1b2c3d4e5f46078899",
            "hw_0a1b2c3d4e5f46078899_c",
            "hw_0A1B2C3D4E5F46078899_a",
            "hw_0a1b2c3d4e_a",
            "hw_0a1b2c3d4e5f4607889'_a",
            "hw_0a1b2c3d4e5f46078899_a ",
        ] {
            assert_eq!(AccountName::parse(text), Err(NameError::Account(text.to_owned())));
        }
    }

    #[test]
    fn a_uid_that_is_none_is_refused() {
        for uid in ["", "short", "not-a-hexadecimal-uid", "0a1b2c3d-é"] {
            let refused = AccountName::for_portal(uid, Slot::A);
            assert_eq!(refused, Err(NameError::Uid(uid.to_owned())));
        }
    }

    #[test]
    fn all_accounts_of_a_portal_share_its_lock() {
        assert_eq!(name(Slot::A).lock_name(), "gill-hicks.accounts.0a1b2c3d4e5f46078899");
        assert_eq!(name(Slot::A).lock_name(), name(Slot::Migration).lock_name());
    }

    #[test]
    fn the_servers_own_schemas_are_refused() {
        for schema in ["mysql", "MySQL", "sys", "information_schema", "performance_schema"] {
            let refused = SchemaName::new(schema);
            assert_eq!(refused, Err(NameError::SystemSchema(schema.to_owned())));
        }
    }

    #[test]
    fn a_schema_name_is_one_that_the_servers_take() {
        let longest = "ü".repeat(64);
        for schema in ["hardware", "team-a.hardware", "50% `off`", &longest] {
            assert_eq!(SchemaName::new(schema).expect("a name").as_str(), schema);
        }
        for schema in ["", "ends in space ", "nul\0", "🦀", &"x".repeat(65)] {
            assert_eq!(SchemaName::new(schema), Err(NameError::Schema(schema.to_owned())));
        }
    }
}

//! Names and texts inside SQL: the one place that quotes.
//!
//! `CREATE USER`, `ALTER USER` and `GRANT` take no bound parameters, so what varies is quoted here.
//! The rules hold for a session whose `sql_mode` has neither `ANSI_QUOTES` nor
//! `NO_BACKSLASH_ESCAPES` and whose character set is UTF-8; [`super::Session`] sees to both.

use super::AccountName;

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// An identifier. The servers have no way to write NUL in one, and no name has it.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The name of a schema where `GRANT` reads a pattern: `_` and `%` would stand for other characters,
/// and `a_b` for the schema `axb` of somebody else.
pub(super) fn schema_pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 2);
    for character in name.chars() {
        if matches!(character, '_' | '%' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    identifier(&pattern)
}

/// An account of ours, which may log in from anywhere: pods have no address that lasts.
pub(super) fn account(name: &AccountName) -> String {
    format!("{}@'%'", literal(name.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{identifier, literal, schema_pattern};

    /// Reads a literal as the server does; none if it ends early or goes on after its end.
    fn read_literal(sql: &str) -> Option<String> {
        let mut rest = sql.strip_prefix('\'')?.strip_suffix('\'')?.chars();
        let mut text = String::new();
        while let Some(character) = rest.next() {
            match character {
                '\'' => text.push((rest.next()? == '\'').then_some('\'')?),
                '\\' => match rest.next()? {
                    '0' => text.push('\0'),
                    '\\' => text.push('\\'),
                    _ => return None,
                },
                other => text.push(other),
            }
        }
        Some(text)
    }

    fn read_identifier(sql: &str) -> Option<String> {
        let mut rest = sql.strip_prefix('`')?.strip_suffix('`')?.chars();
        let mut name = String::new();
        while let Some(character) = rest.next() {
            match character {
                '`' => name.push((rest.next()? == '`').then_some('`')?),
                other => name.push(other),
            }
        }
        Some(name)
    }

    /// MySQL's `wild_case_compare` for names of schemas, written anew.
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['%', rest @ ..] => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
            ['\\', literal, rest @ ..] => {
                name.first() == Some(literal) && matches(rest, &name[1..])
            }
            ['_', rest @ ..] => !name.is_empty() && matches(rest, &name[1..]),
            [literal, rest @ ..] => name.first() == Some(literal) && matches(rest, &name[1..]),
        }
    }

    fn pattern_of(name: &str) -> Vec<char> {
        read_identifier(&schema_pattern(name)).expect("an identifier").chars().collect()
    }

    proptest! {
        #[test]
        fn a_literal_is_read_as_what_it_was(text in any::<String>()) {
            prop_assert_eq!(read_literal(&literal(&text)), Some(text));
        }

        #[test]
        fn a_literal_of_hostile_characters_is_read_as_what_it_was(text in "[a'\"\\\\`;0\u{0}-]{0,12}") {
            prop_assert_eq!(read_literal(&literal(&text)), Some(text));
        }

        #[test]
        fn an_identifier_is_read_as_what_it_was(name in "[a`'\"\\\\.]{0,12}|\\PC{0,12}") {
            prop_assert_eq!(read_identifier(&identifier(&name)), Some(name));
        }

        #[test]
        fn a_schema_pattern_matches_its_own_schema_and_no_other(
            name in "[ab_%\\\\`]{1,5}",
            other in "[ab_%\\\\`]{1,5}",
        ) {
            let pattern = pattern_of(&name);
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert!(matches(&pattern, &characters(&name)));
            prop_assert_eq!(matches(&pattern, &characters(&other)), name == other);
        }
    }

    #[test]
    fn an_underscore_is_no_wildcard() {
        assert_eq!(schema_pattern("team_a%"), r"`team\_a\%`");
        assert!(!matches(&pattern_of("team_a"), &['t', 'e', 'a', 'm', 'x', 'a']));
    }
}

//! What an account may do, as issued and as `SHOW GRANTS` tells it.
//!
//! Pure: reads the server's lines and says in words what differs from the constant lists below. The
//! lists are never read from a server, so rights cannot drift from one account to the next.

use std::{collections::BTreeSet, fmt};

use super::{
    dialect::Dialect,
    quote::{identifier, schema_pattern},
};

/// Which of the two constant lists an account has on its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Reads and writes rows: what the pods need.
    Application,
    /// Changes tables as well: what a migration needs.
    Migration,
}

impl Rights {
    /// The rights by the servers' names.
    #[must_use]
    pub fn list(self) -> &'static [&'static str] {
        match self {
            Self::Application => &["SELECT", "INSERT", "UPDATE", "DELETE"],
            Self::Migration => &[
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "CREATE",
                "ALTER",
                "INDEX",
                "DROP",
                "REFERENCES",
            ],
        }
    }
}

/// In words, what an account has too much or too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(Vec<String>);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// What `GRANT` and `REVOKE` would have to do to an account.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repair {
    /// Rights that the account lacks on its schema.
    pub(super) grant: Vec<&'static str>,
    /// What stands between `REVOKE` and `FROM`, once per statement.
    pub(super) revoke: Vec<String>,
    words: Vec<String>,
}

impl Repair {
    /// None if the account has what was issued, no more and no less.
    pub(super) fn difference(&self) -> Option<Difference> {
        (!self.words.is_empty()).then(|| Difference(self.words.clone()))
    }
}

/// The schema in `GRANT … ON`, where it is a pattern unless the server says otherwise.
pub(super) fn object(schema: &str, dialect: &Dialect) -> String {
    let name = if dialect.partial_revokes { identifier(schema) } else { schema_pattern(schema) };
    format!("{name}.*")
}

/// Compares the lines of `SHOW GRANTS` with what was issued on `schema`.
pub(super) fn compare(issued: Rights, schema: &str, dialect: &Dialect, lines: &[String]) -> Repair {
    let own = object(schema, dialect);
    let is_own = |object: &str| {
        object == own || (dialect.folds_schema_names && object.to_lowercase() == own.to_lowercase())
    };
    let mut missing: BTreeSet<&str> = issued.list().iter().copied().collect();
    let mut repair = Repair::default();
    for line in lines {
        match Line::parse(line) {
            Line::Rights { rights, object, is_grantable } => {
                let is_expected = |right: &str| {
                    right == "USAGE" || (is_own(&object) && issued.list().contains(&right))
                };
                let extra: Vec<&str> =
                    rights.iter().map(String::as_str).filter(|right| !is_expected(right)).collect();
                if is_own(&object) {
                    missing.retain(|right| !rights.iter().any(|held| held == right));
                }
                if !extra.is_empty() {
                    let extra = extra.join(", ");
                    repair.words.push(format!("has {extra} on {object}, which was not issued"));
                    repair.revoke.push(format!("{extra} ON {object}"));
                }
                if is_grantable {
                    repair.words.push(format!("may pass on its rights on {object}"));
                    repair.revoke.push(format!("GRANT OPTION ON {object}"));
                }
            }
            Line::Roles(roles) => {
                for role in roles {
                    if !dialect.mandatory_roles.contains(&role) {
                        repair.words.push(format!("has the role {role}"));
                        repair.revoke.push(role);
                    }
                }
            }
            Line::DefaultRole => {}
            Line::Other => repair.words.push("has a restriction that was not issued".to_owned()),
        }
    }
    // In the order of the constant list, for statements that look alike.
    repair.grant.extend(issued.list().iter().filter(|right| missing.contains(**right)));
    if !repair.grant.is_empty() {
        repair.words.insert(0, format!("lacks {} on {own}", repair.grant.join(", ")));
    }
    repair
}

/// Whether the lines give a right on everything.
pub(super) fn has_global(right: &str, lines: &[String]) -> bool {
    lines.iter().any(|line| match Line::parse(line) {
        Line::Rights { rights, object, .. } => {
            object == "*.*" && rights.iter().any(|held| held == right || held == "ALL PRIVILEGES")
        }
        _ => false,
    })
}

/// One line of `SHOW GRANTS`. What follows the account (a hash of its password, on MariaDB) is left
/// out of every variant.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Rights {
        rights: Vec<String>,
        object: String,
        is_grantable: bool,
    },
    /// MySQL names them all in one line, MariaDB one.
    Roles(Vec<String>),
    /// MariaDB tells which role a session begins with; the role has a line of its own.
    DefaultRole,
    /// `REVOKE …`, a partial revoke of MySQL, or nothing that we know.
    Other,
}

impl Line {
    fn parse(line: &str) -> Self {
        if line.starts_with("SET DEFAULT ROLE ") {
            return Self::DefaultRole;
        }
        let Some((what, tail)) =
            line.strip_prefix("GRANT ").and_then(|rest| split_outside(rest, " TO "))
        else {
            return Self::Other;
        };
        let Some((rights, object)) = split_outside(what, " ON ") else {
            return Self::Roles(split_list(what));
        };
        Self::Rights {
            rights: split_list(rights),
            object: object.to_owned(),
            is_grantable: find_outside(tail, "GRANT OPTION").is_some(),
        }
    }
}

/// The roles in MySQL's variable `mandatory_roles`, such as ``reader,`all users`@`%`,'ops'@'localhost'``, as
/// `SHOW GRANTS` writes them.
pub(super) fn parse_roles(variable: &str) -> BTreeSet<String> {
    let roles = split_list(variable).into_iter().filter(|role| !role.is_empty());
    let canonical = |role: String| {
        let (name, host) = split_outside(&role, "@").unwrap_or((&role, "%"));
        let host = unquote(host).to_lowercase();
        format!("{}@{}", identifier(&unquote(name)), identifier(&host))
    };
    roles.map(canonical).collect()
}

/// What is in quotes of any kind, or the text itself.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '\'' | '`' | '"')) else {
        return text.to_owned();
    };
    let inner = &text[1..];
    inner
        .strip_suffix(quote)
        .unwrap_or(inner)
        .replace(&format!("{quote}{quote}"), &quote.to_string())
}

/// Splits at commas that are in no quotes and no parentheses (lists of columns).
fn split_list(mut list: &str) -> Vec<String> {
    let mut entries = Vec::new();
    while let Some((entry, rest)) = split_outside(list, ",") {
        entries.push(entry.trim().to_owned());
        list = rest;
    }
    entries.push(list.trim().to_owned());
    entries
}

fn split_outside<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let start = find_outside(text, separator)?;
    Some((&text[..start], &text[start + separator.len()..]))
}

/// Where `wanted` first is, outside of quotes and parentheses.
fn find_outside(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_u32;
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        match (quote, character) {
            // A doubled quote closes and opens again, which comes to the same.
            (Some(open), _) if is_escaped || character != open => {
                is_escaped = open == '\'' && character == '\\' && !is_escaped;
            }
            (Some(_), _) => quote = None,
            (None, _) if depth == 0 && text[position..].starts_with(wanted) => {
                return Some(position);
            }
            (None, '\'' | '`' | '"') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Dialect, Repair, Rights, compare, has_global, parse_roles};
    use crate::rotation::mysql::Flavour;

    const MARIADB: Dialect = Dialect {
        flavour: Flavour::MariaDb,
        folds_schema_names: false,
        partial_revokes: false,
        mandatory_roles: BTreeSet::new(),
    };

    /// MariaDB 10.11 shows the hash of the password; MySQL 8.4 does not.
    const USAGE_ON_MARIADB: &str = "GRANT USAGE ON *.* TO `hw_0a1b2c3d4e5f46078899_a`@`%` IDENTIFIED BY PASSWORD \
         '*02489EA326129A0D442E8342E0A44A9BF5FC2331' REQUIRE SSL";
    const USAGE_ON_MYSQL: &str = "GRANT USAGE ON *.* TO `hw_0a1b2c3d4e5f46078899_a`@`%`";
    const ISSUED: &str =
        r"GRANT SELECT, INSERT, UPDATE, DELETE ON `team\_a`.* TO `hw_0a1b2c3d4e5f46078899_a`@`%`";

    fn repair(lines: &[&str]) -> Repair {
        repair_on(&MARIADB, lines)
    }

    fn repair_on(dialect: &Dialect, lines: &[&str]) -> Repair {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        compare(Rights::Application, "team_a", dialect, &lines)
    }

    fn words(repair: &Repair) -> String {
        repair.difference().map(|difference| difference.to_string()).unwrap_or_default()
    }

    #[test]
    fn issued_rights_are_no_difference_on_either_server() {
        for usage in [USAGE_ON_MARIADB, USAGE_ON_MYSQL] {
            assert_eq!(repair(&[usage, ISSUED]), Repair::default());
        }
    }

    #[test]
    fn a_missing_right_is_named_and_granted() {
        let line = r"GRANT SELECT, UPDATE ON `team\_a`.* TO `hw_0a1b2c3d4e5f46078899_a`@`%`";
        let repair = repair(&[USAGE_ON_MYSQL, line]);
        assert_eq!(words(&repair), r"lacks INSERT, DELETE on `team\_a`.*");
        assert_eq!(repair.grant, ["INSERT", "DELETE"]);
        assert!(repair.revoke.is_empty());
    }

    #[test]
    fn an_extra_right_is_named_and_revoked_alone() {
        let line = r"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON `team\_a`.* TO `x`@`%`";
        let repair = repair(&[USAGE_ON_MYSQL, line]);
        assert_eq!(words(&repair), r"has CREATE, DROP on `team\_a`.*, which was not issued");
        assert_eq!(repair.revoke, [r"CREATE, DROP ON `team\_a`.*"]);
        assert!(repair.grant.is_empty());
    }

    #[test]
    fn rights_on_anything_else_are_revoked_as_the_server_names_them() {
        let repair = repair(&[
            "GRANT PROCESS, CREATE USER ON *.* TO `x`@`%` WITH GRANT OPTION",
            ISSUED,
            "GRANT SELECT ON `team_a`.* TO `x`@`%`",
            "GRANT SELECT (`a`, `b ON c`), INSERT (`a`) ON `other`.`t TO u` TO `x`@`%`",
            "GRANT EXECUTE ON PROCEDURE `other`.`p` TO `x`@`%`",
            "GRANT PROXY ON ''@'%' TO `x`@`%`",
        ]);
        assert_eq!(
            repair.revoke,
            [
                "PROCESS, CREATE USER ON *.*",
                "GRANT OPTION ON *.*",
                "SELECT ON `team_a`.*",
                "SELECT (`a`, `b ON c`), INSERT (`a`) ON `other`.`t TO u`",
                "EXECUTE ON PROCEDURE `other`.`p`",
                "PROXY ON ''@'%'",
            ]
        );
    }

    #[test]
    fn roles_of_either_server_are_revoked() {
        let repair = repair(&[
            "GRANT `reader`@`%` TO `x`@`%` WITH ADMIN OPTION",
            "GRANT `writer` TO `x`@`%`",
            "SET DEFAULT ROLE `writer` FOR `x`@`%`",
            ISSUED,
        ]);
        assert_eq!(repair.revoke, ["`reader`@`%`", "`writer`"]);
        assert_eq!(words(&repair), "has the role `reader`@`%`; has the role `writer`");
    }

    #[test]
    fn roles_that_every_account_has_are_neither_a_difference_nor_revoked() {
        let mandatory_roles = parse_roles("everyone,`all users`@`%`");
        let mysql = Dialect { flavour: Flavour::MySql, mandatory_roles, ..MARIADB };
        let both = "GRANT `all users`@`%`,`everyone`@`%` TO `x`@`%`";
        assert_eq!(repair_on(&mysql, &[USAGE_ON_MYSQL, ISSUED, both]), Repair::default());
        let three = "GRANT `all users`@`%`,`everyone`@`%`,`reader`@`%` TO `x`@`%`";
        let repair = repair_on(&mysql, &[USAGE_ON_MYSQL, ISSUED, three]);
        assert_eq!(words(&repair), "has the role `reader`@`%`");
        assert_eq!(repair.revoke, ["`reader`@`%`"]);
    }

    #[test]
    fn mandatory_roles_are_read_as_administrators_write_them() {
        let roles = |variable: &str| parse_roles(variable).into_iter().collect::<Vec<_>>();
        assert_eq!(roles(""), [""; 0]);
        assert_eq!(roles("reader"), ["`reader`@`%`"]);
        assert_eq!(
            roles("`a,b`@`%`, 'it''s'@'LocalHost',\"c@d\", reader@localhost"),
            ["`a,b`@`%`", "`c@d`@`%`", "`it's`@`localhost`", "`reader`@`localhost`"]
        );
    }

    #[test]
    fn a_partial_revoke_is_a_difference_without_a_repair() {
        let repair = repair(&[ISSUED, "REVOKE SELECT ON `team_a`.* FROM `x`@`%`"]);
        assert_eq!(words(&repair), "has a restriction that was not issued");
        assert!(repair.revoke.is_empty());
    }

    #[test]
    fn the_hash_of_the_password_is_in_no_message() {
        let line = "GRANT CREATE ON *.* TO `x`@`%` IDENTIFIED VIA mysql_native_password USING \
             '*HASH WITH GRANT OPTION' OR mysql_native_password USING '*HASH2'";
        let repair = repair(&[line, ISSUED]);
        assert_eq!(words(&repair), "has CREATE on *.*, which was not issued");
        assert!(!format!("{repair:?}").contains("HASH"));
    }

    #[test]
    fn a_schema_is_no_pattern_under_partial_revokes() {
        let dialect = Dialect { flavour: Flavour::MySql, partial_revokes: true, ..MARIADB };
        let plain = ISSUED.replace(r"team\_a", "team_a");
        assert_eq!(repair_on(&dialect, &[&plain]), Repair::default());
        assert!(repair_on(&MARIADB, &[&plain]).difference().is_some());
    }

    #[test]
    fn the_case_of_a_schema_counts_unless_the_server_folds_it() {
        let line = ISSUED.replace("team", "Team");
        let folding = Dialect { folds_schema_names: true, ..MARIADB };
        assert_eq!(repair_on(&folding, &[&line]), Repair::default());
        assert!(repair_on(&MARIADB, &[&line]).difference().is_some());
    }

    #[test]
    fn only_a_right_on_everything_is_global() {
        let has = |line: &str| has_global("CREATE USER", &[line.to_owned()]);
        assert!(has("GRANT SELECT, CREATE USER, EVENT ON *.* TO `admin`@`%` REQUIRE SSL"));
        assert!(has("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"));
        assert!(!has("GRANT ALL PRIVILEGES ON `hardware`.* TO `app`@`%`"));
        assert!(!has("GRANT CREATE ON *.* TO `CREATE USER`@`%`"));
    }
}

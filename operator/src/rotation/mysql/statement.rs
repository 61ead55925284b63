//! The statements that change accounts, as data.
//!
//! MySQL and MariaDB differ in how a second password is kept beside the first and how it is given up, and
//! in what an account can say against the server's policies.

use std::fmt;

use secrecy::SecretString;

use super::{
    AccountName, Flavour, Password,
    quote::{account, literal},
    server::Tls,
};

/// One statement. Its text is shown to nobody but the server.
pub(super) struct Statement {
    pub(super) sql: SecretString,
    /// What it does, after "failed to".
    pub(super) purpose: String,
    /// Whether the server's own messages, which quote SQL, may be passed on.
    pub(super) has_secret: bool,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Statement {
    fn open(sql: String, purpose: String) -> Self {
        Self { sql: sql.into(), purpose, has_secret: false }
    }

    fn secret(sql: String, purpose: String) -> Self {
        Self { sql: sql.into(), purpose, has_secret: true }
    }
}

/// What has MySQL forget earlier passwords: `EnsureAccount` may set one that was in use before, which
/// `password_history` and `password_reuse_interval` refuse with error 3638.
const NO_HISTORY: &str = "PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY";

/// What lifts MySQL's block after too many wrong passwords, which answers 3955 to every login, also where
/// the account is locked. None of the servers sets such a limit by itself. MariaDB lifts its own with any
/// `ALTER USER`.
const NO_BLOCK: &str = "FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0";

/// Makes an account usable with one password, whether it exists or not and whatever it was.
///
/// `ALTER` comes first: the other way round a new account's password would be set twice, which
/// MySQL's `password_history` refuses.
pub(super) fn ensure_account(
    flavour: Flavour,
    name: &AccountName,
    password: &Password,
    tls: &Tls,
) -> Vec<Statement> {
    let requirement = match tls {
        Tls::Required(_) => "SSL",
        Tls::Disabled => "NONE",
    };
    let policies = match flavour {
        Flavour::MySql => format!("PASSWORD EXPIRE NEVER {NO_HISTORY} {NO_BLOCK}"),
        // It has no clauses against the others.
        Flavour::MariaDb => "PASSWORD EXPIRE NEVER".to_owned(),
    };
    let options = format!(
        "{} IDENTIFIED BY {} REQUIRE {requirement} {policies} ACCOUNT UNLOCK",
        account(name),
        literal(password.expose()),
    );
    let mut statements = vec![
        Statement::secret(
            format!("ALTER USER IF EXISTS {options}"),
            format!("set the password of {name}"),
        ),
        Statement::secret(
            format!("CREATE USER IF NOT EXISTS {options}"),
            format!("create the account {name}"),
        ),
    ];
    if flavour == Flavour::MySql {
        // A password that DualPassword mode retained would outlive any number of new ones.
        statements.push(discard_on_mysql(name));
    }
    statements
}

/// Lets in both `new` and `old`.
pub(super) fn retain_password(
    flavour: Flavour,
    name: &AccountName,
    new: &Password,
    old: &Password,
) -> Statement {
    let user = account(name);
    let new = literal(new.expose());
    let sql = match flavour {
        Flavour::MySql => format!("ALTER USER {user} IDENTIFIED BY {new} RETAIN CURRENT PASSWORD"),
        Flavour::MariaDb => format!(
            "ALTER USER {user} IDENTIFIED VIA mysql_native_password USING PASSWORD({new}) OR \
             mysql_native_password USING PASSWORD({})",
            literal(old.expose()),
        ),
    };
    Statement::secret(sql, format!("give {name} a second password"))
}

/// Lets in `new` alone.
pub(super) fn discard_old_password(
    flavour: Flavour,
    name: &AccountName,
    new: &Password,
) -> Statement {
    match flavour {
        Flavour::MySql => discard_on_mysql(name),
        Flavour::MariaDb => Statement::secret(
            format!(
                "ALTER USER {} IDENTIFIED VIA mysql_native_password USING PASSWORD({})",
                account(name),
                literal(new.expose()),
            ),
            format!("discard the old password of {name}"),
        ),
    }
}

fn discard_on_mysql(name: &AccountName) -> Statement {
    Statement::open(
        format!("ALTER USER {} DISCARD OLD PASSWORD {NO_BLOCK}", account(name)),
        format!("discard the old password of {name}"),
    )
}

/// Refuses further logins; an account that is gone refuses them too.
pub(super) fn lock_account(flavour: Flavour, name: &AccountName) -> Statement {
    let block = match flavour {
        Flavour::MySql => format!(" {NO_BLOCK}"),
        Flavour::MariaDb => String::new(),
    };
    Statement::open(
        format!("ALTER USER IF EXISTS {}{block} ACCOUNT LOCK", account(name)),
        format!("lock the account {name}"),
    )
}

/// Removes an account.
pub(super) fn drop_account(name: &AccountName) -> Statement {
    Statement::open(
        format!("DROP USER IF EXISTS {}", account(name)),
        format!("drop the account {name}"),
    )
}

/// Gives rights on one object.
pub(super) fn grant(rights: &[&str], object: &str, name: &AccountName) -> Statement {
    let rights = rights.join(", ");
    Statement::open(
        format!("GRANT {rights} ON {object} TO {}", account(name)),
        format!("grant {rights} on {object} to {name}"),
    )
}

/// Takes back what is between `REVOKE` and `FROM`.
pub(super) fn revoke(what: &str, name: &AccountName) -> Statement {
    Statement::open(
        format!("REVOKE {what} FROM {}", account(name)),
        format!("revoke {what} from {name}"),
    )
}

/// Asks for an account: a row if it is there.
pub(super) fn find_account(name: &AccountName) -> String {
    format!("SELECT user FROM mysql.user WHERE user = {} AND host = '%'", literal(name.as_str()))
}

/// Asks what another account may do.
pub(super) fn show_grants(name: &AccountName) -> String {
    format!("SHOW GRANTS FOR {}", account(name))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::{
        Statement, discard_old_password, drop_account, ensure_account, find_account, grant,
        lock_account, retain_password, revoke, show_grants,
    };
    use crate::rotation::mysql::{AccountName, Authorities, Flavour, Password, Slot, server::Tls};

    fn name() -> AccountName {
        AccountName::for_portal("0a1b2c3d-4e5f-4607-8899-aabbccddeeff", Slot::A).expect("a uid")
    }

    fn password(text: &str) -> Password {
        Password::from_secret(text.to_owned().into())
    }

    fn sql(statement: &Statement) -> &str {
        statement.sql.expose_secret()
    }

    #[test]
    fn mysql_keeps_and_discards_a_second_password_by_its_own_words() {
        let retain = retain_password(Flavour::MySql, &name(), &password("new"), &password("old"));
        assert_eq!(
            sql(&retain),
            "ALTER USER 'hw_0a1b2c3d4e5f46078899_a'@'%' IDENTIFIED BY 'new' RETAIN CURRENT PASSWORD"
        );
        let discard = discard_old_password(Flavour::MySql, &name(), &password("new"));
        assert_eq!(
            sql(&discard),
            "ALTER USER 'hw_0a1b2c3d4e5f46078899_a'@'%' DISCARD OLD PASSWORD FAILED_LOGIN_ATTEMPTS 0 \
             PASSWORD_LOCK_TIME 0"
        );
    }

    #[test]
    fn mariadb_keeps_a_second_password_as_a_second_way_to_log_in() {
        let retain = retain_password(Flavour::MariaDb, &name(), &password("new"), &password("old"));
        assert_eq!(
            sql(&retain),
            "ALTER USER 'hw_0a1b2c3d4e5f46078899_a'@'%' IDENTIFIED VIA mysql_native_password USING \
             PASSWORD('new') OR mysql_native_password USING PASSWORD('old')"
        );
        let discard = discard_old_password(Flavour::MariaDb, &name(), &password("new"));
        assert_eq!(
            sql(&discard),
            "ALTER USER 'hw_0a1b2c3d4e5f46078899_a'@'%' IDENTIFIED VIA mysql_native_password USING \
             PASSWORD('new')"
        );
    }

    #[test]
    fn an_account_is_made_alike_on_both_servers_but_for_the_policies_of_mysql() {
        let tls = Tls::Required(Authorities::from_pem(b""));
        let of = |flavour| -> Vec<String> {
            ensure_account(flavour, &name(), &password("p"), &tls)
                .iter()
                .map(|statement| sql(statement).to_owned())
                .collect()
        };
        let with = |policies: &str| {
            ["ALTER USER IF EXISTS", "CREATE USER IF NOT EXISTS"].map(|verb| {
                format!(
                    "{verb} 'hw_0a1b2c3d4e5f46078899_a'@'%' IDENTIFIED BY 'p' REQUIRE SSL PASSWORD \
                     EXPIRE NEVER {policies}ACCOUNT UNLOCK"
                )
            })
        };
        assert_eq!(of(Flavour::MariaDb), with(""));
        let policies = "PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY FAILED_LOGIN_ATTEMPTS 0 \
                        PASSWORD_LOCK_TIME 0 ";
        assert_eq!(of(Flavour::MySql)[..2], with(policies));
        assert_eq!(
            of(Flavour::MySql)[2],
            "ALTER USER 'hw_0a1b2c3d4e5f46078899_a'@'%' DISCARD OLD PASSWORD FAILED_LOGIN_ATTEMPTS 0 \
             PASSWORD_LOCK_TIME 0"
        );
    }

    #[test]
    fn an_account_needs_no_tls_where_tls_is_disabled() {
        let statements = ensure_account(Flavour::MySql, &name(), &password("p"), &Tls::Disabled);
        assert!(sql(&statements[0]).contains(" REQUIRE NONE "));
    }

    #[test]
    fn a_lock_is_a_lock_on_mysql_too_where_the_account_is_blocked() {
        assert_eq!(
            sql(&lock_account(Flavour::MariaDb, &name())),
            "ALTER USER IF EXISTS 'hw_0a1b2c3d4e5f46078899_a'@'%' ACCOUNT LOCK"
        );
        assert_eq!(
            sql(&lock_account(Flavour::MySql, &name())),
            "ALTER USER IF EXISTS 'hw_0a1b2c3d4e5f46078899_a'@'%' FAILED_LOGIN_ATTEMPTS 0 \
             PASSWORD_LOCK_TIME 0 ACCOUNT LOCK"
        );
    }

    #[test]
    fn the_other_statements_are_the_same_for_both() {
        assert_eq!(
            sql(&drop_account(&name())),
            "DROP USER IF EXISTS 'hw_0a1b2c3d4e5f46078899_a'@'%'"
        );
        assert_eq!(
            sql(&grant(&["SELECT", "INSERT"], r"`team\_a`.*", &name())),
            r"GRANT SELECT, INSERT ON `team\_a`.* TO 'hw_0a1b2c3d4e5f46078899_a'@'%'"
        );
        assert_eq!(
            sql(&revoke("GRANT OPTION ON *.*", &name())),
            "REVOKE GRANT OPTION ON *.* FROM 'hw_0a1b2c3d4e5f46078899_a'@'%'"
        );
        assert_eq!(
            find_account(&name()),
            "SELECT user FROM mysql.user WHERE user = 'hw_0a1b2c3d4e5f46078899_a' AND host = '%'"
        );
        assert_eq!(show_grants(&name()), "SHOW GRANTS FOR 'hw_0a1b2c3d4e5f46078899_a'@'%'");
    }

    #[test]
    fn a_statement_with_a_password_shows_it_to_nobody() {
        let (new, old) = (password("s3cret1"), password("s3cret2"));
        let mut statements = ensure_account(Flavour::MariaDb, &name(), &new, &Tls::Disabled);
        statements.push(retain_password(Flavour::MariaDb, &name(), &new, &old));
        statements.push(discard_old_password(Flavour::MariaDb, &name(), &new));
        for statement in statements {
            assert!(statement.has_secret, "{statement:?}");
            assert!(!format!("{statement:?} {}", statement.purpose).contains("s3cret"));
        }
    }
}

//! What a login shows of an account.

use crate::rotation::{
    machine::ObservedLogin,
    mysql::{LoginError, Verified, VerifyError},
};

/// What a try of a login shows. Whatever keeps an account of ours from being used is put right by making
/// it again, so it differs; an account of somebody else is refused.
pub(super) fn observed_login(
    verified: Result<Verified, VerifyError>,
    is_ours: bool,
) -> ObservedLogin {
    match verified {
        Ok(verified) => ObservedLogin::Accepted { is_privileged: verified.may_create_users },
        Err(VerifyError::Login(error)) => match error {
            LoginError::Restricted { .. } if is_ours => ObservedLogin::Differs(error.to_string()),
            // It says nothing of the password, so it neither proves that one is dead.
            LoginError::Denied { .. } if is_ours && error.is_blocked() => {
                ObservedLogin::Differs(error.to_string())
            }
            LoginError::Denied { .. } | LoginError::Restricted { .. } => ObservedLogin::Denied,
            LoginError::Unreachable { .. } | LoginError::Other { .. } => {
                ObservedLogin::Unreachable(error.to_string())
            }
        },
        Err(error @ (VerifyError::NotEncrypted { .. } | VerifyError::Rights { .. })) => {
            ObservedLogin::Differs(error.to_string())
        }
        Err(VerifyError::Sql(error)) => ObservedLogin::Unreachable(error.to_string()),
    }
}

/// Why no login of the source is let in. A password that is wrong is corrected in the source; an account
/// that is blocked, locked or restricted is put right on the server, as the advice says.
pub(super) fn describe_rejection(mut advice: Vec<String>) -> String {
    advice.dedup();
    if advice.is_empty() {
        return "the database refuses every login of the source; correct the source".to_owned();
    }
    format!("the database refuses every login of the source: {}", advice.join("; "))
}

#[cfg(test)]
mod tests {
    use super::{LoginError, ObservedLogin, VerifyError, describe_rejection, observed_login};
    use crate::rotation::mysql::{SqlError, TableState, Verified};

    fn denied(code: u16) -> LoginError {
        LoginError::Denied { username: "app".to_owned(), code }
    }

    fn restricted(code: u16) -> LoginError {
        LoginError::Restricted { username: "app".to_owned(), code }
    }

    fn rejection(refusals: &[LoginError]) -> String {
        describe_rejection(refusals.iter().filter_map(LoginError::advice).collect())
    }

    fn observed(error: LoginError, is_ours: bool) -> ObservedLogin {
        observed_login(Err(VerifyError::Login(error)), is_ours)
    }

    #[test]
    fn an_account_of_ours_that_may_not_be_used_differs_and_is_not_unreachable() {
        for code in [1044, 1142, 1820, 1862] {
            let ObservedLogin::Differs(words) = observed(restricted(code), true) else {
                panic!("{code} is no finding about the account")
            };
            assert!(words.contains("app") && words.contains(&code.to_string()), "{words}");
        }
    }

    #[test]
    fn an_account_of_ours_that_is_blocked_differs_as_its_password_was_not_checked() {
        for code in [3955, 4150] {
            assert!(matches!(observed(denied(code), true), ObservedLogin::Differs(_)), "{code}");
        }
        for code in [1045, 1698, 3118, 4151, 2059] {
            assert_eq!(observed(denied(code), true), ObservedLogin::Denied, "{code}");
        }
    }

    #[test]
    fn an_account_of_somebody_else_that_may_not_be_used_is_refused() {
        for error in [restricted(1044), restricted(1862), denied(4150), denied(1045)] {
            assert_eq!(observed(error, false), ObservedLogin::Denied);
        }
    }

    #[test]
    fn a_server_that_cannot_be_asked_and_a_schema_that_is_gone_say_nothing_of_the_account() {
        let other = |reason: &str| LoginError::Other {
            host: "db".to_owned(),
            port: 3306,
            username: "app".to_owned(),
            reason: reason.to_owned(),
        };
        let unknown = observed(other("Unknown database 'hardware'"), true);
        assert!(matches!(unknown, ObservedLogin::Unreachable(why) if why.contains("Unknown")));
        let late = SqlError::Late { purpose: "verify an account".to_owned() };
        let late = observed_login(Err(VerifyError::Sql(late)), true);
        assert!(matches!(late, ObservedLogin::Unreachable(_)), "{late:?}");
        let verified = Verified { contents: TableState::Readable, may_create_users: true };
        let accepted = observed_login(Ok(verified), true);
        assert_eq!(accepted, ObservedLogin::Accepted { is_privileged: true });
    }

    #[test]
    fn a_source_whose_password_is_wrong_is_to_be_corrected() {
        assert_eq!(
            rejection(&[denied(1045), denied(1045)]),
            "the database refuses every login of the source; correct the source"
        );
    }

    #[test]
    fn a_source_whose_account_is_blocked_or_expired_says_what_to_do_on_the_server() {
        let words = rejection(&[denied(1045), denied(4150), denied(4150)]);
        assert!(words.starts_with("the database refuses every login of the source: "), "{words}");
        assert_eq!(words.matches("FLUSH PRIVILEGES").count(), 1, "{words}");
        let words = rejection(&[restricted(1862)]);
        assert!(words.contains("the password of app has expired; set another one"), "{words}");
    }
}

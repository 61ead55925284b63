//! What an administrator can set on a server, or on an account, that refuses logins or statements.

use operator::rotation::mysql::{
    Flavour, LoginError, Rights, ensure_application_account, is_refused, lock_account, login,
    login_as_root, verify,
};
use service_kit::credentials::Candidate;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Environment, Portal, candidate};

/// How many wrong passwords block an account in these tests. On MariaDB that counts for every account of
/// the server, and no other test tries one of them so often.
const WRONG_PASSWORDS: usize = 12;

/// A limit of wrong passwords that a test has to itself, until this value ends.
struct Limit {
    environment: Environment,
    flavour: Flavour,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Limit {
    fn drop(&mut self) {
        if self.flavour == Flavour::MariaDb {
            self.environment.administer_as_root("SET GLOBAL max_password_errors = DEFAULT");
        }
    }
}

/// Has the server block an account: MySQL as the account says, MariaDB as the server says.
async fn block(portal: &Portal, account: &Candidate) -> Limit {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let (environment, flavour) = (portal.environment.clone(), portal.root.flavour());
    let limit = Limit { environment, flavour, _turn: turn };
    match flavour {
        Flavour::MySql => {
            let limit = format!(
                "ALTER USER '{}'@'%' FAILED_LOGIN_ATTEMPTS {WRONG_PASSWORDS} PASSWORD_LOCK_TIME 1",
                account.username
            );
            portal.administer(&limit).await;
        }
        Flavour::MariaDb => portal
            .environment
            .administer_as_root(&format!("SET GLOBAL max_password_errors = {WRONG_PASSWORDS}")),
    }
    let wrong = Candidate { password: "wrong".into(), ..account.clone() };
    for _ in 0..WRONG_PASSWORDS {
        login(&portal.server, &wrong).await.expect_err("a wrong password");
    }
    limit
}

#[tokio::test]
async fn an_account_that_is_blocked_proves_nothing_of_its_password_and_is_put_right() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let account = candidate(&name, &password);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let _limit = block(&portal, &account).await;
    let error = login(&portal.server, &account).await.expect_err("blocked");
    assert!(error.is_blocked(), "{error:?}");
    let error = is_refused(&portal.server, &account).await.expect_err("no proof");
    assert!(error.is_blocked(), "{error:?}");

    ensure_application_account(&mut portal.root, &name, &password).await.expect("made again");
    verify(&portal.server, &account, Some(Rights::Application)).await.expect("verified");
}

#[tokio::test]
async fn an_account_that_is_blocked_can_be_locked_and_then_proven_so() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let account = candidate(&name, &password);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let _limit = block(&portal, &account).await;
    lock_account(&mut portal.root, &name).await.expect("locked");
    let error = login(&portal.server, &account).await.expect_err("locked");
    assert!(error.is_locked(), "{error:?}");
    assert!(is_refused(&portal.server, &account).await.expect("a proof"));
}

#[tokio::test]
async fn a_root_that_is_blocked_says_how_to_lift_that() {
    let portal = Portal::new().await;
    let name = portal.migration.to_string();
    portal
        .administer(&format!(
            "CREATE USER '{name}'@'%' IDENTIFIED BY 'Ff4-Gg5.Hh6_Jj7~Kk8Ll9-Mm0.Nn1_'"
        ))
        .await;
    let root = Candidate { username: name, password: "Ff4-Gg5.Hh6_Jj7~Kk8Ll9-Mm0.Nn1_".into() };
    let _limit = block(&portal, &root).await;
    let error = login_as_root(&portal.server, &root).await.expect_err("blocked");
    assert!(matches!(error, LoginError::Denied { .. }), "{error:?}");
    let advice = error.advice().expect("advice");
    let lift = match portal.root.flavour() {
        Flavour::MySql => "ACCOUNT UNLOCK",
        Flavour::MariaDb => "FLUSH PRIVILEGES",
    };
    assert!(advice.contains("too many wrong passwords") && advice.contains(lift), "{advice}");
}

//! What an administrator can set on a server, or on an account, that refuses logins or statements.

use operator::rotation::mysql::{
    Flavour, LoginError, Password, Rights, SqlError, VerifyError, discard_old_password,
    ensure_application_account, is_refused, lock_account, login, login_as_root, retain_password,
    verify,
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
    use secrecy::ExposeSecret;
    let mut portal = Portal::new().await;
    let root = candidate(&portal.migration.clone(), &portal.password());
    let password = root.password.expose_secret();
    portal
        .administer(&format!("CREATE USER '{}'@'%' IDENTIFIED BY '{password}'", root.username))
        .await;
    let _limit = block(&portal, &root).await;
    let error = login_as_root(&portal.server, &root, &portal.fence).await.expect_err("blocked");
    assert!(matches!(error, LoginError::Denied { .. }), "{error:?}");
    let advice = error.advice().expect("advice");
    let lift = match portal.root.flavour() {
        Flavour::MySql => "ACCOUNT UNLOCK",
        Flavour::MariaDb => "FLUSH PRIVILEGES",
    };
    assert!(advice.contains("too many wrong passwords") && advice.contains(lift), "{advice}");
}

#[tokio::test]
async fn a_password_that_the_policy_refuses_asks_for_another_one_and_ours_is_taken() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    let has_policy = portal.variable("validate_password.policy").await.is_some();
    let weak = Password::from_secret("only-letters-and-hyphens".into());
    let outcome = ensure_application_account(&mut portal.root, &name, &weak).await;
    let is_refused = outcome.as_ref().is_err_and(SqlError::refuses_password);
    assert_eq!(is_refused, has_policy, "{outcome:?}");
    for _ in 0..20 {
        let password = portal.password();
        ensure_application_account(&mut portal.root, &name, &password).await.expect("taken");
    }
}

/// As after a crash, or a rotation that was given up; and on an account of an earlier version.
#[tokio::test]
async fn a_password_that_was_in_use_before_can_be_set_again() {
    use secrecy::ExposeSecret;
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    let (first, second) = (portal.password(), portal.password());
    let text = first.secret().expose_secret();
    portal
        .administer(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{text}' REQUIRE SSL"))
        .await;
    for password in [&first, &first, &second, &first, &second] {
        ensure_application_account(&mut portal.root, &name, password).await.expect("made");
    }
    retain_password(&mut portal.root, &name, &first, &second).await.expect("two passwords");
    discard_old_password(&mut portal.root, &name, &first).await.expect("one password");
    retain_password(&mut portal.root, &name, &second, &first).await.expect("two passwords");
    discard_old_password(&mut portal.root, &name, &second).await.expect("one password");
    verify(&portal.server, &candidate(&name, &second), Some(Rights::Application))
        .await
        .expect("verified");
}

/// Those of `mandatory_roles` can be taken from nobody, even where they were granted as well, so they are
/// not drift; another one is.
#[tokio::test]
async fn a_role_that_somebody_granted_is_taken_back_and_those_of_every_account_are_not() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let login = candidate(&name, &password);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let mandatory = portal.variable("mandatory_roles").await.unwrap_or_default();
    if !mandatory.is_empty() {
        portal.administer(&format!("GRANT {mandatory} TO '{name}'@'%'")).await;
    }
    verify(&portal.server, &login, Some(Rights::Application)).await.expect("no drift");

    let role = format!("{}_role", portal.server.schema.as_str());
    for statement in [
        format!("DROP ROLE IF EXISTS '{role}'"),
        format!("CREATE ROLE '{role}'"),
        format!("GRANT CREATE ON `{}`.* TO '{role}'", portal.server.schema.as_str()),
        format!("GRANT '{role}' TO '{name}'@'%'"),
    ] {
        portal.administer(&statement).await;
    }
    let drift = verify(&portal.server, &login, Some(Rights::Application)).await;
    let drift = drift.map_err(|error| (error.to_string(), error));
    assert!(
        matches!(&drift, Err((words, VerifyError::Rights { .. })) if words.contains(&format!("has the role `{role}`"))),
        "{drift:?}"
    );
    let made = ensure_application_account(&mut portal.root, &name, &password).await;
    portal.administer(&format!("DROP ROLE '{role}'")).await;
    made.expect("put right");
    verify(&portal.server, &login, Some(Rights::Application)).await.expect("verified");
}

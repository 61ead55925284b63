//! What is proven of a credential before pods get it.

use operator::rotation::mysql::{
    Flavour, LoginError, Rights, TableState, VerifyError, ensure_application_account, verify,
};

use crate::support::{Portal, candidate, quoted};

#[tokio::test]
async fn a_schema_before_its_first_migration_is_told_from_one_that_can_be_read() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let login = candidate(&name, &password);
    let before = verify(&portal.server, &login, Some(Rights::Application)).await.expect("verified");
    assert_eq!(before.contents, TableState::NotMigrated);
    portal.migrate().await;
    let after = verify(&portal.server, &login, Some(Rights::Application)).await.expect("verified");
    assert_eq!(after.contents, TableState::Readable);
    assert!(!after.may_create_users);
}

#[tokio::test]
async fn an_account_of_somebody_else_may_have_any_rights_but_powerful_ones_are_told() {
    let portal = Portal::new().await;
    portal.migrate().await;
    let admin = &portal.environment.admin;
    let verified = verify(&portal.server, admin, None).await.expect("it works");
    assert!(verified.may_create_users);
    let error = verify(&portal.server, admin, Some(Rights::Application)).await;
    assert!(matches!(error, Err(VerifyError::Rights { .. })), "{error:?}");
}

#[track_caller]
fn expect_restriction(error: &VerifyError, expected: u16) {
    let found = matches!(error, VerifyError::Login(LoginError::Restricted { code, .. }) if *code == expected);
    assert!(found, "expected a restriction with error {expected}: {error:?}");
}

#[tokio::test]
async fn an_account_that_lost_every_right_is_a_finding_and_is_put_right() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let login = candidate(&name, &password);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    portal.administer(&format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{name}'@'%'")).await;
    for issued in [None, Some(Rights::Application)] {
        let error = verify(&portal.server, &login, issued).await.expect_err("no right");
        expect_restriction(&error, 1044);
        assert!(error.to_string().contains("no right on its schema"), "{error}");
    }
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made again");
    verify(&portal.server, &login, Some(Rights::Application)).await.expect("verified");
}

#[tokio::test]
async fn an_account_that_may_enter_its_schema_and_read_nothing_is_a_finding() {
    let mut portal = Portal::new().await;
    portal.migrate().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let pattern = portal.schema_in_grants().await;
    portal.administer(&format!("REVOKE SELECT ON {pattern}.* FROM '{name}'@'%'")).await;
    let login = candidate(&name, &password);
    // As an account of somebody else, whose rights are compared with nothing.
    let error = verify(&portal.server, &login, None).await.expect_err("no SELECT");
    expect_restriction(&error, 1142);
    let error = verify(&portal.server, &login, Some(Rights::Application)).await.expect_err("drift");
    assert!(matches!(error, VerifyError::Rights { .. }), "{error:?}");
}

#[tokio::test]
async fn an_account_whose_password_expired_is_a_finding_and_is_put_right() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    let login = candidate(&name, &password);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    portal.administer(&format!("ALTER USER '{name}'@'%' PASSWORD EXPIRE")).await;
    let error = verify(&portal.server, &login, Some(Rights::Application)).await;
    let error = error.expect_err("expired");
    // MariaDB lets such a session in and refuses each statement.
    let expected = if portal.root.flavour() == Flavour::MariaDb { 1820 } else { 1862 };
    expect_restriction(&error, expected);
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made again");
    verify(&portal.server, &login, Some(Rights::Application)).await.expect("verified");
}

#[tokio::test]
async fn a_schema_that_is_gone_says_nothing_of_the_account() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    portal.administer(&format!("DROP DATABASE {}", quoted(portal.server.schema.as_str()))).await;
    let error = verify(&portal.server, &candidate(&name, &password), None).await;
    let error = error.expect_err("no schema");
    assert!(matches!(error, VerifyError::Login(LoginError::Other { .. })), "{error:?}");
    assert!(error.to_string().contains("Unknown database"), "{error}");
}

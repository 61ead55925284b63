//! What is proven of a credential before pods get it.

use operator::rotation::mysql::{
    Rights, TableState, VerifyError, ensure_application_account, verify,
};

use crate::support::{Portal, candidate};

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

#[tokio::test]
async fn an_account_without_rights_on_the_schema_is_not_verified() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    portal.administer(&format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{name}'@'%'")).await;
    let error = verify(&portal.server, &candidate(&name, &password), None).await;
    let error = error.expect_err("no right");
    assert!(matches!(error, VerifyError::Login(_)), "{error:?}");
}

//! One account with two passwords, as the server at hand does it.

use operator::rotation::mysql::{
    Rights, discard_old_password, ensure_application_account, is_refused, retain_password, verify,
};

use crate::support::{Portal, candidate, is_alive};

#[tokio::test]
async fn both_passwords_are_let_in_until_the_old_one_is_discarded() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    let (old, new) = (portal.password(), portal.password());
    ensure_application_account(&mut portal.root, &name, &old).await.expect("made");
    let mut pod = portal.pod(&name, &old).await;

    retain_password(&mut portal.root, &name, &new, &old).await.expect("two passwords");
    retain_password(&mut portal.root, &name, &new, &old).await.expect("again, after a crash");
    for password in [&new, &old] {
        verify(&portal.server, &candidate(&name, password), Some(Rights::Application))
            .await
            .expect("both passwords are let in");
    }

    discard_old_password(&mut portal.root, &name, &new).await.expect("one password");
    discard_old_password(&mut portal.root, &name, &new).await.expect("again, after a crash");
    assert!(is_refused(&portal.server, &candidate(&name, &old)).await.expect("an answer"));
    verify(&portal.server, &candidate(&name, &new), Some(Rights::Application))
        .await
        .expect("the new password is let in");
    assert!(is_alive(&mut pod).await, "a session of the old password goes on");
}

#[tokio::test]
async fn an_account_with_two_passwords_has_one_after_it_is_made_again() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    let passwords = [portal.password(), portal.password(), portal.password()];
    let [old, new, last] = &passwords;
    ensure_application_account(&mut portal.root, &name, old).await.expect("made");
    retain_password(&mut portal.root, &name, new, old).await.expect("two passwords");
    ensure_application_account(&mut portal.root, &name, last).await.expect("made again");
    for password in [old, new] {
        assert!(is_refused(&portal.server, &candidate(&name, password)).await.expect("an answer"));
    }
    assert!(!is_refused(&portal.server, &candidate(&name, last)).await.expect("an answer"));
}

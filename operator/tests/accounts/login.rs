//! How logins succeed and fail.

use operator::{
    cluster::client::Fence,
    rotation::mysql::{
        Authorities, LoginError, Server, Tls, ensure_application_account, is_refused, lock_account,
        login, login_as_root,
    },
};
use service_kit::credentials::Candidate;
use tokio::net::TcpListener;

use crate::support::{Environment, Portal, candidate};

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    let environment = Environment::read();
    let wrong = Candidate { password: "s3cret-and-wrong".into(), ..environment.admin.clone() };
    let error = login_as_root(&environment.server("any"), &wrong, &Fence::default())
        .await
        .expect_err("denied");
    assert!(matches!(error, LoginError::Denied { code: 1045, .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn an_account_that_does_not_exist_is_denied_whatever_its_name() {
    let environment = Environment::read();
    // MariaDB answers 1045 to some of these and 1698 to others.
    for number in 0..20 {
        let nobody = Candidate { username: format!("nobody{number}"), password: "x".into() };
        let refused = is_refused(&environment.server("hardware"), &nobody).await;
        assert!(matches!(refused, Ok(true)), "nobody{number}: {refused:?}");
    }
}

#[tokio::test]
async fn a_locked_account_is_denied_as_locked() {
    let mut portal = Portal::new().await;
    let password = portal.password();
    let name = portal.a.clone();
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    lock_account(&mut portal.root, &name).await.expect("locked");
    let error =
        login(&portal.server, &candidate(&name, &password)).await.expect_err("a locked account");
    assert!(error.is_locked(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_no_proof_of_a_dead_credential() {
    let environment = Environment::read();
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = closed.local_addr().expect("its address").port();
    drop(closed);
    let server = Server { host: "127.0.0.1".to_owned(), port, ..environment.server("any") };
    let error = is_refused(&server, &environment.admin).await.expect_err("nobody there");
    assert!(matches!(error, LoginError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_unreachable_after_a_deadline() {
    let environment = Environment::read();
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let server = Server { host: "127.0.0.1".to_owned(), port, ..environment.server("any") };
    let error = login(&server, &environment.admin).await.expect_err("no answer");
    assert!(matches!(error, LoginError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_before_the_password_is_sent() {
    let environment = Environment::read();
    let other = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = parameters.self_signed(&other).expect("a certificate").pem();
    let tls = Tls::Required(Authorities::from_pem(pem.as_bytes()));
    let server = Server { tls, ..environment.server("any") };
    let error = login_as_root(&server, &environment.admin, &Fence::default())
        .await
        .expect_err("an unknown authority");
    assert!(matches!(error, LoginError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn no_roots_mean_no_login() {
    let environment = Environment::read();
    let tls = Tls::Required(Authorities::from_pem(b""));
    let server = Server { tls, ..environment.server("any") };
    login_as_root(&server, &environment.admin, &Fence::default())
        .await
        .expect_err("nobody to trust");
}

/// So a negative test without TLS proves nothing of an account that must use it.
#[tokio::test]
async fn a_right_password_without_tls_is_denied_like_a_wrong_one() {
    let mut portal = Portal::new().await;
    let (name, password) = (portal.a.clone(), portal.password());
    ensure_application_account(&mut portal.root, &name, &password).await.expect("made");
    let candidate = candidate(&name, &password);
    let without = Server { tls: Tls::Disabled, ..portal.server.clone() };
    let error = login(&without, &candidate).await.expect_err("no TLS");
    assert!(matches!(error, LoginError::Denied { code: 1045, .. }), "{error:?}");
    assert!(!is_refused(&portal.server, &candidate).await.expect("an answer"), "it is alive");
}

#[tokio::test]
async fn a_schema_that_is_missing_is_named_and_keeps_out_pods_but_not_the_root() {
    let environment = Environment::read();
    let server = environment.server("no_such_schema");
    let error = login(&server, &environment.admin).await.expect_err("no schema");
    assert!(matches!(error, LoginError::Other { .. }), "{error:?}");
    assert!(error.to_string().contains("no_such_schema"), "{error}");
    let root = login_as_root(&server, &environment.admin, &Fence::default())
        .await
        .expect("the administrator");
    root.close().await;
}

#[tokio::test]
async fn a_session_shows_no_password() {
    use secrecy::ExposeSecret;
    let portal = Portal::new().await;
    let password = portal.environment.admin.password.expose_secret();
    assert!(!format!("{:?}", portal.root).contains(password));
}

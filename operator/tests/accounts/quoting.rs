//! What is quoted arrives as it was: names of schemas through `GRANT`, passwords through a login.

use mysql_async::prelude::Queryable;
use operator::rotation::mysql::{Password, Rights, ensure_application_account, is_refused, verify};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::support::{Portal, candidate, quoted};

/// Values of a strategy, the same in each run.
fn samples(pattern: &str, count: usize) -> Vec<String> {
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let strategy = proptest::string::string_regex(pattern).expect("a pattern");
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

#[tokio::test]
async fn rights_on_a_schema_of_any_name_are_rights_on_that_schema_alone() {
    for tail in samples("[a_%\\\\`'\"\\. é-]{1,10}[_%\\\\`'\"]", 12) {
        let mut portal = Portal::with_schema(|number| format!("rot_{number}{tail}")).await;
        portal.migrate().await;
        let (name, password) = (portal.a.clone(), portal.password());
        ensure_application_account(&mut portal.root, &name, &password)
            .await
            .unwrap_or_else(|error| panic!("{tail:?}: {error}"));
        verify(&portal.server, &candidate(&name, &password), Some(Rights::Application))
            .await
            .unwrap_or_else(|error| panic!("{tail:?}: {error}"));

        // A schema that the name would match if it were read as a pattern.
        let own = portal.server.schema.as_str();
        let lookalike = own.replace('_', "x").replace('%', "yy");
        assert_ne!(own, lookalike);
        let lookalike = quoted(&lookalike);
        portal.administer(&format!("DROP DATABASE IF EXISTS {lookalike}")).await;
        portal.administer(&format!("CREATE DATABASE {lookalike}")).await;
        let mut pod = portal.pod(&name, &password).await;
        let entered = pod.query_drop(format!("USE {lookalike}")).await;
        portal.administer(&format!("DROP DATABASE {lookalike}")).await;
        entered.expect_err("a schema of somebody else");
        pod.query_drop(format!("USE {}", quoted(own))).await.expect("its own schema");
    }
}

/// For servers with a policy.
const ENOUGH_OF_EACH_CLASS: &str = "aaaa-BBBB.1111_cccc~DDDD-2222.ee";

#[tokio::test]
async fn a_password_of_any_characters_is_the_one_that_is_let_in() {
    let mut portal = Portal::new().await;
    let name = portal.a.clone();
    for text in samples("[a'\"\\\\`;%_\n é🦀-]{1,20}", 40) {
        let text = format!("{text}{ENOUGH_OF_EACH_CLASS}");
        let password = Password::from_secret(text.clone().into());
        let other = Password::from_secret(format!("{text}'").into());
        ensure_application_account(&mut portal.root, &name, &password)
            .await
            .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        for (tried, refused) in [(&password, false), (&other, true)] {
            let answer = is_refused(&portal.server, &candidate(&name, tried)).await;
            assert_eq!(answer.expect("an answer"), refused, "{text:?}");
        }
    }
}

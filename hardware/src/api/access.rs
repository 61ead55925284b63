//! Who may post observations, and for which source.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::Refusal;
use crate::source_tokens::SourceTokens;

/// The tokens of `POST /v1/observations`. Without any, the route is closed.
pub struct Tokens {
    /// Opens the route for every source that has no token of its own.
    pub shared: Option<watch::Receiver<Arc<SecretString>>>,
    /// Each opens the route for its source.
    pub of_sources: Option<watch::Receiver<Arc<SourceTokens>>>,
}

/// What a request's token opens.
#[derive(Debug)]
pub(super) struct Access {
    is_shared: bool,
    source: Option<String>,
    of_sources: Arc<SourceTokens>,
}

impl Tokens {
    /// Checks the token of a request, before its body is read.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Access, Refusal> {
        if self.shared.is_none() && self.of_sources.is_none() {
            let detail = "no token is configured; set OBSERVATIONS_TOKEN_FILE or \
                          SOURCE_TOKENS_FILE to open this route";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "observations_disabled", detail));
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, given)) = given else {
            return Err(Refusal::unauthorized("expected Authorization: Bearer <token>"));
        };
        let given = given.trim();
        let is_shared = self.shared.as_ref().is_some_and(|token| is_same(given, &token.borrow()));
        let of_sources = self.of_sources.as_ref().map(|tokens| Arc::clone(&tokens.borrow()));
        let of_sources = of_sources.unwrap_or_default();
        let source = of_sources.source_of(given).map(str::to_owned);
        if !is_shared && source.is_none() {
            return Err(Refusal::unauthorized("the bearer token is wrong"));
        }
        Ok(Access { is_shared, source, of_sources })
    }
}

impl Access {
    /// Checks the source that a batch names.
    pub(super) fn check_source(&self, source: &str) -> Result<(), Refusal> {
        let has_own_token = self.of_sources.names(source);
        let is_own = self.source.as_deref() == Some(source);
        if is_own || (self.is_shared && !has_own_token) {
            return Ok(());
        }
        let expected =
            if has_own_token { "the token of this source" } else { "the token that sources share" };
        let detail = format!("the bearer token does not open source {source:?}; use {expected}");
        Err(Refusal::new(StatusCode::FORBIDDEN, "wrong_source", detail))
    }
}

/// Compares in a time that tells neither content nor length.
fn is_same(given: &str, token: &SecretString) -> bool {
    Sha256::digest(given).ct_eq(&Sha256::digest(token.expose_secret())).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;
    use tokio::sync::watch;

    use super::Tokens;
    use crate::source_tokens::SourceTokens;

    fn tokens() -> Tokens {
        let of_sources = SourceTokens::parse(br#"{"rack": "rack-token"}"#).expect("good");
        Tokens {
            shared: Some(watch::channel(Arc::new("the-token".into())).1),
            of_sources: Some(watch::channel(Arc::new(of_sources)).1),
        }
    }

    /// Whether a header opens the route for a source, and for one that has a token of its own.
    fn opens(authorization: &[u8]) -> [bool; 2] {
        let Ok(value) = HeaderValue::from_bytes(authorization) else { return [false; 2] };
        let access = tokens().check(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
        ["lab", "rack"]
            .map(|source| access.as_ref().is_ok_and(|it| it.check_source(source).is_ok()))
    }

    #[test]
    fn a_token_opens_what_it_is_for() {
        for (authorization, expected) in [
            ("Bearer the-token", [true, false]),
            ("bEARER   the-token ", [true, false]),
            ("Bearer rack-token", [false, true]),
            ("Bearer the-token, Bearer rack-token", [false, false]),
            ("Bearer\tthe-token", [false, false]),
            ("Bearer the-token\u{E9}", [false, false]),
            ("the-token", [false, false]),
            ("", [false, false]),
        ] {
            assert_eq!(opens(authorization.as_bytes()), expected, "{authorization:?}");
        }
    }

    proptest! {
        #[test]
        fn no_other_header_opens_anything(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(opens(&bytes), [false; 2]);
        }

        #[test]
        fn no_other_token_opens_anything(token in "(the|rack)?[-a-z, ]{0,3}(token)?[ =,x]{0,2}") {
            prop_assume!(!["the-token", "rack-token"].contains(&token.trim()));
            prop_assert_eq!(opens(format!("Bearer {token}").as_bytes()), [false; 2]);
        }
    }
}

//! Signatures of webhooks, as the Standard Webhooks specification 1.0 has them:
//! `webhook-signature: v1,BASE64(HMAC-SHA256(key, "ID.SECONDS.BODY"))`.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Deserializer, de::Error};

/// What the text of a key begins with.
const PREFIX: &str = "whsec_";

/// Sizes that the specification allows.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a receiver knows a signature by.
#[derive(Clone, Debug)]
pub(super) struct SigningKey(SecretSlice<u8>);

/// A text that is no key. Does not show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSigningKey;

impl fmt::Display for NoSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (BYTES.start(), BYTES.end());
        write!(f, "the signing key is not {PREFIX} and {least} to {most} bytes in base64")
    }
}

impl std::error::Error for NoSigningKey {}

impl SigningKey {
    /// Reads `whsec_` and base64.
    pub(super) fn parse(text: &str) -> Result<Self, NoSigningKey> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(NoSigningKey)?;
        let bytes = STANDARD.decode(text).map_err(|_| NoSigningKey)?;
        if BYTES.contains(&bytes.len()) { Ok(Self(bytes.into())) } else { Err(NoSigningKey) }
    }

    /// The value of `webhook-signature` for a message.
    #[must_use]
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl<'de> Deserialize<'de> for SigningKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::{NoSigningKey, SigningKey};

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let signature =
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, is_good) in [
            (of(23), false),
            (of(24), true),
            (format!(" {}\n", of(64)), true),
            (of(65), false),
            (STANDARD.encode([7; 32]), false),
            ("whsec_s3cret!".to_owned(), false),
            (String::new(), false),
        ] {
            let key = SigningKey::parse(&text);
            assert_eq!(key.is_ok(), is_good, "{text}");
            assert!(!format!("{key:?}").contains("Bwc"), "{key:?}");
        }
        assert!(!NoSigningKey.to_string().contains("s3cret"));
    }
}

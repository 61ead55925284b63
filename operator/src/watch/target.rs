//! One receiver of a watch: from what its Secrets hold to what the pods send to. Pure. No message has a
//! value in it.

use base64::{Engine, engine::general_purpose::STANDARD};
use crds::{Delivery, DeliveryKind, Reason, SecretKeyReference, SecretValue};
use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::secrets::{Found, SecretLookup, Value};
use crate::rotation::source::missing_label;

/// What a signing key begins with, in the Standard Webhooks specification.
const KEY_PREFIX: &str = "whsec_";
/// Fewest and most bytes of a signing key there.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most characters of an address.
const LONGEST_URL: usize = 2048;

/// A receiver, as the pods read it.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Target<'a> {
    /// A receiver of Standard Webhooks.
    Webhook {
        /// Its address.
        url: &'a str,
        /// The key that requests are signed with.
        #[serde(skip_serializing_if = "Option::is_none")]
        signing_key: Option<&'a str>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// Its address.
        url: &'a str,
    },
    /// A topic of ntfy.
    Ntfy {
        /// Its address.
        url: &'a str,
        /// The access token.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
    },
}

/// Why nothing can be sent to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The word for machines.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

/// Where values come from, and what they may be.
pub struct Values<'a> {
    /// Name of the portal.
    pub portal: &'a str,
    /// The Secrets that the portal's watches name.
    pub secrets: &'a Found,
    /// Whether the portal lets messages be sent without encryption.
    pub allow_http: bool,
}

/// Every reference of a receiver, with the name of its field.
pub fn references(
    delivery: &Delivery,
) -> impl Iterator<Item = (&'static str, &SecretKeyReference)> {
    let (address, other) = match delivery.kind() {
        Some(DeliveryKind::Webhook(it)) => {
            (Some(&it.url_from), it.signing_key_from.as_ref().map(|key| ("signingKeyFrom", key)))
        }
        Some(DeliveryKind::Slack(it)) => (Some(&it.url_from), None),
        Some(DeliveryKind::Ntfy(it)) => {
            (Some(&it.url_from), it.token_from.as_ref().map(|token| ("tokenFrom", token)))
        }
        None => (None, None),
    };
    let fields = address.map(|address| ("urlFrom", address)).into_iter().chain(other);
    fields.map(|(field, SecretValue { secret_key_ref })| (field, secret_key_ref))
}

impl<'a> Values<'a> {
    /// The receiver at `place`, such as `deliver[0].slack`.
    pub fn target(&self, place: &str, kind: DeliveryKind<'_>) -> Result<Target<'a>, Problem> {
        Ok(match kind {
            DeliveryKind::Webhook(it) => Target::Webhook {
                url: self.url(place, &it.url_from)?,
                signing_key: self.optional(
                    place,
                    "signingKeyFrom",
                    it.signing_key_from.as_ref(),
                    check_key,
                )?,
            },
            DeliveryKind::Slack(it) => Target::Slack { url: self.url(place, &it.url_from)? },
            DeliveryKind::Ntfy(it) => Target::Ntfy {
                url: self.url(place, &it.url_from)?,
                token: self.optional(place, "tokenFrom", it.token_from.as_ref(), check_token)?,
            },
        })
    }

    fn url(&self, place: &str, from: &SecretValue) -> Result<&'a str, Problem> {
        self.value(place, "urlFrom", from, |text| check_url(text, self.allow_http))
    }

    fn optional(
        &self,
        place: &str,
        field: &str,
        from: Option<&SecretValue>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<&'a str>, Problem> {
        from.map(|from| self.value(place, field, from, check)).transpose()
    }

    fn value(
        &self,
        place: &str,
        field: &str,
        from: &SecretValue,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<&'a str, Problem> {
        let SecretKeyReference { name, key } = &from.secret_key_ref;
        let problem =
            |reason, what: String| Problem { reason, message: format!("{place}.{field}: {what}") };
        let absent = || {
            problem(
                Reason::SecretNotFound,
                format!("the Secret \"{name}\" does not exist; create it in this namespace"),
            )
        };
        let values = match self.secrets.get(name).ok_or_else(absent)? {
            SecretLookup::Absent => return Err(absent()),
            SecretLookup::NotAllowed => {
                let label = missing_label(self.portal);
                let what = format!("the Secret \"{name}\" is not read: it lacks {label}");
                return Err(problem(Reason::SecretNotAllowed, what));
            }
            SecretLookup::Values(values) => values,
        };
        let invalid = |what: &str| {
            problem(
                Reason::SecretInvalid,
                format!("key \"{key}\" of the Secret \"{name}\": {what}"),
            )
        };
        match values.get(key) {
            None => Err(problem(
                Reason::SecretNotFound,
                format!("the Secret \"{name}\" has no key \"{key}\"; add it"),
            )),
            Some(Value::NotText) => Err(invalid("expected UTF-8 text, found other bytes")),
            Some(Value::TooLong(bytes)) => {
                Err(invalid(&format!("expected an address or a token, found {bytes} bytes")))
            }
            Some(Value::Text(text)) => exposed(text, check).map_err(|what| invalid(&what)),
        }
    }
}

fn exposed(
    text: &SecretString,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<&str, String> {
    let text = text.expose_secret();
    check(text)?;
    Ok(text)
}

fn check_url(text: &str, allow_http: bool) -> Result<(), String> {
    let expected = "an address such as https://HOST/PATH";
    if text.len() > LONGEST_URL {
        let found = text.len();
        return Err(format!(
            "expected {expected} of at most {LONGEST_URL} characters, found {found}"
        ));
    }
    // As the pods read it.
    let other = || format!("expected {expected}, found other text");
    let url: Uri = text.parse().map_err(|_| other())?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(other());
    };
    if authority.host().is_empty() {
        return Err(other());
    }
    if authority.as_str().contains('@') {
        return Err(format!("expected {expected}, found one with a login, which is not sent"));
    }
    match scheme {
        "https" => Ok(()),
        "http" if allow_http => Ok(()),
        "http" => Err("found an address that begins with http://, to which messages go unencrypted; write https://, or let the owner of the portal set spec.watches.allowHttp: true".to_owned()),
        _ => Err(format!("expected {expected}, found another scheme")),
    }
}

/// The key that the signature is made with, as `whsec_` and base64.
fn check_key(text: &str) -> Result<(), String> {
    let (fewest, most) = (KEY_BYTES.start(), KEY_BYTES.end());
    let expected = format!("{KEY_PREFIX} followed by the base64 of {fewest} to {most} bytes");
    let Some(encoded) = text.strip_prefix(KEY_PREFIX) else {
        return Err(format!("expected {expected}, found another beginning"));
    };
    let bytes = STANDARD.decode(encoded);
    let bytes = bytes.map_err(|_| format!("expected {expected}, found no base64"))?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(format!("expected {expected}, found {} bytes", bytes.len()));
    }
    Ok(())
}

/// A token is sent in a header.
fn check_token(text: &str) -> Result<(), String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected a token of visible ASCII characters, found none or others".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::{check_key, check_token, check_url};

    #[test]
    fn an_address_is_https_or_http_where_that_is_allowed() {
        for (text, allow_http, expected) in [
            ("https://hooks.example/a?b=c", false, None),
            ("https://[fd00::1]:8443/", false, None),
            ("http://hooks.example/", true, None),
            ("http://hooks.example/", false, Some("spec.watches.allowHttp: true")),
            ("https://user:word@hooks.example/", true, Some("found one with a login")),
            ("https://hooks.example/a b", true, Some("found other text")),
            (" https://hooks.example/", true, Some("found other text")),
            ("https:hooks.example", true, Some("found other text")),
            ("ftp://hooks.example/", true, Some("found another scheme")),
            ("hooks.example", true, Some("found other text")),
            ("https://", true, Some("found other text")),
            ("", true, Some("found other text")),
        ] {
            let found = check_url(text, allow_http).err();
            match (&found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => {
                    assert!(found.contains(expected), "{text}: {found}");
                }
                _ => panic!("{text}: {found:?}, expected {expected:?}"),
            }
            let shows_it = found.is_some_and(|found| found.contains("hooks.example"));
            assert!(!shows_it, "the message holds the address {text}");
        }
        let long = format!("https://a/{}", "b".repeat(2048));
        assert!(check_url(&long, true).expect_err("too long").contains("found 2058"));
    }

    #[test]
    fn a_signing_key_is_that_of_the_standard() {
        let key = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            check_key(&key(bytes)).unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
        }
        for (text, expected) in [
            (key(23), "found 23 bytes"),
            (key(65), "found 65 bytes"),
            (key(24).replace("whsec_", ""), "found another beginning"),
            ("whsec_not base64".to_owned(), "found no base64"),
        ] {
            let found = check_key(&text).expect_err("it cannot be used");
            assert!(found.contains(expected), "{found}");
            assert!(found.contains("whsec_ followed by the base64 of 24 to 64 bytes"), "{found}");
        }
    }

    #[test]
    fn a_token_can_be_sent_in_a_header() {
        assert_eq!(check_token("tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"), Ok(()));
        for text in ["", "a b", "a\nb", "ä"] {
            check_token(text).expect_err(text);
        }
    }
}

//! Passwords of the accounts that the operator makes.

use rand::{CryptoRng, RngExt};
use secrecy::{ExposeSecret, SecretString};

/// Letters, digits and the four other characters that RFC 3986 calls unreserved: what needs no
/// escape in SQL, URLs, shells or JSON, and what RDS allows (no quote, `/`, `@`, `\` or space).
const ALPHABET: &[u8; 66] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

/// RDS for MySQL takes at most 41. 32 characters of 66 are 193 bits, of which the minimum of each class takes
/// 4: one text in twelve has it (measured).
const LENGTH: usize = 32;

/// How many characters of each class a password has at least: MySQL's `validate_password` and MariaDB's
/// `simple_password_check` ask for one, and administrators for more.
const OF_EACH_CLASS: usize = 4;

/// The password of an account.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

impl Password {
    /// A new password, from a source of randomness that nobody can predict.
    pub fn generate(random: &mut (impl CryptoRng + ?Sized)) -> Self {
        loop {
            let text: String = (0..LENGTH)
                .map(|_| char::from(ALPHABET[random.random_range(..ALPHABET.len())]))
                .collect();
            if is_accepted_everywhere(&text) {
                return Self(text.into());
            }
        }
    }

    /// A password that the operator generated earlier, from its own Secret.
    #[must_use]
    pub fn from_secret(secret: SecretString) -> Self {
        Self(secret)
    }

    /// The password, to be handed on as a secret.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.0
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// A letter comes first, as `-…` looks like an option and `~…` like a home folder.
fn is_accepted_everywhere(text: &str) -> bool {
    let has_enough =
        |is_of_class: fn(&char) -> bool| text.chars().filter(is_of_class).count() >= OF_EACH_CLASS;
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && has_enough(char::is_ascii_lowercase)
        && has_enough(char::is_ascii_uppercase)
        && has_enough(char::is_ascii_digit)
        && has_enough(char::is_ascii_punctuation)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::Password;

    #[test]
    fn a_password_is_taken_by_every_policy() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..2000 {
            let password = Password::generate(&mut random);
            let text = password.expose();
            assert_eq!(text.len(), 32);
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c)));
            for class in [
                char::is_ascii_lowercase as fn(&char) -> bool,
                char::is_ascii_uppercase,
                char::is_ascii_digit,
                char::is_ascii_punctuation,
            ] {
                assert!(text.chars().filter(class).count() >= 4, "{text}");
            }
            assert!(text.starts_with(|c: char| c.is_ascii_alphabetic()), "{text}");
        }
    }

    #[test]
    fn two_passwords_differ() {
        let mut random = StdRng::seed_from_u64(7);
        let (one, other) = (Password::generate(&mut random), Password::generate(&mut random));
        assert_ne!(one.expose(), other.expose());
    }

    #[test]
    fn a_password_is_not_shown() {
        let password = Password::from_secret("s3cret".into());
        assert!(!format!("{password:?}").contains("s3cret"));
    }
}

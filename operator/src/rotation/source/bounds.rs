//! How long the values of a source may be. Whoever writes a source can make them longer than any
//! server takes, and they are kept in memory and quoted in messages.

/// MySQL takes 32 characters, MariaDB 128, of up to four bytes each.
pub(super) const USERNAME: usize = 512;
/// Far more than a person or a generator makes.
pub(super) const PASSWORD: usize = 512;
/// A name of 253 characters, and a port.
pub(super) const HOST: usize = 259;
/// 1 to 65535.
pub(super) const PORT: usize = 5;
/// 64 characters in UTF-8.
pub(super) const DATABASE: usize = 256;
/// As AWS bounds an id of a secret.
pub(super) const SECRET_ID: usize = 2048;
/// As AWS bounds the value of a secret.
pub(super) const SECRET_VALUE: usize = 64 << 10;

/// Refuses a longer text, in words that do not show it.
pub(super) fn expect_at_most(most: usize, text: &str) -> Result<(), String> {
    if text.len() > most {
        return Err(format!("expected at most {most} bytes, found {}", text.len()));
    }
    Ok(())
}

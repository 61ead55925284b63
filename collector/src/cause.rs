//! What is at the bottom of an error.

use std::error::Error;

/// The words of the operating system, or of whoever first noticed; the outer errors only repeat the address.
pub(crate) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

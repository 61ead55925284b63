//! The certificate authorities that servers are verified against, parsed once for all portals.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mysql_async::{OptsBuilder, SslOpts};

/// How many different texts are kept parsed. Most portals share one, that of Amazon RDS.
const KEPT: usize = 16;

/// Certificate authorities. Values of the same text share it, and what was parsed of it.
#[derive(Clone)]
pub struct Authorities(Arc<Parsed>);

struct Parsed {
    pem: Box<[u8]>,
    /// The driver parses certificates at the first login, and keeps the outcome in these options; copies of
    /// them share it. It copies the text into those, however: 165 kB for the time of a login.
    options: OptsBuilder,
}

impl Authorities {
    /// Certificates in PEM form. Whether they are any is seen at the first login.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Self {
        static RECENT: Mutex<VecDeque<Authorities>> = Mutex::new(VecDeque::new());
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = recent.iter().position(|one| *one.0.pem == *pem);
        let authorities =
            known.and_then(|position| recent.remove(position)).unwrap_or_else(|| Self::parse(pem));
        recent.push_front(authorities.clone());
        recent.truncate(KEPT);
        authorities
    }

    /// Options of a login that trusts these authorities and no others.
    pub(super) fn options(&self) -> OptsBuilder {
        self.0.options.clone()
    }

    fn parse(pem: &[u8]) -> Self {
        let tls = SslOpts::default()
            .with_root_certs(vec![pem.to_vec().into()])
            .with_disable_built_in_roots(true);
        let options = OptsBuilder::default().ssl_opts(tls);
        Self(Arc::new(Parsed { pem: pem.into(), options }))
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.pem == other.0.pem
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} bytes)", self.0.pem.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Authorities, KEPT};

    fn is_shared(one: &Authorities, other: &Authorities) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }

    #[test]
    fn the_same_text_is_parsed_once_and_another_one_is_another() {
        let one = Authorities::from_pem(b"one");
        assert!(is_shared(&one, &Authorities::from_pem(b"one")));
        assert_ne!(one, Authorities::from_pem(b"another"));
        assert_eq!(format!("{one:?}"), "Authorities(3 bytes)");
    }

    #[test]
    fn texts_that_nobody_uses_any_more_are_forgotten_and_still_equal() {
        let first = Authorities::from_pem(b"long ago");
        for number in 0..KEPT {
            let since = Authorities::from_pem(format!("since then {number}").as_bytes());
            assert_ne!(first, since);
        }
        let again = Authorities::from_pem(b"long ago");
        assert!(!is_shared(&first, &again));
        assert_eq!(first, again);
    }
}

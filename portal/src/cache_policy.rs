//! What caches may do with an answer: every route names one of these.

use http::HeaderValue;

/// How an answer may be kept by browsers and proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachePolicy {
    /// Its address changes with its content: keep it for a year and never ask again.
    Immutable,
    /// Keep it, but ask with its `ETag` before each use: an old level must never look current.
    Revalidate,
    /// Keep nothing: probes and errors.
    NoStore,
}

impl CachePolicy {
    /// The value of `Cache-Control`.
    #[must_use]
    pub const fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Revalidate => "public, no-cache",
            Self::NoStore => "no-store",
        })
    }
}

//! Bodies that many requests are answered with.

use std::io;

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, header};
use service_kit::Prepared;

use crate::{CachePolicy, security};

/// A body for many requests, in each encoding, with what this site says to browsers.
pub(crate) fn prepare(
    body: impl Into<Bytes>,
    media_type: &'static str,
    policy: CachePolicy,
) -> io::Result<Prepared> {
    let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, policy.header_value())]);
    let mut of_body =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))]);
    security::add_headers(&mut of_body);
    Prepared::new(body, headers, &of_body)
}

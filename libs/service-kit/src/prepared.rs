//! An answer that is ready to be sent: each encoding of a body with its headers, made once and cloned
//! per request.

use std::io::{self, Write};

use axum::body::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use sha2::{Digest, Sha256};

use crate::negotiation::{Encoding, choose_encoding, has_tag};

/// Up to this size (a list of about 1 000 rows) the smallest form is worth its milliseconds.
const SMALL_BYTES: usize = 256 * 1024;
/// Brotli's quality for small and for large bodies; 5 is ten times as fast as 9.
const BROTLI_QUALITY: (u32, u32) = (9, 5);
/// Brotli's default window, 4 MiB.
const BROTLI_WINDOW: u32 = 22;

/// One body in each encoding. Cloning it copies its headers and shares its bodies.
#[derive(Clone, Debug)]
pub struct Prepared {
    etag: HeaderValue,
    identity: Variant,
    gzip: Variant,
    brotli: Variant,
    /// What goes with 304 Not Modified.
    not_modified: HeaderMap,
}

#[derive(Clone, Debug)]
struct Variant {
    headers: HeaderMap,
    body: Bytes,
}

impl Prepared {
    /// Encodes `body`, whose tag is made of its content. `headers` goes with every answer; what describes
    /// the body (`Content-Type` and the like) goes with those that have one, and is `of_body`.
    pub fn new(
        body: impl Into<Bytes>,
        headers: HeaderMap,
        of_body: &HeaderMap,
    ) -> io::Result<Self> {
        let body = body.into();
        let is_small = body.len() <= SMALL_BYTES;
        let level = if is_small { Compression::best() } else { Compression::default() };
        let mut gzip = GzEncoder::new(Vec::new(), level);
        gzip.write_all(&body)?;
        let quality = if is_small { BROTLI_QUALITY.0 } else { BROTLI_QUALITY.1 };
        let mut brotli = Vec::new();
        brotli::CompressorWriter::new(&mut brotli, 4096, quality, BROTLI_WINDOW)
            .write_all(&body)?;

        // Weak, because one tag stands for all encodings.
        let etag = format!("W/\"{}\"", content_hash(&body));
        let etag = HeaderValue::try_from(etag).map_err(io::Error::other)?;
        let mut not_modified = headers;
        not_modified.insert(header::ETAG, etag.clone());
        not_modified.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let variant = |encoding: Option<&'static str>, body: Bytes| {
            let mut headers = not_modified.clone();
            headers.extend(of_body.clone());
            if let Some(encoding) = encoding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            Variant { headers, body }
        };
        Ok(Self {
            etag,
            identity: variant(None, body),
            gzip: variant(Some("gzip"), gzip.finish()?.into()),
            brotli: variant(Some("br"), brotli.into()),
            not_modified,
        })
    }

    /// The same bodies with more headers, which replace those of the same names. That costs no
    /// encoding, so that what changes each second (`Age`) can be part of the prepared answer.
    #[must_use]
    pub fn with(&self, headers: &HeaderMap) -> Self {
        let mut changed = self.clone();
        let Self { etag: _, identity, gzip, brotli, not_modified } = &mut changed;
        for map in
            [&mut identity.headers, &mut gzip.headers, &mut brotli.headers, &mut *not_modified]
        {
            for (name, value) in headers {
                map.insert(name, value.clone());
            }
        }
        changed
    }

    /// The body as it is.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.identity.body
    }

    /// Its tag.
    #[must_use]
    pub fn etag(&self) -> &HeaderValue {
        &self.etag
    }

    /// The answer to a request with these headers: the body as the client wants it, or 304 if it
    /// has it.
    #[must_use]
    pub fn answer(&self, request: &HeaderMap) -> Response<Full<Bytes>> {
        if has_tag(request, &self.etag) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().clone_from(&self.not_modified);
            return response;
        }
        let variant = match choose_encoding(request) {
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
            Encoding::Identity => &self.identity,
        };
        let mut response = Response::new(Full::new(variant.body.clone()));
        response.headers_mut().clone_from(&variant.headers);
        response
    }
}

/// Half of SHA-256 in hexadecimal: names content in tags and addresses.
#[must_use]
pub fn content_hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let half = digest.iter().take(16).fold(0_u128, |hash, byte| hash << 8 | u128::from(*byte));
    format!("{half:032x}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use http_body_util::BodyExt;

    use super::Prepared;

    fn prepare(body: Vec<u8>) -> Prepared {
        let common = [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        let of_body = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
        let prepared =
            Prepared::new(body, HeaderMap::from_iter(common), &HeaderMap::from_iter(of_body));
        prepared.expect("in memory")
    }

    async fn fetch(prepared: &Prepared, encoding: &'static str) -> Vec<u8> {
        let accept = [(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding))];
        let response = prepared.answer(&HeaderMap::from_iter(accept));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
        let named = response.headers().get(header::CONTENT_ENCODING).cloned();
        assert_eq!(named, (encoding != "identity").then(|| HeaderValue::from_static(encoding)));
        response.into_body().collect().await.expect("infallible").to_bytes().to_vec()
    }

    #[tokio::test]
    async fn every_encoding_holds_the_same_body() {
        for size in [10, 300_000] {
            let body = vec![b'x'; size];
            let prepared = prepare(body.clone());
            let (mut gzip, mut brotli) = (Vec::new(), Vec::new());
            let sent = fetch(&prepared, "gzip").await;
            flate2::read::GzDecoder::new(&*sent).read_to_end(&mut gzip).expect("gzip");
            let sent = fetch(&prepared, "br").await;
            brotli::Decompressor::new(&*sent, 4096).read_to_end(&mut brotli).expect("brotli");
            assert_eq!((&gzip, &brotli), (&body, &body));
            assert_eq!(fetch(&prepared, "identity").await, body);
        }
    }

    #[test]
    fn a_tag_that_is_known_gets_no_body_and_no_description_of_one() {
        let prepared = prepare(b"body".to_vec());
        let known = [(header::IF_NONE_MATCH, prepared.etag().clone())];
        let response = prepared.answer(&HeaderMap::from_iter(known));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert!(!response.headers().contains_key(header::CONTENT_TYPE));
        assert_ne!(prepare(b"bodY".to_vec()).etag(), prepared.etag());
    }

    #[test]
    fn a_header_that_is_renewed_is_part_of_each_answer() {
        let age = |seconds: u64| HeaderMap::from_iter([(header::AGE, HeaderValue::from(seconds))]);
        let prepared = prepare(b"body".to_vec()).with(&age(1)).with(&age(2));
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, prepared.etag().clone())]);
        for request in [HeaderMap::new(), known] {
            let response = prepared.answer(&request);
            let ages: Vec<_> = response.headers().get_all(header::AGE).iter().collect();
            assert_eq!(ages, ["2"]);
        }
    }
}

//! An answer that is ready to be sent: each encoding of the body with its headers, made once and
//! cloned per request.

use std::io::{self, Write};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::{CachePolicy, web::security};

/// Up to this size (a list of about 1 000 rows) the smallest form is worth its milliseconds.
const SMALL_BYTES: usize = 256 * 1024;
/// Brotli's quality for small and for large bodies; 5 is ten times as fast as 9.
const BROTLI_QUALITY: (u32, u32) = (9, 5);
/// Brotli's default window, 4 MiB.
const BROTLI_WINDOW: u32 = 22;

/// One body in each encoding.
#[derive(Debug)]
pub(crate) struct Encoded {
    etag: String,
    identity: Variant,
    gzip: Variant,
    brotli: Variant,
    not_modified: HeaderMap,
}

#[derive(Debug)]
struct Variant {
    headers: HeaderMap,
    body: Bytes,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Brotli,
    Gzip,
    Identity,
}

impl Encoded {
    /// Encodes `body`.
    pub(crate) fn new(
        body: impl Into<Bytes>,
        media_type: &'static str,
        policy: CachePolicy,
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
        let mut common = HeaderMap::new();
        let tag = HeaderValue::try_from(&etag).map_err(io::Error::other)?;
        common.insert(header::ETAG, tag);
        common.insert(header::CACHE_CONTROL, policy.header_value());
        common.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        let mut full = common.clone();
        full.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        security::add_headers(&mut full);
        let variant = |encoding: Option<&'static str>, body: Bytes| {
            let mut headers = full.clone();
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
            not_modified: common,
        })
    }

    /// The answer to a request with these headers: the body as the client wants it, or 304 if it
    /// has it.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        if request.get_all(header::IF_NONE_MATCH).iter().any(|tags| self.has_tag(tags)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().clone_from(&self.not_modified);
            return response;
        }
        let variant = match choose_encoding(request) {
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
            Encoding::Identity => &self.identity,
        };
        response.headers_mut().clone_from(&variant.headers);
        *response.body_mut() = Body::from(variant.body.clone());
        response
    }

    /// The weak comparison of RFC 9110, section 13.1.2.
    fn has_tag(&self, tags: &HeaderValue) -> bool {
        fn opaque(tag: &[u8]) -> &[u8] {
            tag.strip_prefix(b"W/").unwrap_or(tag)
        }
        let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tags.any(|tag| tag == b"*" || opaque(tag) == opaque(self.etag.as_bytes()))
    }
}

/// Half of SHA-256 in hexadecimal: names content in tags and addresses.
pub(crate) fn content_hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let half = digest.iter().take(16).fold(0_u128, |hash, byte| hash << 8 | u128::from(*byte));
    format!("{half:032x}")
}

/// RFC 9110, section 12.5.3: the best by weight, of equal ones the smallest. Identity if nothing
/// fits, as an unreadable 406 would help nobody.
fn choose_encoding(request: &HeaderMap) -> Encoding {
    let mut weights = [None; 3];
    let mut others = None;
    for value in request.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = Some(parse_weight(parameters));
            match coding.trim() {
                "br" => weights[0] = weight,
                "gzip" | "x-gzip" => weights[1] = weight,
                "identity" => weights[2] = weight,
                "*" => others = weight,
                _ => {}
            }
        }
    }
    let brotli = weights[0].or(others).unwrap_or(0);
    let gzip = weights[1].or(others).unwrap_or(0);
    // Identity is acceptable unless it is refused, and then still better than nothing.
    let identity = weights[2].unwrap_or(1).max(1);
    if brotli >= gzip && brotli >= identity {
        Encoding::Brotli
    } else if gzip >= identity {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

/// Thousandths; 1000 unless there is a well-formed `q`.
fn parse_weight(parameters: &str) -> u16 {
    let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok());
    match weight {
        Some(weight) if (0.0..=1.0).contains(&weight) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to 1000"
            )]
            let thousandths = (weight * 1000.0) as u16;
            thousandths
        }
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use proptest::prelude::*;

    use super::{Encoded, Encoding, choose_encoding};
    use crate::CachePolicy;

    fn accepting(value: &str) -> Encoding {
        let value = HeaderValue::try_from(value).expect("a header");
        choose_encoding(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
    }

    #[test]
    fn the_client_chooses_the_encoding() {
        use Encoding::{Brotli, Gzip, Identity};
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Brotli),
            ("gzip", Gzip),
            ("x-gzip", Gzip),
            ("gzip;q=1.0, br;q=0.5", Gzip),
            ("br;q=0, gzip;q=0.1", Gzip),
            ("identity, gzip;q=0.5", Identity),
            ("*", Brotli),
            ("*;q=0.5, br;q=0", Gzip),
            ("identity;q=0", Identity),
            ("deflate", Identity),
            ("", Identity),
            ("gzip;q=nonsense", Gzip),
        ] {
            assert_eq!(accepting(value), expected, "{value}");
        }
        assert_eq!(choose_encoding(&HeaderMap::new()), Identity);
    }

    #[test]
    fn every_encoding_holds_the_same_body() {
        for size in [10, 300_000] {
            let body = vec![b'x'; size];
            let encoded = Encoded::new(body.clone(), "text/plain", CachePolicy::NoStore);
            let encoded = encoded.expect("in memory");
            let (mut gzip, mut brotli) = (Vec::new(), Vec::new());
            flate2::read::GzDecoder::new(&*encoded.gzip.body).read_to_end(&mut gzip).expect("gzip");
            brotli::Decompressor::new(&*encoded.brotli.body, 4096)
                .read_to_end(&mut brotli)
                .expect("brotli");
            assert_eq!((&gzip, &brotli), (&body, &body));
            assert_eq!(encoded.identity.body, body);
        }
    }

    #[test]
    fn a_tag_that_is_known_gets_no_body() {
        let encoded = Encoded::new("body", "text/plain", CachePolicy::Revalidate);
        let encoded = encoded.expect("in memory");
        let strong = encoded.etag.trim_start_matches("W/").to_owned();
        for (tags, expected) in [
            (encoded.etag.clone(), StatusCode::NOT_MODIFIED),
            (strong.clone(), StatusCode::NOT_MODIFIED),
            (format!("\"other\", {strong}"), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            ("\"other\"".to_owned(), StatusCode::OK),
        ] {
            let tags = HeaderValue::try_from(tags).expect("a header");
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, tags.clone())]);
            assert_eq!(encoded.answer(&request).status(), expected, "{tags:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_choice_panic(value in "[ -~]{0,60}") {
            accepting(&value);
        }
    }
}

//! The body of a request: within limits of size and time, decompressed.

use std::{io::Read, time::Duration};

use axum::body::{Body, Bytes};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::{Refusal, answer::run_blocking};

/// How long a client may take to send it.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The whole body, which may have at most `most` bytes, also once it is decompressed.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Bytes, Refusal> {
    let encodings: Vec<_> = headers.get_all(header::CONTENT_ENCODING).iter().collect();
    match encodings.as_slice() {
        [] => collect(body, most).await,
        [only] if only.as_bytes().eq_ignore_ascii_case(b"identity") => collect(body, most).await,
        [only] if only.as_bytes().eq_ignore_ascii_case(b"gzip") => {
            let compressed = collect(body, most).await?;
            run_blocking(move || decompress(&compressed, most)).await?
        }
        _ => Err(Refusal::unsupported_encoding(&encodings)),
    }
}

fn decompress(compressed: &[u8], most: usize) -> Result<Bytes, Refusal> {
    let mut body = Vec::new();
    // One byte more than there may be tells a body that is too long from one that just fits.
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    match MultiGzDecoder::new(compressed).take(limit).read_to_end(&mut body) {
        Ok(length) if length > most => Err(too_large(most)),
        Ok(_) => Ok(body.into()),
        Err(error) => {
            Err(invalid_body(&format!("expected gzip, as Content-Encoding says: {error}")))
        }
    }
}

fn too_large(most: usize) -> Refusal {
    let detail = format!("expected at most {most} bytes; send less at once");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

fn invalid_body(detail: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_body", detail)
}

async fn collect(body: Body, most: usize) -> Result<Bytes, Refusal> {
    match timeout(BODY_TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Ok(Err(error)) => Err(invalid_body(&format!("failed to read the body: {error}"))),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("expected the whole body within {BODY_TIME:?}"),
        )),
    }
}

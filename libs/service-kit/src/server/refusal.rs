//! Answers to what never becomes a request: hyper refuses it with a status alone, and here it gets the
//! problem document (RFC 9457) that every other refusal has.

use std::time::SystemTime;

use axum::body::Bytes;
use http::StatusCode;
use metrics::counter;
use serde_json::json;

/// Media type of problem documents.
const MEDIA_TYPE: &str = "application/problem+json";

/// hyper's refusals are shorter than this: a status line and three headers.
const MOST_BYTES: usize = 256;

/// Finds a refusal of hyper's at the end of `written`. Returns where it begins. No answer of ours has one of
/// these statuses and no body.
pub(super) fn find(written: &[u8]) -> Option<(usize, StatusCode)> {
    if !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let window = written.len().saturating_sub(MOST_BYTES);
    let tail = &written[window..];
    for status in [
        StatusCode::BAD_REQUEST,
        StatusCode::URI_TOO_LONG,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ] {
        for version in ["1.1", "1.0"] {
            let line = format!("HTTP/{version} {} ", status.as_str());
            let Some(start) = rfind(tail, line.as_bytes()) else { continue };
            if rfind(&tail[start..], b"content-length: 0\r\n").is_some() {
                return Some((window + start, status));
            }
        }
    }
    None
}

/// The answer to a header that could not be read, in place of hyper's.
pub(super) fn unreadable(status: StatusCode) -> Bytes {
    let (code, detail) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "header_too_large",
            "the header of the request is too large; expected at most 64 KiB in at most 100 fields",
        ),
        StatusCode::URI_TOO_LONG => {
            ("uri_too_long", "the target of the request is too long; expected less than 64 KiB")
        }
        _ => (
            "invalid_request",
            "the request cannot be read; expected HTTP/1.1 as RFC 9112 describes it",
        ),
    };
    answer(status, code, detail)
}

/// The answer to a header that does not come to its end.
pub(super) fn slow_header() -> Bytes {
    let detail = "the header of the request took too long; send it in one piece";
    answer(StatusCode::REQUEST_TIMEOUT, "header_too_slow", detail)
}

/// A whole answer, after which the connection ends. It is counted here, as no route sees it.
fn answer(status: StatusCode, code: &str, detail: &str) -> Bytes {
    counter!("http_requests_total",
        "method" => "unknown", "route" => "unmatched", "status" => "4xx")
    .increment(1);
    let title = status.canonical_reason().unwrap_or("Error");
    let problem = problem(status, code, detail);
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!(
        "HTTP/1.1 {} {title}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\
         connection: close\r\ndate: {date}\r\n\r\n{problem}",
        status.as_u16(),
        problem.len()
    )
    .into()
}

/// A problem document of five members.
pub(crate) fn problem(status: StatusCode, code: &str, detail: &str) -> String {
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    })
    .to_string()
}

fn rfind(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::{find, unreadable};

    const THEIRS: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\n\
        connection: close\r\ncontent-length: 0\r\ndate: Tue, 01 Dec 2026 00:00:00 GMT\r\n\r\n";

    #[test]
    fn a_refusal_gets_a_body_and_what_stands_before_it_stays() {
        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
        let (start, status) = find(format!("{before}{THEIRS}").as_bytes()).expect("found");
        assert_eq!(start, before.len());
        let ours = String::from_utf8(unreadable(status).to_vec()).expect("text");
        let (head, body) = ours.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["code"], "header_too_large");
    }

    #[test]
    fn answers_of_ours_stay_as_they_are() {
        for ours in [
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert!(find(ours.as_bytes()).is_none(), "{ours}");
        }
    }
}

//! Errors as problem documents (RFC 9457). Every refusal of the API is one; its `code` is stable.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hardware_api::{PROBLEM_MEDIA_TYPE, Problem};

use crate::observation::BatchError;

/// A request that is not done, and why.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Box<Problem>,
    headers: HeaderMap,
}

impl Refusal {
    /// A refusal with a sentence that says why.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let problem = Box::new(Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            field: None,
            found: None,
            expected: None,
            allowed: None,
        });
        Self { status, problem, headers: HeaderMap::new() }
    }

    /// No such path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let detail = format!("there is nothing at {path}; see /openapi.json");
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Something that passes: try again later.
    #[must_use]
    pub fn unavailable(code: &str, detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retried_later()
    }

    /// Too much at once: try again later.
    #[must_use]
    pub fn too_many(code: &str, detail: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retried_later()
    }

    /// A body that is compressed in a way that is not understood here.
    pub fn unsupported_encoding(found: &[&HeaderValue]) -> Self {
        let found: Vec<_> =
            found.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let (found, expected) = (found.join(", "), "gzip, identity or none".to_owned());
        let detail = format!("Content-Encoding is {found:?}; expected {expected}");
        let mut refusal =
            Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail)
                .about("Content-Encoding".to_owned(), found, expected)
                .allowing(["gzip", "identity"]);
        let understood = HeaderValue::from_static("gzip, identity");
        refusal.headers.insert(header::ACCEPT_ENCODING, understood);
        refusal
    }

    fn retried_later(mut self) -> Self {
        self.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        self
    }

    /// A missing or wrong bearer token.
    pub fn unauthorized(detail: &str) -> Self {
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let challenge = HeaderValue::from_static("Bearer realm=\"observations\"");
        refusal.headers.insert(header::WWW_AUTHENTICATE, challenge);
        refusal
    }

    /// Names the part of the request that is at fault.
    #[must_use]
    pub fn about(mut self, field: String, found: String, expected: String) -> Self {
        self.problem.field = Some(field);
        self.problem.found = Some(found);
        self.problem.expected = Some(expected);
        self
    }
}

impl Refusal {
    /// Names the few values that there may be.
    #[must_use]
    pub fn allowing<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.problem.allowed = Some(values.into_iter().map(str::to_owned).collect());
        self
    }

    /// The same in other words.
    #[must_use]
    pub fn saying(mut self, detail: String) -> Self {
        self.problem.detail = detail;
        self
    }

    /// The problem document alone, for answers that have one for each item.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        *self.problem
    }
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Self {
        let detail = error.to_string();
        let refusal = Self::new(StatusCode::BAD_REQUEST, error.code(), detail);
        match error {
            BatchError::Json(_) => refusal,
            BatchError::Field { field, found, expected } => refusal.about(field, found, expected),
            BatchError::Future { field, found, now } => {
                refusal.about(field, found, format!("a time up to a minute ahead of {now}"))
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let media_type = HeaderValue::from_static(PROBLEM_MEDIA_TYPE);
        let mut response = (self.status, Json(*self.problem)).into_response();
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response
    }
}

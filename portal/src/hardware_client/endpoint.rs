//! One address of `hardware`: how it is asked, and what may come of it.

use std::{fmt, time::Duration};

use hardware_api::FRESHNESS_HEADER;
use reqwest::{Client, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::upstream::{Failure, Freshness};

/// `hardware` answers from memory; what takes longer hangs.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// About 200 000 rows of the list. A larger answer is not one of `hardware`.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// An address, and the tag of the last good answer.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client,
    url: String,
    /// What is found there, for whoever finds something else.
    expected: &'static str,
    etag: Option<header::HeaderValue>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Fetched<T> {
    /// What it says, unless that is the same as in the last answer.
    pub(super) body: Option<T>,
    /// How old that is.
    pub(super) freshness: Freshness,
}

/// No good answer. The kind is shown to everybody, the details only to operators.
#[derive(Debug)]
pub(crate) struct FetchError {
    /// What happened.
    pub(crate) failure: Failure,
    details: String,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details)
    }
}

impl Endpoint {
    pub(super) fn new(client: Client, url: String, expected: &'static str) -> Self {
        Self { client, url, expected, etag: None }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Makes the next answer a whole one.
    pub(super) fn forget_tag(&mut self) {
        self.etag = None;
    }

    /// Asks once. Takes at most `timeout`. May be dropped at any time.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &mut self,
        timeout: Duration,
    ) -> Result<Fetched<T>, FetchError> {
        let mut request = self.client.get(&self.url).timeout(timeout);
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        let freshness = freshness_of(&response);
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && self.etag.is_some() {
            return Ok(Fetched { body: None, freshness });
        }
        if status != StatusCode::OK {
            let details = format!("{} answered {status}; its log says why", self.url);
            return Err(FetchError { failure: Failure::Status(status.as_u16()), details });
        }
        let etag = response.headers().get(header::ETAG).cloned();
        let body = self.read_body(response).await?;
        self.etag = etag;
        Ok(Fetched { body: Some(body), freshness })
    }

    async fn read_body<T: DeserializeOwned>(
        &self,
        mut response: Response,
    ) -> Result<T, FetchError> {
        let mut body = Vec::new();
        let chunk = |error: reqwest::Error| self.transport_error(&error);
        while let Some(bytes) = response.chunk().await.map_err(chunk)? {
            if body.len() + bytes.len() > MAX_BYTES {
                return Err(self.not_understood(&format!("more than {MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&bytes);
        }
        serde_json::from_slice(&body).map_err(|error| self.not_understood(&error))
    }

    fn transport_error(&self, error: &reqwest::Error) -> FetchError {
        let failure = if error.is_timeout() { Failure::TimedOut } else { Failure::Unreachable };
        let cause = innermost(error);
        let details = format!(
            "failed to ask {} ({}): {cause}; check HARDWARE_HOST and that hardware runs",
            self.url,
            failure.label()
        );
        FetchError { failure, details }
    }

    fn not_understood(&self, found: &dyn fmt::Display) -> FetchError {
        let details = format!(
            "failed to understand the answer of {}: expected {}, found {found}; check HARDWARE_HOST",
            self.url, self.expected
        );
        FetchError { failure: Failure::NotUnderstood, details }
    }
}

/// The operating system's words; the outer errors only repeat the address.
fn innermost(error: &dyn std::error::Error) -> &dyn std::error::Error {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// An answer without these headers, as from the original, is as fresh as it looks.
fn freshness_of(response: &Response) -> Freshness {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let seconds = text(header::AGE.as_str()).and_then(|age| age.parse().ok()).unwrap_or(0);
    Freshness {
        age: Duration::from_secs(seconds),
        is_stale: text(FRESHNESS_HEADER) == Some("stale"),
    }
}

//! Asks `hardware` for its list.

use std::{fmt, sync::Arc, time::Duration};

use hardware_api::{FRESHNESS_HEADER, Hardware};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};

use crate::upstream::{Failure, Freshness};

/// A connection inside a cluster takes a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// `hardware` answers from memory; what takes longer hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// About 200 000 rows. A larger answer is not one of `hardware`.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A client that remembers the tag of the last list.
#[derive(Debug)]
pub(crate) struct HardwareClient {
    client: Client,
    url: String,
    etag: Option<header::HeaderValue>,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The list, unless it is the same as in the last answer.
    pub(crate) rows: Option<Arc<[Hardware]>>,
    /// How old it is.
    pub(crate) freshness: Freshness,
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

impl HardwareClient {
    /// Will ask for the list at `url`.
    pub(crate) fn new(url: String) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("gill-hicks-portal/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // The list is where the contract says, and never behind a proxy for the internet.
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, url, etag: None })
    }

    /// The address that is asked.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks once. Takes at most [`ANSWER_TIMEOUT`]. May be dropped at any time.
    pub(crate) async fn fetch(&mut self) -> Result<Answer, FetchError> {
        let mut request = self.client.get(&self.url);
        if let Some(etag) = &self.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        let freshness = freshness_of(&response);
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && self.etag.is_some() {
            return Ok(Answer { rows: None, freshness });
        }
        if status != StatusCode::OK {
            let details = format!("{} answered {status}; its log says why", self.url);
            return Err(FetchError { failure: Failure::Status(status.as_u16()), details });
        }
        let etag = response.headers().get(header::ETAG).cloned();
        let rows = self.read_rows(response).await?;
        self.etag = etag;
        Ok(Answer { rows: Some(rows), freshness })
    }

    async fn read_rows(&self, mut response: Response) -> Result<Arc<[Hardware]>, FetchError> {
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
            "failed to understand the answer of {}: expected a list of \
             {{provider, name, availability}}, found {found}; check HARDWARE_HOST",
            self.url
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

//! Posts to `POST /v1/observations` and `POST /v1/attempts`.

use std::{path::PathBuf, time::Duration};

use hardware_api::{AttemptBatch, AttemptSummary, ObservationBatch, ObservationSummary};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cause::innermost;

/// A connection inside a cluster takes a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A full batch takes a second on a slow database, and may wait for others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// An answer lists at most 100 refused observations, with a sentence each.
const MAX_BYTES: usize = 256 * 1024;

/// Posts for one source.
#[derive(Clone, Debug)]
pub(crate) struct HardwareClient {
    client: Client,
    base: String,
    token_file: PathBuf,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// The token could not be read.
    #[error("failed to read the token {}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not hold a token.
    #[error("failed to use the token {}: expected visible ASCII characters", .0.display())]
    NoToken(PathBuf),
    /// No answer.
    #[error("failed to post to {url}: {cause}")]
    Transport {
        /// The address.
        url: String,
        /// The operating system's words.
        cause: String,
    },
    /// Another status than 200.
    #[error("{url} answered {status}: {detail}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: StatusCode,
        /// The problem document's sentence.
        detail: String,
        /// How long the service wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that is none of `hardware`.
    #[error("failed to understand the answer of {url}: {reason}; check HARDWARE_HOST")]
    NotUnderstood {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl PostError {
    /// Value of the metric's label.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Token { .. } | Self::NoToken(_) => "no_token",
            Self::Transport { .. } => "unreachable",
            Self::Status { .. } => "refused",
            Self::NotUnderstood { .. } => "not_understood",
        }
    }

    /// How long the service wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl HardwareClient {
    /// Will post to the service at `base`, with the token that `token_file` holds at that time.
    pub(crate) fn new(base: &str, token_file: PathBuf) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("gill-hicks-collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // A token goes nowhere else than configured.
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, base: base.to_owned(), token_file })
    }

    /// Posts what was seen. It may have been taken although this fails; sending it again is harmless.
    pub(crate) async fn post_observations(
        &self,
        batch: &ObservationBatch,
    ) -> Result<ObservationSummary, PostError> {
        self.post("/v1/observations", batch).await
    }

    /// Posts what was tried. It may have been taken although this fails; sending it again is harmless.
    pub(crate) async fn post_attempts(
        &self,
        batch: &AttemptBatch,
    ) -> Result<AttemptSummary, PostError> {
        self.post("/v1/attempts", batch).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        batch: &impl Serialize,
    ) -> Result<T, PostError> {
        let url = format!("{}{path}", self.base);
        let request = self.client.post(&url).json(batch);
        let request = request.header(header::AUTHORIZATION, self.authorization().await?);
        let response = request.send().await.map_err(|error| transport(&url, &error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = read(&url, response).await?;
        if status != StatusCode::OK {
            let detail = describe(&body);
            return Err(PostError::Status { url, status, detail, retry_after });
        }
        serde_json::from_slice(&body).map_err(|error| not_understood(&url, error.to_string()))
    }

    async fn authorization(&self) -> Result<header::HeaderValue, PostError> {
        let token = tokio::fs::read_to_string(&self.token_file).await;
        let token =
            token.map_err(|source| PostError::Token { path: self.token_file.clone(), source })?;
        let value = header::HeaderValue::try_from(format!("Bearer {}", token.trim()));
        let mut value = value.map_err(|_| PostError::NoToken(self.token_file.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

async fn read(url: &str, mut response: Response) -> Result<Vec<u8>, PostError> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| transport(url, &error))? {
        if body.len() + bytes.len() > MAX_BYTES {
            return Err(not_understood(url, format!("more than {MAX_BYTES} bytes")));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

fn transport(url: &str, error: &reqwest::Error) -> PostError {
    let cause = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        innermost(error).to_string()
    };
    PostError::Transport { url: url.to_owned(), cause }
}

fn not_understood(url: &str, reason: String) -> PostError {
    PostError::NotUnderstood { url: url.to_owned(), reason }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

/// The sentence of a problem document (RFC 9457). A proxy in between answers with something else, which says
/// nothing beside the status.
fn describe(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let sentence = problem.and_then(|problem| problem.detail.or(problem.title));
    sentence.unwrap_or_else(|| "it does not say why".to_owned())
}

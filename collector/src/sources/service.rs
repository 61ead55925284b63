//! HTTP services that sources ask: at the address of the configuration and nowhere else. Redirects are not
//! followed, and no proxy of the environment is used.

use std::time::Duration;

use http::{Request, StatusCode, Uri, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::{Client, Config, client::Body};
use tokio::time::timeout;

use crate::cause::innermost;

/// Reads an address from `field` of the configuration.
pub(super) fn parse_address(field: &str, text: &str) -> Result<Uri, String> {
    let wrong = || format!("{field} is {text:?}, expected http://HOST:PORT or https://HOST");
    let address: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let is_http = matches!(address.scheme_str(), Some("http" | "https"));
    let is_plain = address.query().is_none() && !text.contains('@');
    (is_http && is_plain && address.host().is_some()).then_some(address).ok_or_else(wrong)
}

/// The server of an address, and the path to ask there.
pub(super) fn split_path(address: Uri) -> (Uri, String) {
    let path = address.path().to_owned();
    let mut parts = address.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    (Uri::from_parts(parts).expect("parts of an address"), path)
}

/// A service at one address. Over TLS, the authorities of the system vouch for it.
pub(super) struct Service {
    client: Client,
    /// Time for a whole answer.
    deadline: Duration,
    /// Bytes of an answer at most.
    max_bytes: usize,
}

impl Service {
    /// Will ask the service at `address`, to which the paths of requests are added.
    pub(super) fn new(address: Uri, deadline: Duration, max_bytes: usize) -> Result<Self, String> {
        let mut config = Config::new(address);
        // The runner decides when to ask again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self { client, deadline, max_bytes })
    }

    /// Status and body of the answer; or why there is none, in words that follow "the service" or its name.
    pub(super) async fn ask(
        &self,
        request: Request<Body>,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let answered = timeout(self.deadline, async {
            let response = self.client.send(request).await;
            let response =
                response.map_err(|error| format!("cannot be asked: {}", innermost(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.max_bytes).collect().await;
            let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("answers with more than {} bytes", self.max_bytes),
                None => format!("breaks off its answer: {error}"),
            })?;
            Ok((status, body.to_bytes().into()))
        });
        let late = |_| format!("does not answer within {} s", self.deadline.as_secs());
        answered.await.map_err(late)?
    }
}

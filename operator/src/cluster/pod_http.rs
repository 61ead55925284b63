//! Requests to pods over HTTP. A pod is not trusted: whoever may write in its namespace may have put it
//! there. So no redirect is followed, an answer has to come soon, and no more than so much of it is read.

use std::time::Duration;

use reqwest::redirect;
use serde::de::DeserializeOwned;

/// A healthy pod answers at once, as it has the answer in memory.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks pods.
#[derive(Clone, Debug)]
pub struct PodHttp {
    http: reqwest::Client,
}

/// Why there is no answer. The sentences are the same from try to try, as they are shown in conditions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It takes no connection, or its name has no address.
    #[error("it takes no connection")]
    NoConnection,
    /// It is too slow.
    #[error("it did not answer within {} s", TIMEOUT.as_secs())]
    Late,
    /// It closed the connection, or spoke something else than HTTP.
    #[error("the connection broke before the answer was complete")]
    Broken,
    /// It answered with another status than 200.
    #[error("it answered with the status {0}")]
    Status(u16),
    /// It answered with more than the caller reads.
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    /// It answered with something else than was asked for.
    #[error("its answer is not of the form that was expected")]
    Malformed,
}

impl PodHttp {
    /// A client that follows no redirect and uses no proxy.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { http })
    }

    /// Gets a JSON document of at most `longest` bytes.
    pub async fn get<T: DeserializeOwned>(&self, url: &str, longest: usize) -> Result<T, NoAnswer> {
        let mut response = self.http.get(url).send().await.map_err(|error| explain(&error))?;
        if response.status() != 200 {
            return Err(NoAnswer::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| explain(&error))? {
            body.extend_from_slice(&part);
            if body.len() > longest {
                return Err(NoAnswer::TooLong(longest));
            }
        }
        serde_json::from_slice(&body).map_err(|_| NoAnswer::Malformed)
    }
}

fn explain(error: &reqwest::Error) -> NoAnswer {
    if error.is_timeout() {
        NoAnswer::Late
    } else if error.is_connect() {
        NoAnswer::NoConnection
    } else {
        NoAnswer::Broken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{NoAnswer, PodHttp};

    /// What is made of a pod that answers its first request with these bytes, and then closes the
    /// connection.
    async fn get(answer: &str, longest: usize) -> Result<Value, NoAnswer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let answer = answer.to_owned();
        let pod = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let _length = connection.read(&mut request).await.expect("a request");
            connection.write_all(answer.as_bytes()).await.expect("written");
        });
        let found = PodHttp::new().expect("a client").get(&url, longest).await;
        pod.await.expect("it has answered");
        found
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_bound_and_no_redirect_is_followed() {
        assert_eq!(get(&ok(r#"{"a": 1}"#), 8).await, Ok(json!({"a": 1})));
        assert_eq!(get(&ok(r#"{"a": 12}"#), 8).await, Err(NoAnswer::TooLong(8)));
        assert_eq!(get(&ok("no"), 8).await, Err(NoAnswer::Malformed));
        let elsewhere =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(get(elsewhere, 8).await, Err(NoAnswer::Status(302)));
        assert_eq!(
            get("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", 8).await,
            Err(NoAnswer::Broken)
        );
    }

    #[tokio::test]
    async fn nobody_and_somebody_slow_are_told_apart() {
        let http = PodHttp::new().expect("a client");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}/");
        assert_eq!(http.get::<Value>(&url, 8).await, Err(NoAnswer::Late), "nobody accepts");
        drop(listener);
        assert_eq!(http.get::<Value>(&url, 8).await, Err(NoAnswer::NoConnection));
    }
}

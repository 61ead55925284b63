//! Asks `hardware` for what the page shows.

mod endpoint;

use std::{sync::Arc, time::Duration};

use hardware_api::{AvailabilityPage, Hardware};
use reqwest::{Client, redirect::Policy};

pub(crate) use self::endpoint::FetchError;
use self::endpoint::{ANSWER_TIMEOUT, Endpoint};
use crate::{
    pools::{MOST_SHOWN, PoolList, PoolsAnswer},
    upstream::{Failure, Freshness},
};

/// A connection inside a cluster takes a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that remembers the tags of the last answers.
#[derive(Debug)]
pub(crate) struct HardwareClient {
    list: Endpoint,
    pools: Endpoint,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The list, unless it is the same as in the last answer.
    pub(crate) rows: Option<Arc<[Hardware]>>,
    /// How old it is.
    pub(crate) freshness: Freshness,
}

impl HardwareClient {
    /// Will ask the `hardware` at `base_url`, such as `http://hardware:5001`.
    pub(crate) fn new(base_url: &str) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("gill-hicks-portal/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // Everything is where the contract says, and never behind a proxy for the internet.
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        let list = Endpoint::new(
            client.clone(),
            format!("{base_url}/hardware/"),
            "a list of {provider, name, availability}",
        );
        let pools = Endpoint::new(
            client,
            format!("{base_url}/v1/availability?limit={MOST_SHOWN}"),
            "a page of pools",
        );
        Ok(Self { list, pools })
    }

    /// The address of the list.
    pub(crate) fn list_url(&self) -> &str {
        self.list.url()
    }

    /// Asks for the list once. Takes at most [`ANSWER_TIMEOUT`]. May be dropped at any time.
    pub(crate) async fn fetch_list(&mut self) -> Result<Answer, FetchError> {
        let fetched = self.list.fetch(ANSWER_TIMEOUT).await?;
        Ok(Answer { rows: fetched.body, freshness: fetched.freshness })
    }

    /// Asks for the pools once. Takes at most `patience`. May be dropped at any time.
    pub(crate) async fn fetch_pools(
        &mut self,
        patience: Duration,
    ) -> Result<PoolsAnswer, FetchError> {
        match self.pools.fetch::<AvailabilityPage>(patience.min(ANSWER_TIMEOUT)).await {
            Ok(fetched) => Ok(fetched.body.map_or(PoolsAnswer::Unchanged, |page| {
                PoolsAnswer::Listed(PoolList {
                    has_more: page.next.is_some(),
                    items: page.items.into(),
                })
            })),
            Err(FetchError { failure: Failure::Status(404), .. }) => {
                // What was known is not shown any more, so the next answer has to be a whole one.
                self.pools.forget_tag();
                Ok(PoolsAnswer::NotServed)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use axum::{
        Router,
        http::{HeaderMap, StatusCode, header},
        response::{IntoResponse, Response},
        routing::get,
    };
    use tokio::net::TcpListener;

    use super::{FetchError, HardwareClient};
    use crate::{
        pools::{MOST_SHOWN, PoolsAnswer},
        upstream::Failure,
    };

    const PATIENCE: Duration = Duration::from_secs(3);

    const TAG: &str = "\"one\"";

    const NO_POOLS: &str = r#"{"as_of": "2026-06-01T12:00:00Z", "units": 1, "items": []}"#;

    /// A client of a `hardware` that answers in this way when it is asked for its pools.
    async fn client(answer: fn(HeaderMap) -> Response) -> HardwareClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new()
            .route("/hardware/", get(async || "[]"))
            .route("/v1/availability", get(async move |request: HeaderMap| answer(request)));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        HardwareClient::new(&format!("http://{address}")).expect("a client")
    }

    async fn failure(answer: fn(HeaderMap) -> Response) -> (Failure, String) {
        let mut client = client(answer).await;
        let error = client.fetch_pools(PATIENCE).await.expect_err("no good answer");
        client.fetch_list().await.expect("the list is not concerned");
        (error.failure, error.to_string())
    }

    fn is_listed(answer: &Result<PoolsAnswer, FetchError>) -> bool {
        matches!(answer, Ok(PoolsAnswer::Listed(_)))
    }

    #[tokio::test]
    async fn pools_come_with_whether_there_are_more() {
        let mut client = client(|_| {
            let page = NO_POOLS.replace("[]", "[], \"next\": \"?cursor=a\"");
            page.into_response()
        })
        .await;
        let Ok(PoolsAnswer::Listed(list)) = client.fetch_pools(PATIENCE).await else {
            panic!("pools were given");
        };
        assert!(list.items.is_empty() && list.has_more, "{list:?}");
    }

    #[tokio::test]
    async fn only_so_many_pools_are_asked_for_as_the_page_shows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base_url = format!("http://{}", listener.local_addr().expect("bound"));
        let client = HardwareClient::new(&base_url).expect("a client");
        let expected = format!("{base_url}/v1/availability?limit={MOST_SHOWN}");
        assert_eq!(client.pools.url(), expected);
        assert_eq!(client.list_url(), format!("{base_url}/hardware/"));
    }

    #[tokio::test]
    async fn pools_that_have_not_changed_are_not_sent_again() {
        let mut client = client(|request| {
            let tag = [(header::ETAG, TAG)];
            if request.get(header::IF_NONE_MATCH).is_some_and(|known| known == TAG) {
                return (StatusCode::NOT_MODIFIED, tag).into_response();
            }
            (tag, NO_POOLS).into_response()
        })
        .await;
        assert!(is_listed(&client.fetch_pools(PATIENCE).await));
        let answer = client.fetch_pools(PATIENCE).await.expect("304 is a good answer");
        assert_eq!(answer, PoolsAnswer::Unchanged);
    }

    #[tokio::test]
    async fn a_hardware_without_the_route_is_no_failure() {
        let mut client = client(|_| StatusCode::NOT_FOUND.into_response()).await;
        let answer = client.fetch_pools(PATIENCE).await.expect("404 is a good answer");
        assert_eq!(answer, PoolsAnswer::NotServed);
        client.fetch_list().await.expect("the list is not concerned");
    }

    #[tokio::test]
    async fn after_a_404_the_whole_answer_is_asked_for() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let mut client = client(|request| match ASKED.fetch_add(1, Ordering::Relaxed) {
            1 => StatusCode::NOT_FOUND.into_response(),
            _ if request.contains_key(header::IF_NONE_MATCH) => {
                StatusCode::NOT_MODIFIED.into_response()
            }
            _ => ([(header::ETAG, TAG)], NO_POOLS).into_response(),
        })
        .await;
        assert!(is_listed(&client.fetch_pools(PATIENCE).await));
        assert_eq!(client.fetch_pools(PATIENCE).await.ok(), Some(PoolsAnswer::NotServed));
        assert!(is_listed(&client.fetch_pools(PATIENCE).await));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_page_of_pools_says_what_was_expected() {
        let answers: [fn(HeaderMap) -> Response; 2] =
            [|_| "<html>".into_response(), |_| "[]".into_response()];
        for answer in answers {
            let (kind, details) = failure(answer).await;
            assert_eq!(kind, Failure::NotUnderstood);
            assert!(details.contains("expected a page of pools, found "), "{details}");
        }
    }

    #[tokio::test]
    async fn an_error_is_told_with_its_status() {
        let (kind, details) = failure(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
        assert_eq!(kind, Failure::Status(500));
        assert!(details.contains("/v1/availability?limit=200 answered 500"), "{details}");
    }

    #[tokio::test]
    async fn a_304_that_nobody_asked_for_is_a_failure() {
        let (kind, _) = failure(|_| StatusCode::NOT_MODIFIED.into_response()).await;
        assert_eq!(kind, Failure::Status(304));
    }

    #[tokio::test]
    async fn more_bytes_than_any_page_has_are_not_read() {
        let (kind, details) = failure(|_| " ".repeat(17 * 1024 * 1024).into_response()).await;
        assert_eq!(kind, Failure::NotUnderstood);
        assert!(details.contains("found more than 16777216 bytes"), "{details}");
    }

    #[tokio::test]
    async fn pools_are_waited_for_no_longer_than_the_caller_can() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        // Connections are taken, and nothing is ever answered.
        let base_url = format!("http://{}", listener.local_addr().expect("bound"));
        let mut client = HardwareClient::new(&base_url).expect("a client");
        let error = client.fetch_pools(Duration::from_millis(50)).await.expect_err("no answer");
        assert_eq!(error.failure, Failure::TimedOut);
    }
}

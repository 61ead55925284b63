//! The client of the API server. Every request passes [`Guard`], which bounds its time, counts it, and
//! refuses writes once this process may no longer be the leader.

use std::{
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body as AnyBody, Bytes, HttpBody};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header::RETRY_AFTER};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use metrics::counter;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tower::{BoxError, Layer, Service};

/// Time for one request and its whole answer, unless it is a watch.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Most lists and starts of watches at the same time. An operator that watches many namespaces has
/// hundreds of them at its start, and the API server refuses most of them if they come at once.
const LISTS: usize = 8;
/// A watch that delivers nothing for this long is ended. The API server sends a bookmark about once a
/// minute.
const SILENCE: Duration = Duration::from_secs(150);

/// A client whose writes pass `fence`, and whose requests take no longer than `deadline`.
pub fn client(
    mut config: Config,
    fence: &Fence,
    deadline: Duration,
) -> Result<Client, kube::Error> {
    let guard = GuardLayer::new(fence.clone(), deadline);
    config.connect_timeout = Some(deadline);
    config.write_timeout = Some(deadline);
    // The reconciler decides when to retry, for each portal.
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&guard).build())
}

/// Lets writes pass while this process is certain to be the leader. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    until: Arc<RwLock<Option<Until>>>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Instant(Instant),
    Forever,
}

impl Fence {
    /// A fence that lets every write pass, for a process without leader election.
    #[must_use]
    pub fn always_open() -> Self {
        Self { until: Arc::new(RwLock::new(Some(Until::Forever))) }
    }

    /// Lets writes pass until this instant.
    pub fn open_until(&self, instant: Instant) {
        self.set(Some(Until::Instant(instant)));
    }

    /// Refuses every further write.
    pub fn close(&self) {
        self.set(None);
    }

    /// Whether a write that starts now may pass.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match *self.until.read().unwrap_or_else(PoisonError::into_inner) {
            Some(Until::Instant(until)) => Instant::now() < until,
            Some(Until::Forever) => true,
            None => false,
        }
    }

    fn set(&self, until: Option<Until>) {
        *self.until.write().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Puts a [`Guard`] before a service.
#[derive(Clone, Debug)]
pub struct GuardLayer {
    fence: Fence,
    deadline: Duration,
    lists: Arc<Semaphore>,
}

impl GuardLayer {
    /// Guards whose writes pass `fence`, and whose requests take no longer than `deadline`.
    #[must_use]
    pub fn new(fence: Fence, deadline: Duration) -> Self {
        Self { fence, deadline, lists: Arc::new(Semaphore::new(LISTS)) }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        let Self { fence, deadline, lists } = self.clone();
        Guard { inner, fence, deadline, lists }
    }
}

/// A service that bounds, counts and fences each request to the API server.
#[derive(Debug)]
pub struct Guard<S> {
    inner: S,
    fence: Fence,
    deadline: Duration,
    lists: Arc<Semaphore>,
}

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<AnyBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counted = ApiRequest::of(&request);
        if counted.is_write && !self.fence.is_open() {
            counted.count("fenced");
            let refused = "this operator is no longer the leader, so it writes nothing";
            return futures::future::ready(Err(refused.into())).boxed();
        }
        let (answer, deadline) = (self.inner.call(request), self.deadline);
        // Nothing is sent before the future is polled.
        let lists = matches!(counted.verb, "list" | "watch").then(|| Arc::clone(&self.lists));
        async move {
            let _turn = match lists {
                Some(lists) => lists.acquire_owned().await.ok(),
                None => None,
            };
            let answer = if counted.verb == "watch" {
                timeout(deadline, answer).await.map(|answer| answer.map(end_when_silent))
            } else {
                timeout(deadline, async { read_whole(answer.await?).await }).await
            };
            let late = |_| format!("no answer within {} s", deadline.as_secs_f32()).into();
            let answer = answer.map_err(late).flatten();
            match &answer {
                Ok(answer) => counted.count(answer.status().as_str()),
                Err(_) => counted.count("error"),
            }
            answer
        }
        .boxed()
    }
}

/// A request as the metric `api_requests_total` counts it.
struct ApiRequest {
    verb: &'static str,
    kind: String,
    is_write: bool,
}

impl ApiRequest {
    fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.split('&').any(|pair| pair == "watch=true");
        let (kind, is_named) = kind_of(request.uri().path());
        let verb = match *request.method() {
            Method::GET if is_watch => "watch",
            Method::GET if is_named => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
        Self { verb, kind, is_write: *request.method() != Method::GET }
    }

    fn count(&self, code: &str) {
        let (kind, code) = (self.kind.clone(), code.to_owned());
        counter!("api_requests_total", "verb" => self.verb, "kind" => kind, "code" => code)
            .increment(1);
    }
}

/// The resource in a path of the API, with its subresource, and whether one object is named. The name of
/// the object is left out: as the label of a metric its values would be unbounded.
fn kind_of(path: &str) -> (String, bool) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let mut parts = parts.skip(skipped).peekable();
    let mut resource = parts.next().unwrap_or("none");
    let mut name = parts.next();
    if resource == "namespaces" && parts.peek().is_some() {
        resource = parts.next().unwrap_or("none");
        name = parts.next();
    }
    let kind = match parts.next() {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.to_owned(),
    };
    (kind, name.is_some())
}

async fn read_whole<B>(answer: Response<B>) -> Result<Response<AnyBody>, BoxError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(AnyBody::new(body), usize::MAX).await?;
    let extended = with_retry_after(parts.status, &parts.headers, &bytes);
    let body = extended.map_or_else(|| AnyBody::from(bytes), AnyBody::from);
    Ok(Response::from_parts(parts, body))
}

/// Adds the seconds of the header `Retry-After` to the body of an error. A busy API server answers with
/// plain text and this header, and `kube::Error` carries the body only.
fn with_retry_after(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    if status.is_success() {
        return None;
    }
    let seconds: u32 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    let mut error: Value = serde_json::from_slice(body).unwrap_or_default();
    if error["kind"] != "Status" {
        error = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": status.as_u16(),
            "reason": status.canonical_reason().unwrap_or_default().replace(' ', ""),
            "message": String::from_utf8_lossy(body).trim(),
        });
    }
    if error["details"]["retryAfterSeconds"].is_null() {
        error["details"]["retryAfterSeconds"] = seconds.into();
    }
    Some(error.to_string().into_bytes())
}

/// Ends a watch after [`SILENCE`]: nothing else ends it if the connection was lost without a packet that
/// closes it.
fn end_when_silent<B>(answer: Response<B>) -> Response<AnyBody>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.map(|body| AnyBody::from_stream(until_silent(AnyBody::new(body).into_data_stream())))
}

fn until_silent<E>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static
where
    E: Into<BoxError> + Send + 'static,
{
    stream::unfold(Some(pieces), async |pieces| {
        let mut pieces = pieces?;
        match timeout(SILENCE, pieces.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(_) => Some((Err("the watch has been silent for too long".into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body as AnyBody;
    use futures::{StreamExt, stream};
    use http::{Request, Response, StatusCode};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, Client, api::PostParams, client::Body};
    use tokio::time::Instant;
    use tower::{BoxError, Layer, service_fn};

    use super::{Fence, GuardLayer, SILENCE, kind_of, until_silent};

    const DEADLINE: Duration = Duration::from_secs(5);

    /// Config maps of a server that answers as `answer` does.
    fn config_maps<F>(
        fence: &Fence,
        answer: impl Fn() -> F + Clone + Send + 'static,
    ) -> Api<ConfigMap>
    where
        F: Future<Output = Result<Response<AnyBody>, BoxError>> + Send + 'static,
    {
        let server = service_fn(move |_: Request<Body>| answer());
        let guard = GuardLayer::new(fence.clone(), DEADLINE);
        Api::default_namespaced(Client::new(guard.layer(server), "default"))
    }

    fn answer(status: StatusCode, retry_after: &str, body: &'static str) -> Response<AnyBody> {
        let builder = Response::builder().status(status).header("retry-after", retry_after);
        builder.body(AnyBody::from(body)).expect("a response")
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_refused_once_the_fence_is_closed_and_a_read_is_not() {
        let fence = Fence::default();
        let text = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
        let maps = config_maps(&fence, async || {
            Ok(Response::new(AnyBody::from(
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#,
            )))
        });
        let map: ConfigMap = serde_json::from_str(text).expect("a map");
        let write = async || maps.create(&PostParams::default(), &map).await;
        let refused = write().await.expect_err("nobody has opened it");
        assert!(refused.to_string().contains("no longer the leader"), "{refused}");
        maps.get("a").await.expect("reading is harmless");
        fence.open_until(Instant::now() + Duration::from_secs(10));
        write().await.expect("it is open");
        tokio::time::advance(Duration::from_secs(10)).await;
        write().await.expect_err("its time has passed");
        fence.open_until(Instant::now() + Duration::from_secs(10));
        fence.close();
        write().await.expect_err("it was closed");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_an_error_at_the_deadline() {
        let started = Instant::now();
        let maps = config_maps(&Fence::default(), std::future::pending);
        let error = maps.get("a").await.expect_err("nobody answers");
        assert!(error.to_string().contains("no answer within 5 s"), "{error}");
        let maps = config_maps(&Fence::default(), async || {
            Ok(Response::new(AnyBody::from_stream(stream::pending::<Result<String, BoxError>>())))
        });
        maps.get("a").await.expect_err("the answer has no end");
        assert_eq!(started.elapsed(), DEADLINE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_wait_is_taken_from_the_header_where_the_body_lacks_it() {
        let seconds = async |body: &'static str| {
            let maps = config_maps(&Fence::default(), move || async move {
                Ok(answer(StatusCode::TOO_MANY_REQUESTS, "7", body))
            });
            let Err(kube::Error::Api(status)) = maps.get("a").await else { panic!("an answer") };
            assert_eq!(status.code, 429);
            status.details.map(|details| details.retry_after_seconds)
        };
        assert_eq!(seconds("Too many requests, please try again later.").await, Some(7));
        let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":429,"message":"m","reason":"TooManyRequests","details":{"retryAfterSeconds":3}}"#;
        assert_eq!(seconds(status).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_ends_with_an_error() {
        let pieces = stream::iter([Ok::<_, BoxError>("event".into())]).chain(stream::pending());
        let mut pieces = Box::pin(until_silent(Box::pin(pieces)));
        assert!(pieces.next().await.expect("an event").is_ok());
        let started = Instant::now();
        assert!(pieces.next().await.expect("an end").is_err());
        assert_eq!(started.elapsed(), SILENCE);
        assert!(pieces.next().await.is_none());
    }

    #[test]
    fn a_path_is_counted_as_its_resource_without_names() {
        for (path, kind, is_named) in [
            ("/api/v1/namespaces/a/secrets/b", "secrets", true),
            ("/api/v1/namespaces/a/secrets", "secrets", false),
            ("/api/v1/secrets", "secrets", false),
            ("/apis/apps/v1/namespaces/a/deployments/b", "deployments", true),
            (
                "/apis/gill-hicks.dev/v1alpha1/namespaces/a/hardwareportals/b/status",
                "hardwareportals/status",
                true,
            ),
            (
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/x",
                "customresourcedefinitions",
                true,
            ),
            ("/api/v1/namespaces/a", "namespaces", true),
        ] {
            assert_eq!(kind_of(path), (kind.to_owned(), is_named), "{path}");
        }
    }
}

//! A plan of what goes wrong between the operator and a server, and the layer that lets a request to the
//! API server go wrong. [`crate::proxy`] does it to connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use kube::client::Body;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

type Request = http::Request<Body>;
type Response = http::Response<axum::body::Body>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The server fails: 500.
    ServerError,
    /// Somebody else was faster: 409.
    Conflict,
    /// The server is busy: 429, come back after a second.
    TooManyRequests,
    /// No answer comes, ever.
    Hang,
    /// The server does it, and its answer is lost.
    Cut,
    /// The operator dies before it is sent.
    CrashBefore,
    /// The operator dies after the server has done it.
    CrashAfter,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 7] = [
        Self::ServerError,
        Self::Conflict,
        Self::TooManyRequests,
        Self::Hang,
        Self::Cut,
        Self::CrashBefore,
        Self::CrashAfter,
    ];

    /// Those that befall connections, whatever is said on them.
    pub const OF_CONNECTIONS: [Self; 4] =
        [Self::Hang, Self::Cut, Self::CrashBefore, Self::CrashAfter];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The plan of what goes wrong, and the count of what was asked: of requests in the layer, of chunks in
/// a proxy. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_armed: AtomicBool,
    /// Requests since it was armed, in all, and in all to change something.
    armed: AtomicUsize,
    all: AtomicUsize,
    writes: AtomicUsize,
    /// Whether what was planned has come to pass since it was armed.
    has_struck: AtomicBool,
    plan: std::sync::Mutex<Plan>,
    crashed: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
enum Plan {
    #[default]
    Nothing,
    /// The k-th request, counted from 1.
    Once(Fault, usize),
    /// Every write, until further notice.
    EveryWrite(Fault),
}

impl Faults {
    /// Lets the k-th request or chunk from now on go wrong, counted from 1; none without a plan.
    pub fn arm(&self, plan: Option<(Fault, usize)>) {
        // What the last one did too late for anybody to notice is not this one's.
        let _late = self.shared.crashed.notified().now_or_never();
        self.set(plan.map_or(Plan::Nothing, |(fault, k)| Plan::Once(fault, k)));
        self.shared.armed.store(0, Ordering::SeqCst);
        self.shared.has_struck.store(false, Ordering::SeqCst);
        self.shared.is_armed.store(true, Ordering::SeqCst);
    }

    /// Lets every write go wrong from now on.
    pub fn fail_every_write(&self, fault: Fault) {
        self.set(Plan::EveryWrite(fault));
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        self.set(Plan::Nothing);
    }

    /// Requests or chunks since [`Faults::arm`].
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.armed.load(Ordering::SeqCst)
    }

    /// Requests or chunks since the beginning.
    #[must_use]
    pub fn all_requests(&self) -> usize {
        self.shared.all.load(Ordering::SeqCst)
    }

    /// Requests that are to change something, since the beginning.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Whether anything has gone wrong since [`Faults::arm`].
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.shared.has_struck.load(Ordering::SeqCst)
    }

    /// Waits until the operator is to die.
    pub async fn crashed(&self) {
        self.shared.crashed.notified().await;
    }

    fn set(&self, plan: Plan) {
        *self.shared.plan.lock().expect("nobody panics while holding it") = plan;
    }

    /// Tells whoever waits that the operator is to die.
    pub(crate) fn crash(&self) {
        self.shared.crashed.notify_one();
    }

    /// Counts a request or a chunk, and tells what becomes of it.
    pub(crate) fn next(&self, is_write: bool) -> Option<Fault> {
        self.shared.all.fetch_add(1, Ordering::SeqCst);
        self.shared.writes.fetch_add(usize::from(is_write), Ordering::SeqCst);
        let armed = self.shared.is_armed.load(Ordering::SeqCst);
        let count = if armed { self.shared.armed.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let fault = match *self.shared.plan.lock().expect("nobody panics while holding it") {
            Plan::Once(fault, k) if count == k => Some(fault),
            Plan::EveryWrite(fault) if is_write => Some(fault),
            _ => None,
        };
        self.shared.has_struck.fetch_or(fault.is_some(), Ordering::SeqCst);
        fault
    }
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, faults: self.clone() }
    }
}

/// A connection to the API server on which things go wrong.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S, B> Service<Request> for Faulty<S>
where
    S: Service<Request, Response = http::Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: axum::body::HttpBody<Data = axum::body::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let faults = self.faults.clone();
        let fault = faults.next(request.method() != Method::GET);
        match fault {
            Some(Fault::ServerError) => answer(StatusCode::INTERNAL_SERVER_ERROR),
            Some(Fault::Conflict) => answer(StatusCode::CONFLICT),
            Some(Fault::TooManyRequests) => answer(StatusCode::TOO_MANY_REQUESTS),
            Some(Fault::Hang) => futures::future::pending().boxed(),
            Some(Fault::CrashBefore) => {
                faults.crash();
                futures::future::pending().boxed()
            }
            Some(Fault::Cut) => {
                let done = self.inner.call(request);
                async move {
                    done.await?;
                    Err("the connection was cut before the answer".into())
                }
                .boxed()
            }
            Some(Fault::CrashAfter) => {
                let done = self.inner.call(request);
                async move {
                    done.await?;
                    faults.crash();
                    futures::future::pending().await
                }
                .boxed()
            }
            None => {
                let answer = self.inner.call(request);
                async move { Ok(answer.await?.map(axum::body::Body::new)) }.boxed()
            }
        }
    }
}

/// An answer as the API server gives it, without having done anything.
fn answer(status: StatusCode) -> BoxFuture<'static, Result<Response, BoxError>> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "as the test asks", "code": status.as_u16(),
        "reason": status.canonical_reason().unwrap_or_default().replace(' ', ""),
    });
    let answer = http::Response::builder()
        .status(status)
        .header("retry-after", "1")
        .body(axum::body::Body::from(body.to_string()))
        .map_err(BoxError::from);
    futures::future::ready(answer).boxed()
}

//! What hyper calls for each request of a connection.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    routing::future::RouteFuture,
};
use futures::{FutureExt, future::Either as EitherFuture};
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use tower::Service;

use super::{Site, connection::Connection};

/// A site as one connection sees it.
#[derive(Debug)]
pub(super) struct SiteService {
    pub(super) site: Arc<Site>,
    pub(super) connection: Arc<Connection>,
}

type Answer = Result<Response<TrackedBody>, Infallible>;

impl hyper::service::Service<Request<Incoming>> for SiteService {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = EitherFuture<Ready<Answer>, Routed>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = Arc::clone(&self.connection);
        connection.note_request(!hyper::body::Body::is_end_stream(request.body()));
        let fast_path = self.site.fast_path.as_ref();
        if let Some(response) = fast_path.and_then(|fast_path| fast_path.answer(&request)) {
            let response =
                response.map(|body| TrackedBody { body: Either::Left(body), connection });
            return EitherFuture::Left(ready(Ok(response)));
        }
        let response = self.site.router.clone().call(request.map(Body::new));
        EitherFuture::Right(Routed { response, connection })
    }
}

/// An answer of the router's that is being made.
pub(super) struct Routed {
    response: RouteFuture<Infallible>,
    connection: Arc<Connection>,
}

impl Future for Routed {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = futures::ready!(self.response.poll_unpin(context))?;
        let connection = Arc::clone(&self.connection);
        let response = response.map(|body| TrackedBody { body: Either::Right(body), connection });
        Poll::Ready(Ok(response))
    }
}

/// The body of an answer. hyper drops it when it has taken all of it.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Either<Full<Bytes>, Body>,
    connection: Arc<Connection>,
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.connection.note_answer();
    }
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

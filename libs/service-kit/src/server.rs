//! HTTP/1.1 listeners with limits and a graceful end.
//!
//! A connection costs no timer: it notes what it is waiting for and since when, and one task per listener
//! looks at all of them twice a second. What hyper refuses by itself gets the problem document that
//! other refusals have.

mod connection;
mod places;
mod refusal;
mod service;
mod stream;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Bytes};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

pub(crate) use self::refusal::problem;
use self::{
    connection::drive,
    places::{Place, Places},
    service::SiteService,
    stream::TrackedStream,
};

/// What one listener grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. When all places are taken, the one that was unused for the longest
    /// time is closed; while all of them are being answered, further ones wait in the kernel's backlog.
    pub connections: usize,
    /// Time to send a request's header: from the beginning of the connection, later from its first byte.
    pub header_time: Duration,
    /// Time between two requests of a connection. Longer than that of common load balancers, so that they
    /// are the ones who close.
    pub idle_time: Duration,
    /// Time in which a client has to take more of an answer than 4 KiB, as far as the kernel tells: it asks for
    /// more when about a third of its buffer is free.
    pub progress_time: Duration,
    /// Most bytes of a request's header, its first line included.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            progress_time: Duration::from_secs(20),
            header_bytes: 64 * 1024,
        }
    }
}

/// Answers some requests from memory, before a route is looked for. Finding a route, noting the matched
/// path and boxing futures cost about as much as such an answer.
pub trait FastPath: Send + Sync + 'static {
    /// `None` leaves the request to the router.
    fn answer(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>>;
}

/// What a listener serves.
pub struct Site {
    name: &'static str,
    fast_path: Option<Box<dyn FastPath>>,
    router: Router,
}

impl Site {
    /// All requests go to `router`. The name is the label `listener` of metrics.
    #[must_use]
    pub fn new(name: &'static str, router: Router) -> Self {
        Self { name, fast_path: None, router }
    }

    /// The routes alone, for tests that have no connection.
    pub fn into_router(self) -> Router {
        self.router
    }

    /// Asks `fast_path` before the router.
    #[must_use]
    pub fn with_fast_path(mut self, fast_path: impl FastPath) -> Self {
        self.fast_path = Some(Box::new(fast_path));
        self
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {source}; choose another address with {option}")]
pub struct BindError {
    address: SocketAddr,
    option: &'static str,
    source: std::io::Error,
}

/// Opens a listener on `address`, which the user chose with `option`.
pub async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, option, source })
}

/// Serves `site` until `closing` is cancelled, then until the last request has been answered. Whoever
/// calls this bounds that time, as [`crate::Lifecycle`] does.
pub async fn serve(listener: TcpListener, site: Site, limits: Limits, closing: CancellationToken) {
    let places = Places::new(site.name, limits);
    let site = Arc::new(site);
    let connections = TaskTracker::new();
    let mut http = http1::Builder::new();
    // Times are kept by `places`. A client may end its half of the connection once it has asked.
    http.header_read_timeout(None)
        .half_close(true)
        .max_header_size(limits.header_bytes)
        // The buffer holds bodies too. It is larger than a header may be, so that hyper meets the header's
        // limit first; it panics below 8192.
        .max_buf_size((2 * limits.header_bytes).max(8192));

    // Owns the listener, which ends with it.
    let accept = async {
        let listener = listener;
        loop {
            match listener.accept().await {
                Ok((socket, _peer)) => {
                    let place = places.take().await;
                    let served = serve_connection(&http, socket, Arc::clone(&site), place);
                    connections.spawn(served);
                }
                Err(error) => {
                    // Out of file descriptors (EMFILE), perhaps: a connection less may help.
                    places.evict();
                    back_off_from_accept(&error).await;
                }
            }
        }
    };
    let until_closed = async {
        closing.run_until_cancelled(accept).await;
        places.close();
        connections.close();
        connections.wait().await;
    };
    tokio::select! {
        () = until_closed => {}
        () = places.sweep() => {}
    }
}

fn serve_connection(
    http: &http1::Builder,
    socket: TcpStream,
    site: Arc<Site>,
    place: Place,
) -> impl Future<Output = ()> + use<> {
    disable_nagle(&socket);
    let connection = Arc::clone(&place.connection);
    let stream = TrackedStream::new(socket, Arc::clone(&connection));
    let service = SiteService { site, connection };
    let served = http.serve_connection(TokioIo::new(stream), service);
    drive(served, place)
}

/// Small answers must not wait for the client's delayed acknowledgement.
fn disable_nagle(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "failed to disable Nagle's algorithm");
    }
}

/// An error that stays would spin without a pause.
async fn back_off_from_accept(error: &std::io::Error) {
    warn!(%error, "failed to accept a connection, trying again");
    sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests;

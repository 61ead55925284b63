//! HTTP/1.1 listeners with limits and a graceful end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// What one listener grants its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections served at the same time; further ones wait in the kernel's backlog.
    pub connections: usize,
    /// Time to send a request's header; it also bounds how long an idle connection is kept.
    pub header_time: Duration,
    /// Size of a request's header in bytes.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, header_time: Duration::from_secs(75), header_bytes: 16 * 1024 }
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

/// Serves `router` until `closing` is cancelled, then until the last request has been answered.
/// Whoever calls this bounds that time, as [`crate::Lifecycle`] does.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    closing: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(8192));

    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = closing.cancelled() => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _peer)) => (place, stream),
                Err(error) => { back_off_from_accept(&error).await; continue }
            },
        };
        disable_nagle(&stream);
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Small answers must not wait for the client's delayed acknowledgement.
fn disable_nagle(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "failed to disable Nagle's algorithm");
    }
}

/// Out of file descriptors (EMFILE) shows as an error of `accept` and would spin without a pause.
async fn back_off_from_accept(error: &std::io::Error) {
    warn!(%error, "failed to accept a connection, trying again");
    sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::Notify,
        time::timeout,
    };
    use tokio_util::sync::CancellationToken;

    use super::{Limits, serve};

    #[tokio::test]
    async fn a_request_in_flight_is_answered_after_the_listener_closed() {
        let (entered, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = Router::new().route("/", {
            let (entered, answer) = (Arc::clone(&entered), Arc::clone(&answer));
            get(async move || {
                entered.notify_one();
                answer.notified().await;
                "done"
            })
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let closing = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, Limits::default(), closing.clone()));

        let mut client = TcpStream::connect(address).await.expect("accepted");
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        entered.notified().await;
        closing.cancel();
        answer.notify_one();

        let mut response = String::new();
        client.read_to_string(&mut response).await.expect("a whole answer");
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        assert!(response.ends_with("done"), "{response}");
        timeout(Duration::from_secs(5), server).await.expect("the server ends").expect("no panic");
        assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
    }
}

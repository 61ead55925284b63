//! The least that can answer HTTP with the bytes of `GET /hardware/`: hyper and nothing else. The
//! benchmark compares the service with it. Usage: `bare_server ADDRESS FILE`.

use std::{convert::Infallible, net::SocketAddr};

use axum::body::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: bare_server ADDRESS FILE";
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let body = Bytes::from(std::fs::read(arguments.next().ok_or(usage)?)?);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let service = service_fn(move |_| {
            let body = body.clone();
            async move { Ok::<_, Infallible>(answer(body)) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

/// With the headers that the service sends, so that both write as many bytes.
fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let etag = "W/\"00000000000000000000000000000000\"";
    headers.insert(header::ETAG, HeaderValue::from_static(etag));
    headers.insert(header::AGE, HeaderValue::from_static("0"));
    let cache_control = "public, max-age=2, stale-if-error=60";
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert("snapshot-freshness", HeaderValue::from_static("fresh"));
    response
}

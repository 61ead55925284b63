//! The least that can answer HTTP with given bytes: hyper and nothing else. The benchmark compares
//! the services with it. Usage: `bare_server ADDRESS HEADERS BODY`, the last two of them files, the
//! first of those with lines `name: value`.

use std::{convert::Infallible, error::Error, fs, net::SocketAddr};

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: bare_server ADDRESS HEADERS BODY";
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let headers = parse_headers(fs::read_to_string(arguments.next().ok_or(usage)?)?)?;
    let body = Bytes::from(fs::read(arguments.next().ok_or(usage)?)?);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            response.headers_mut().clone_from(&headers);
            async move { Ok::<_, Infallible>(response) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

/// They live as long as the program, so that copying one costs as little as it can.
fn parse_headers(lines: String) -> Result<HeaderMap, Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    for line in lines.leak().lines() {
        let (name, value) = line.split_once(": ").ok_or("expected lines \"name: value\"")?;
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_static(value));
    }
    Ok(headers)
}

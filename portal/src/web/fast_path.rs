//! The page and its rows, answered before a route is looked for.

use std::{sync::Arc, time::Instant};

use axum::body::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use service_kit::{observe::RouteMetrics, server::FastPath};

use super::{WebState, index, rows};

/// Answers what browsers ask for again and again, and leaves everything else to the router.
pub(super) struct PageFastPath {
    state: Arc<WebState>,
    index: RouteMetrics,
    rows: RouteMetrics,
}

impl PageFastPath {
    pub(super) fn new(state: Arc<WebState>) -> Self {
        Self { state, index: RouteMetrics::register("/"), rows: RouteMetrics::register("/rows") }
    }
}

impl FastPath for PageFastPath {
    fn answer(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let started = Instant::now();
        let (response, metrics) = match request.uri().path() {
            "/" => (index::answer(&self.state, request.headers()), &self.index),
            "/rows" => (rows::answer(&self.state, request.headers()), &self.rows),
            _ => return None,
        };
        metrics.observe(request.method(), response.status(), started.elapsed());
        Some(response)
    }
}

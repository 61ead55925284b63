//! Answers to requests that cannot be answered as asked: a page for people, a problem document
//! (RFC 9457) for programs.

use std::sync::Arc;

use askama::Template;
use axum::{body::Body, extract::State, response::Response};
use hardware_api::{PROBLEM_MEDIA_TYPE, Problem};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use service_kit::negotiation::weight_among;
use tracing::error;

use super::WebState;
use crate::{
    CachePolicy,
    assets::ASSETS,
    page::{ErrorPage, HTML},
    security,
};

/// What is wrong with a request, or with us.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
    advice: &'static str,
}

/// No route has this path.
pub(super) async fn refuse_path(
    State(state): State<Arc<WebState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let refusal = Refusal {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        detail: format!("There is nothing at {}.", uri.path()),
        advice: "The address may be mistyped; the list of hardware is at \"/\".",
    };
    refusal.answer(&state, &headers)
}

/// The path is right, the method is not. The router adds `Allow`.
pub(super) async fn refuse_method(
    State(state): State<Arc<WebState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let refusal = Refusal {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        detail: format!("{} does not take {method}.", uri.path()),
        advice: "This site only shows. Use GET; observations are sent to the hardware service.",
    };
    refusal.answer(&state, &headers)
}

/// A bug ends one request, not the connection, and its details stay in the log.
pub(super) fn answer_panic(state: &WebState, accept: Option<&HeaderValue>) -> Response {
    let refusal = Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "internal",
        detail: "This request met a bug of the portal.".to_owned(),
        advice: "Trying again may help. If it does not, tell whoever runs this portal: its log \
                 has the details.",
    };
    refusal.answer_as(state, accept.into_iter().any(names_html))
}

impl Refusal {
    fn answer(self, state: &WebState, request: &HeaderMap) -> Response {
        self.answer_as(state, wants_page(request))
    }

    fn answer_as(self, state: &WebState, wants_page: bool) -> Response {
        let status = self.status;
        let (media_type, body) = if wants_page {
            (HTML, self.page(&state.title))
        } else {
            (PROBLEM_MEDIA_TYPE, self.problem())
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, CachePolicy::NoStore.header_value());
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        security::add_headers(headers);
        response
    }

    fn page(&self, title: &str) -> String {
        let page = ErrorPage {
            title,
            status: self.status.as_u16(),
            reason: self.reason(),
            detail: &self.detail,
            advice: self.advice,
            assets: &ASSETS,
        };
        page.render().unwrap_or_else(|error| {
            error!(%error, "failed to render an error page");
            self.detail.clone()
        })
    }

    fn problem(self) -> String {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self.reason().to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: format!("{} {}", self.detail, self.advice),
            field: None,
            found: None,
            expected: None,
            allowed: None,
        };
        serde_json::to_string(&problem).unwrap_or_default()
    }

    fn reason(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }
}

/// Browsers ask for `text/html` by name, programs do not.
fn wants_page(request: &HeaderMap) -> bool {
    request.get_all(header::ACCEPT).iter().any(names_html)
}

fn names_html(accept: &HeaderValue) -> bool {
    accept.as_bytes().split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"text/html"));
        is_named && weight_among(parts) > 0
    })
}

//! The public routes.

mod assets;
mod healthz;
mod index;
mod refusal;
mod rows;
pub(crate) mod security;

use std::{io, sync::Arc};

use axum::{Router, middleware, routing::get};
use service_kit::{Clock, observe::ObserveRequests};

use crate::live_page::Published;

/// What requests work with.
pub(crate) struct WebState {
    /// The page.
    pub(crate) published: Arc<Published>,
    /// What the time is.
    pub(crate) clock: Clock,
    /// Its heading, for error pages.
    pub(crate) title: String,
}

/// All of them.
pub(crate) fn router(state: WebState) -> io::Result<Router> {
    let routes = Router::new()
        .route("/", get(index::show_index))
        .route("/rows", get(rows::show_rows))
        .route("/healthz", get(healthz::show_health))
        .merge(assets::router()?);
    Ok(finish(routes, Arc::new(state)))
}

/// Adds what every route has: answers to wrong requests and to bugs, and instruments.
fn finish(routes: Router<Arc<WebState>>, state: Arc<WebState>) -> Router {
    routes
        .fallback(refusal::refuse_path)
        .method_not_allowed_fallback(refusal::refuse_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), refusal::catch_panic))
        .layer(ObserveRequests::default())
        .with_state(state)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::{
        Router,
        body::Body,
        http::{Request, StatusCode, header},
        routing::get,
    };
    use http_body_util::BodyExt;
    use service_kit::Clock;
    use tower::ServiceExt;

    use super::{WebState, finish};
    use crate::{live_page::LivePage, page::Frame};

    fn state() -> Arc<WebState> {
        let clock = Clock::new(chrono::Utc::now);
        let frame = Frame { title: "Lab".to_owned(), refresh_ms: 5000 };
        let page = LivePage::new(frame, Duration::from_secs(15), clock.clone()).expect("rendered");
        Arc::new(WebState { published: page.published(), clock, title: "Lab".to_owned() })
    }

    #[tokio::test]
    async fn a_bug_becomes_a_page_that_says_nothing_of_it() {
        let bug = get(async || -> () { panic!("secret detail") });
        let router = finish(Router::new().route("/bug", bug), state());
        let request = Request::get("/bug").header(header::ACCEPT, "text/html");
        let request = request.body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("Internal Server Error") && !body.contains("secret"), "{body}");
    }
}

//! The public routes.

mod assets;
mod fast_path;
mod healthz;
mod index;
mod refusal;
mod rows;

use std::{io, sync::Arc};

use axum::{Router, routing::get};
use service_kit::{Clock, observe::ObserveRequests, server::Site};

use self::fast_path::PageFastPath;
use crate::page_publisher::Published;

/// What requests work with.
pub(crate) struct WebState {
    /// The page.
    pub(crate) published: Arc<Published>,
    /// What the time is.
    pub(crate) clock: Clock,
    /// Its heading, for error pages.
    pub(crate) title: String,
}

/// All of them; the page and its rows are answered before a route is looked for.
pub(crate) fn site(state: WebState) -> io::Result<Site> {
    let state = Arc::new(state);
    let router = router(Arc::clone(&state))?;
    Ok(Site::new("public", router).with_fast_path(PageFastPath::new(state)))
}

fn router(state: Arc<WebState>) -> io::Result<Router> {
    let routes = Router::new()
        .route("/", get(index::show_index))
        .route("/rows", get(rows::show_rows))
        .route("/healthz", get(healthz::show_health))
        .merge(assets::router()?);
    Ok(finish(routes, state))
}

/// Adds what every route has: answers to wrong requests and to bugs, and instruments.
fn finish(routes: Router<Arc<WebState>>, state: Arc<WebState>) -> Router {
    let observe = ObserveRequests::answering_panics_with({
        let state = Arc::clone(&state);
        move |accept| refusal::answer_panic(&state, accept)
    });
    routes
        .fallback(refusal::refuse_path)
        .method_not_allowed_fallback(refusal::refuse_method)
        .layer(observe)
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
    use crate::{page::Frame, page_publisher::PagePublisher};

    fn state() -> Arc<WebState> {
        let clock = Clock::new(chrono::Utc::now);
        let frame = Frame { title: "Lab".to_owned(), refresh_ms: 5000 };
        let page = PagePublisher::new(frame, Duration::from_secs(15), clock.clone());
        let page = page.expect("rendered");
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

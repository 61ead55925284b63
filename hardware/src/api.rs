//! The public HTTP API.

mod access;
mod answer;
mod atom;
mod attempts;
mod availability;
mod badge;
mod body;
mod check;
mod description;
mod feed;
mod fields;
mod hardware;
mod ingest;
mod ingest_queue;
#[cfg(feature = "mcp")]
mod mcp;
mod observations;
mod parameters;
mod pool;
mod problem;
mod query;
mod sources;
mod tables;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, StatusCode, Uri},
    response::Redirect,
    routing::get,
};
use http::{Request, header};
use service_kit::{Clock, Lifecycle, observe::ObserveRequests, server::Site};
use tokio::sync::{Notify, Semaphore};
use tower::util::MapRequest;
use tower_http::cors::{Any, CorsLayer};
use utoipa::openapi::{
    ComponentsBuilder, Info, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    access::Tokens,
    ingest_queue::{IngestQueue, Turns},
    problem::Refusal,
};
use crate::{
    metrics::IngestMetrics,
    pools::SharedPools,
    snapshot::{FRESHNESS, Published},
    store::Db,
};

/// What requests work with.
pub struct ApiState {
    /// The list to answer with.
    pub published: Arc<Published>,
    /// What is known of each pool.
    pub pools: SharedPools,
    /// Where observations go, and history comes from.
    pub db: Arc<Db>,
    /// Wakes the refresh.
    pub wake: Arc<Notify>,
    /// Who may post observations.
    pub tokens: Tokens,
    /// What the time is.
    pub clock: Clock,
    /// For how long history is kept.
    pub history_retention: Duration,
    /// Whose batch is written next.
    pub queue: IngestQueue,
    /// Whose view is made next, of numbers of units that nobody asked for lately.
    pub views: Turns,
    /// Whose check or pick is next: each may look at many pools.
    pub checks: Turns,
    /// One history at a time, so that the refresh has a connection.
    pub histories: Semaphore,
    /// Lets work outlive its request.
    pub lifecycle: Lifecycle,
    /// Whether agents may ask at `/mcp`.
    pub mcp: bool,
    /// Counts observations.
    pub ingest_metrics: IngestMetrics,
}

/// All public routes. The list is one like the others, for its description, for methods that it does not
/// take and while there is none yet, but else it is answered before a route is looked for.
pub fn site(state: ApiState) -> Site {
    let state = Arc::new(state);
    let others = MapRequest::new(router(&state), without_trailing_slash);
    Site::new("public", Router::new().fallback_service(others))
        .with_fast_path(hardware::ListFastPath::new(state))
}

fn router(state: &Arc<ApiState>) -> Router {
    let (reading, reading_description) = reading_routes().split_for_parts();
    let (writing, writing_description) = writing_routes().split_for_parts();
    let (list, list_description) = list_routes().split_for_parts();
    let description =
        list_description.merge_from(reading_description).merge_from(writing_description);
    let mcp = Router::new();
    #[cfg(feature = "mcp")]
    let mcp = mcp.merge(mcp::routes(state, &description));
    let document = Bytes::from(description::write(&description));
    reading
        // Before the layer, which answers a method that no route takes: that of a preflight.
        .method_not_allowed_fallback(refuse_method)
        .layer(readable_by_other_sites())
        .merge(writing)
        .merge(list)
        .merge(mcp)
        // Flask redirected so, and clients of the original may rely on it.
        .route("/hardware", get(async || Redirect::permanent("/hardware/")))
        .route(
            "/openapi.json",
            get(async move |_: query::NoParameters| {
                ([(header::CONTENT_TYPE, "application/json")], document.clone())
            }),
        )
        .fallback(async |uri: Uri| Refusal::not_found(uri.path()))
        .method_not_allowed_fallback(refuse_method)
        .layer(ObserveRequests::default())
        .with_state(Arc::clone(state))
}

/// How many slashes were at the end of the path that was asked for: references are relative to it.
#[derive(Clone, Copy, Debug)]
struct TrimmedSlashes(usize);

/// A slash at the end never matters.
fn without_trailing_slash(mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() || trimmed.len() == path.len() || path == hardware::PATH {
        return request;
    }
    let slashes = TrimmedSlashes(path.len() - trimmed.len());
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    // What was a path is one without its end.
    if let Ok(trimmed) = format!("{trimmed}{query}").parse() {
        *request.uri_mut() = trimmed;
        request.extensions_mut().insert(slashes);
    }
    request
}

async fn refuse_method(method: Method, uri: Uri) -> Refusal {
    let detail = format!("{} does not take {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

fn list_routes() -> OpenApiRouter<Arc<ApiState>> {
    let info = Info::builder()
        .title("Gill Hicks hardware")
        .description(Some("How likely hardware can be had."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = ComponentsBuilder::new().security_scheme("bearer", token).build();
    let api = OpenApiBuilder::new().info(info).components(Some(components)).build();
    OpenApiRouter::with_openapi(api).routes(routes!(hardware::list_hardware))
}

fn reading_routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(availability::list_availability))
        .routes(routes!(check::check))
        .routes(routes!(check::pick))
        .routes(routes!(pool::show_pool))
        .routes(routes!(pool::show_history))
        .routes(routes!(sources::list_sources))
        .routes(routes!(sources::show_quality))
        .routes(routes!(badge::show_badge))
        .routes(routes!(feed::show_feed))
}

fn writing_routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new()
        .routes(routes!(observations::add_observations))
        .routes(routes!(attempts::add_attempts))
}

/// Pages of other sites may read what can be had, and see when it was confirmed.
fn readable_by_other_sites() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::ACCEPT, header::CONTENT_TYPE, header::IF_NONE_MATCH])
        .expose_headers([header::AGE, header::ETAG, header::LINK, FRESHNESS.clone()])
        .max_age(Duration::from_hours(24))
}

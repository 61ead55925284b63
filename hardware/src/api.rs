//! The public HTTP API.

mod access;
mod hardware;
mod ingest_queue;
mod observations;
mod problem;
mod query;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode, Uri},
    response::Redirect,
    routing::get,
};
use http::{HeaderValue, header};
use service_kit::{Clock, Lifecycle, observe::ObserveRequests};
use tokio::sync::Notify;
use utoipa::openapi::{
    ComponentsBuilder, Info, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{access::Tokens, ingest_queue::IngestQueue, problem::Refusal};
use crate::{
    metrics::{IngestMetrics, RouteMetrics},
    snapshot::Published,
    store::Db,
};

/// What requests work with.
pub struct ApiState {
    /// The list to answer with.
    pub published: Arc<Published>,
    /// `Cache-Control` of the list.
    pub cache_control: HeaderValue,
    /// Where observations go.
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
    /// Lets work outlive its request.
    pub lifecycle: Lifecycle,
    /// Counts observations.
    pub ingest_metrics: IngestMetrics,
    /// Counts requests for the list.
    pub list_metrics: RouteMetrics,
}

/// All public routes.
///
/// The list is observed by instruments of its own, which are found without a look-up, and not by the
/// layer. It is a route like the others, for its description and for methods that it does not take,
/// but [`hardware::ListFirst`] answers it before a route is looked for.
pub fn router(state: ApiState) -> Router {
    let state = Arc::new(state);
    let (observed, description) = observed_routes().split_for_parts();
    let (list, list_description) = list_routes().split_for_parts();
    let description = list_description.merge_from(description);
    let document = Bytes::from(description.to_json().unwrap_or_default());
    let others = observed
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
        .merge(list.method_not_allowed_fallback(refuse_method))
        .with_state(Arc::clone(&state));
    Router::new().fallback_service(hardware::ListFirst { state, others })
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

fn observed_routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(observations::add_observations))
}

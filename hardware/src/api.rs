//! The public HTTP API.

mod hardware;
mod observations;
mod problem;
mod query;

use std::sync::Arc;

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    response::Redirect,
    routing::get,
};
use http::{HeaderValue, header};
use secrecy::SecretString;
use service_kit::{Lifecycle, observe::ObserveRequests};
use tokio::sync::{Notify, watch};
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::problem::Refusal;
use crate::{metrics::IngestMetrics, snapshot::Published, store::Db};

/// What requests work with.
#[derive(Clone)]
pub struct ApiState {
    /// The list to answer with.
    pub published: Arc<Published>,
    /// `Cache-Control` of the list.
    pub cache_control: HeaderValue,
    /// Where observations go.
    pub db: Arc<Db>,
    /// Wakes the refresh.
    pub wake: Arc<Notify>,
    /// The token of `POST /v1/observations`, unless that route is closed.
    pub token: Option<watch::Receiver<Arc<SecretString>>>,
    /// Lets work outlive its request.
    pub lifecycle: Lifecycle,
    /// Counts observations.
    pub metrics: IngestMetrics,
}

/// All public routes.
pub fn router(state: ApiState) -> Router {
    let (router, api) = documented().split_for_parts();
    let document = axum::body::Bytes::from(api.to_json().unwrap_or_default());
    router
        // Flask redirected so, and clients of the original may rely on it.
        .route("/hardware", get(async || Redirect::permanent("/hardware/")))
        .route(
            "/openapi.json",
            get(async move |_: query::NoParameters| {
                ([(header::CONTENT_TYPE, "application/json")], document.clone())
            }),
        )
        .fallback(async |uri: Uri| Refusal::not_found(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("{} does not take {method}", uri.path()),
            )
        })
        .layer(ObserveRequests::default())
        .with_state(state)
}

/// The description of the API, as `GET /openapi.json` answers it.
#[must_use]
pub fn openapi() -> OpenApi {
    documented().into_openapi()
}

fn documented() -> OpenApiRouter<ApiState> {
    let info = Info::builder()
        .title("Gill Hicks hardware")
        .description(Some("How likely hardware can be had."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build())
        .routes(routes!(hardware::list_hardware))
        .routes(routes!(observations::add_observations))
}

//! `GET /v1/sources` and `GET /v1/quality`: who reports, and what came of what was said.

use std::sync::Arc;

use availability::SourceKind;
use axum::{extract::State, response::Response};
use hardware_api::{Problem, Quality, SourceList};
use http::HeaderMap;

use super::{
    ApiState, Refusal,
    answer::{respond, run_blocking, starting, to_json},
    query::NoParameters,
};
use crate::{
    pools::time,
    quality::{self, QUALITY_DAYS},
};

/// List who reports
#[utoipa::path(
    get,
    path = "/v1/sources",
    tag = "availability",
    responses(
        (status = OK, body = SourceList, description = "The sources, by name"),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn list_sources(
    State(state): State<Arc<ApiState>>,
    _: NoParameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let at = state.pools.as_of().ok_or_else(starting)?;
    let pools = state.pools.clone();
    let items = run_blocking(move || pools.read().sources(at)).await?;
    let list = SourceList { as_of: time(at).ok_or_else(starting)?, items };
    Ok(respond(&state, &headers, "application/json", to_json(&list)))
}

/// Show how forecasts compare with outcomes
///
/// Samples of what was said are compared with what came once their hour has passed: by tenth of the
/// probability before and after the correction by what was learned, and by level.
#[utoipa::path(
    get,
    path = "/v1/quality",
    tag = "availability",
    responses(
        (status = OK, body = Quality, description = "Forecasts and what came of them"),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn show_quality(
    State(state): State<Arc<ApiState>>,
    _: NoParameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let as_of = state.pools.as_of().and_then(time).ok_or_else(starting)?;
    let rows = state.pools.quality();
    let kinds = SourceKind::ALL.iter().rev().filter_map(|kind| quality::summarize(*kind, &rows));
    let quality = Quality { as_of, days: QUALITY_DAYS, kinds: kinds.collect() };
    Ok(respond(&state, &headers, "application/json", to_json(&quality)))
}

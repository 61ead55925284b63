//! `POST /v1/check` and `POST /v1/pick`: what is said of each item, and the first that can be had.

use std::{collections::HashMap, sync::Arc};

use availability::{Reason, Wanted};
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use hardware_api::{
    Availability, CheckAnswer, CheckRequest, Checked, NonePicked, PROBLEM_MEDIA_TYPE, PickRequest,
    Picked, Problem, Want,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use super::{
    ApiState, Refusal,
    answer::{as_of, find_view, run_blocking},
    fields::{Object, read_json, refuse_unknown, take_level, take_list, take_units, wrong_field},
    ingest_queue::Turn,
    query::NoParameters,
};
use crate::pools::{Found, Wish, reason};

/// Items of one check, and preferences of one pick.
const MAX_ITEMS: usize = 1000;

const MAX_PREFERENCES: usize = 100;

/// Say of each item how likely so many units can be had
///
/// Each item is answered by itself: one that cannot be understood has a `problem`, and the others their
/// levels.
#[utoipa::path(
    post,
    path = "/v1/check",
    tag = "availability",
    request_body(content = CheckRequest, example = json!({
        "units": 4, "items": [{"provider": "aws", "name": "c5.large", "region": "us-east-1"}],
    })),
    responses(
        (status = OK, body = CheckAnswer, description = "What is said of each item"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`invalid_json`, `invalid_field`, `invalid_body`, `unknown_parameter`"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json",
            description = "`body_too_slow`"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json",
            description = "`body_too_large`: more than 1 MiB"),
        (status = UNSUPPORTED_MEDIA_TYPE, body = Problem, content_type = "application/problem+json",
            description = "`unsupported_encoding`: a Content-Encoding other than gzip and identity"),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "`too_many_checks`: many checks and picks wait already; try again"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn check(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    _: NoParameters,
    body: Body,
) -> Result<Json<CheckAnswer>, Refusal> {
    let request = read_json(&headers, body).await?;
    Ok(Json(answer_check(&state, request).await?))
}

/// What is said of each item of a [`CheckRequest`].
pub(super) async fn answer_check(
    state: &ApiState,
    mut request: Object,
) -> Result<CheckAnswer, Refusal> {
    let units = take_units(&mut request, "units", Wanted::ONE)?;
    let items = take_list(&mut request, "items", MAX_ITEMS)?;
    refuse_unknown(&request, &["items", "units"])?;
    let view = find_view(state, Wanted::ONE).await?;
    let wishes: Vec<Result<(Wish, Wanted), Refusal>> = (0..)
        .zip(&items)
        .map(|(index, item): (u32, _)| read_want(item, &format!("items[{index}]"), units))
        .collect();
    let turn = wait_to_check(state).await?;
    let (pools, checked_in) = (state.pools.clone(), Arc::clone(&view));
    let items: Vec<Checked> = run_blocking(move || {
        let _turn = turn;
        let mut known: HashMap<(Wish, Wanted), Checked> = HashMap::new();
        let answers = wishes.into_iter().map(|wish| match wish {
            Ok((wish, wanted)) => known
                .entry((wish, wanted))
                .or_insert_with_key(|(wish, wanted)| {
                    checked(pools.read().find(&checked_in, wish, *wanted))
                })
                .clone(),
            Err(refusal) => Checked {
                problem: Some(refusal.into_problem()),
                reasons: Vec::new(),
                ..checked(Found::default())
            },
        });
        answers.collect()
    })
    .await?;
    let level = items.iter().map(|item| item.level).min().unwrap_or(Availability::Unknown);
    Ok(CheckAnswer { as_of: as_of(&view)?, level, items })
}

/// Pick the first preference that can be had
///
/// Made for scripts: 200 with the pool to take, or 409 if nothing will do.
#[utoipa::path(
    post,
    path = "/v1/pick",
    tag = "availability",
    request_body(content = PickRequest, example = json!({
        "units": 4, "min_level": "HIGH",
        "preferences": [{"provider": "aws", "name": "p4d"}, {"provider": "azure", "name": "ND96asr_v4"}],
    })),
    responses(
        (status = OK, body = Picked, description = "The pool to take"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`invalid_json`, `invalid_field`, `invalid_body`, `unknown_parameter`"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json",
            description = "`body_too_slow`"),
        (status = CONFLICT, body = NonePicked, content_type = "application/problem+json",
            description = "`none_available`: no preference has the least level; `preferences` says why"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json",
            description = "`body_too_large`: more than 1 MiB"),
        (status = UNSUPPORTED_MEDIA_TYPE, body = Problem, content_type = "application/problem+json",
            description = "`unsupported_encoding`: a Content-Encoding other than gzip and identity"),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "`too_many_checks`: many checks and picks wait already; try again"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn pick(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    _: NoParameters,
    body: Body,
) -> Result<Response, Refusal> {
    let request = read_json(&headers, body).await?;
    match answer_pick(&state, request).await? {
        PickAnswer::Picked(picked) => Ok(Json(picked).into_response()),
        PickAnswer::NonePicked(none) => {
            let mut response = (StatusCode::CONFLICT, Json(none)).into_response();
            let media_type = HeaderValue::from_static(PROBLEM_MEDIA_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            Ok(response)
        }
    }
}

/// What comes of a [`PickRequest`].
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum PickAnswer {
    /// The first preference that can be had.
    Picked(Picked),
    /// None can be had.
    NonePicked(NonePicked),
}

/// The first preference of a [`PickRequest`] that can be had.
pub(super) async fn answer_pick(
    state: &ApiState,
    mut request: Object,
) -> Result<PickAnswer, Refusal> {
    let units = take_units(&mut request, "units", Wanted::ONE)?;
    let least = take_level(&mut request)?;
    let preferences = take_list(&mut request, "preferences", MAX_PREFERENCES)?;
    refuse_unknown(&request, &["preferences", "units", "min_level"])?;
    // A mistake in the last one is as wrong when the first can be had.
    let preferences: Vec<(Wish, Wanted)> = (0..)
        .zip(preferences)
        .map(|(index, item): (u32, _)| read_want(&item, &format!("preferences[{index}]"), units))
        .collect::<Result<_, _>>()?;
    let view = find_view(state, Wanted::ONE).await?;
    let turn = wait_to_check(state).await?;
    let (pools, checked_in) = (state.pools.clone(), Arc::clone(&view));
    let picked = run_blocking(move || {
        let _turn = turn;
        let mut passed = Vec::with_capacity(preferences.len());
        for (place, (wish, wanted)) in (0_u32..).zip(&preferences) {
            let found = checked(pools.read().find(&checked_in, wish, *wanted));
            match found.pool {
                Some(pool) if found.level >= least => return Ok((place, pool)),
                _ => passed.push(found),
            }
        }
        Err(passed)
    });
    match picked.await? {
        Ok((preference, pool)) => {
            Ok(PickAnswer::Picked(Picked { as_of: as_of(&view)?, preference, pool }))
        }
        Err(preferences) => {
            let detail = format!("none of {} preferences is {least} or better", preferences.len());
            let refusal = Refusal::new(StatusCode::CONFLICT, "none_available", detail);
            let problem = refusal.into_problem();
            Ok(PickAnswer::NonePicked(NonePicked { problem, preferences }))
        }
    }
}

async fn wait_to_check(state: &ApiState) -> Result<Turn, Refusal> {
    let detail = "many checks and picks wait already; try again";
    let turn = state.checks.wait().await;
    turn.map_err(|_| Refusal::too_many("too_many_checks", detail))
}

/// What one item asks for.
fn read_want(item: &Value, field: &str, units: Wanted) -> Result<(Wish, Wanted), Refusal> {
    let expected = "an object with provider, name, and if need be region, zone, tier, unit, units";
    let mut names = item.clone();
    let wanted = match names.as_object_mut() {
        Some(members) => take_units(members, &format!("{field}.units"), units)?,
        None => units,
    };
    let want: Want = serde_json::from_value(names).map_err(|error| {
        let detail = format!("{field}: {error}, expected {expected}");
        wrong_field(field, item, expected).saying(detail)
    })?;
    for (name, text) in [("provider", &want.provider), ("name", &want.name)] {
        if text.trim().is_empty() {
            let found = Value::from(text.as_str());
            return Err(wrong_field(&format!("{field}.{name}"), &found, "a name"));
        }
    }
    Ok((Wish::from(&want), wanted))
}

fn checked(found: Found) -> Checked {
    let Found { best, matching, high } = found;
    let reasons = match &best {
        Some(pool) => pool.reasons.clone(),
        None => vec![reason(Reason::NoData)],
    };
    let level = best.as_ref().map_or(Availability::Unknown, |pool| pool.level);
    Checked { level, matching, high, pool: best, reasons, problem: None }
}

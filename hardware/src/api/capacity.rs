//! What can be had, for any number of units: from memory, but for history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use availability::{Level, Reason, Segment, SourceKind, Timestamp, Wanted};
use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::{
    Availability, AvailabilityPage, CheckAnswer, CheckRequest, Checked, History, HistorySegment,
    NonePicked, PROBLEM_MEDIA_TYPE, PickRequest, Picked, PoolDetail, Problem, Quality,
    SourceHistory, SourceList, Want,
    filter::{Field, Filter, FilterError, MAX_VALUES, Pattern, Term},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{task::spawn_blocking, time::timeout};
use tracing::{error, warn};

use super::{
    ApiState, Refusal,
    hardware::{FRESHNESS, matches_tag},
    observations::read_body,
    parameters::{Parameters, invalid},
    query::NoParameters,
    tables::{Format, to_csv, to_markdown},
};
use crate::{
    pools::{Found, Search, Sort, View, Wish, reason, time},
    quality,
    refresh::QUALITY_DAYS,
};

/// The most units that can be asked for: as many as a pool may have.
const MAX_UNITS: u32 = 2_147_483_647;

/// Rows on a page unless `limit` says otherwise, and at most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

/// Items of one check, and preferences of one pick.
const MAX_ITEMS: usize = 1000;
const MAX_PREFERENCES: usize = 100;

/// Room for a full check with every field set.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How far back a history goes unless `from` says otherwise.
const DEFAULT_HISTORY: TimeDelta = TimeDelta::days(30);

/// How much of it one answer has at most.
const MOST_HISTORY: TimeDelta = TimeDelta::days(31);

/// How long the database may take for it.
const HISTORY_TIME: Duration = Duration::from_secs(5);

/// The parameters that are fields of the filter.
const FIELD_PARAMETERS: [(&str, Field); 6] = [
    ("provider", Field::Provider),
    ("name", Field::Name),
    ("region", Field::Region),
    ("zone", Field::Zone),
    ("tier", Field::Tier),
    ("level", Field::Level),
];

const LIST_PARAMETERS: [&str; 12] = [
    "q", "provider", "name", "region", "zone", "tier", "units", "level", "sort", "cursor", "limit",
    "format",
];

/// List pools with how likely so many units can be had
///
/// Answered from memory, of the latest tick (`as_of`). The next page is at `next`, relative to this one;
/// it begins after the last row of this page also where rows have come or gone meanwhile.
#[utoipa::path(
    get,
    path = "/v1/availability",
    tag = "availability",
    params(
        ("q" = Option<String>, Query, description = "A filter: words, and `field:value` with the fields \
            provider, name, region, zone, tier, unit, source and level; `*` stands for any characters, `,` \
            separates values of which one must match, `-` before a term leaves out what matches it",
            example = "provider:aws region:us-* -level:low"),
        ("provider" = Option<String>, Query, description = "As `provider:` in `q`", example = "aws"),
        ("name" = Option<String>, Query, description = "As `name:` in `q`", example = "c5.*"),
        ("region" = Option<String>, Query, description = "As `region:` in `q`"),
        ("zone" = Option<String>, Query, description = "As `zone:` in `q`"),
        ("tier" = Option<String>, Query, description = "As `tier:` in `q`"),
        ("level" = Option<String>, Query, description = "As `level:` in `q`", example = "HIGH,MEDIUM"),
        ("units" = Option<u32>, Query, description = "How many at once; 1 if it is missing",
            minimum = 1, maximum = 2_147_483_647),
        ("sort" = Option<String>, Query, description = "`level` (the best first), `name`, `free`, `total` \
            (the most first) or `observed_at` (the latest first); `-` before it turns it around"),
        ("cursor" = Option<String>, Query, description = "From the `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Rows on a page; 50 if it is missing",
            minimum = 1, maximum = 1000),
        ("format" = Option<String>, Query, description = "`json`, `csv` or `markdown`; else as Accept says"),
    ),
    responses(
        (status = OK, body = AvailabilityPage, headers(
            ("ETag" = String, description = "Changes with the page"),
            ("Link" = String, description = "The next page, relative to this one"),
        )),
        (status = NOT_MODIFIED, description = "The page still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_filter`, `invalid_cursor`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn list_availability(
    State(state): State<Arc<ApiState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(&uri, &LIST_PARAMETERS)?;
    let format = Format::choose(parameters.get("format"), &headers)?;
    let filter = read_filter(&parameters)?;
    let wanted = read_units(&parameters)?;
    let sort = parameters.get("sort").unwrap_or("level");
    let sort = Sort::from_word(sort)
        .ok_or_else(|| invalid("sort", sort, "one of the known orders").allowing(Sort::WORDS))?;
    let limit = parameters.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let search = Search::new(filter, sort, parameters.get("cursor"), limit).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_cursor", error.to_string()).about(
            "cursor".to_owned(),
            parameters.get("cursor").unwrap_or_default().to_owned(),
            "the cursor in the next of the page before".to_owned(),
        )
    })?;
    let view = find_view(&state, wanted).await?;
    let (pools, searched) = (state.pools.clone(), Arc::clone(&view));
    let (items, next) = run_aside(move || {
        let pools = pools.read();
        let page = search.run(&pools, &searched);
        let items = page.rows.iter().filter_map(|row| pools.answer(&searched, *row, wanted));
        let items: Vec<_> = items.filter(|item| search.allows(item.level)).collect();
        (items, page.next)
    })
    .await?;
    let next = next.map(|cursor| parameters.with("cursor", &cursor));
    let (media_type, body) = match format {
        Format::Json => {
            let units = wanted.get();
            let page = AvailabilityPage { as_of: as_of(&view)?, units, items, next: next.clone() };
            ("application/json", to_json(&page))
        }
        Format::Csv => {
            let table = to_csv(&items).map_err(|error| internal(&error))?;
            ("text/csv; charset=utf-8; header=present", table)
        }
        Format::Markdown => ("text/markdown; charset=utf-8", to_markdown(&items).into_bytes()),
    };
    let mut response = respond(&state, &headers, media_type, body);
    let link = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

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
        (status = OK, body = CheckAnswer),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`invalid_json`, `invalid_field`, `unknown_parameter`"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json",
            description = "`body_too_slow`"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json",
            description = "`body_too_large`: more than 1 MiB"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn check(
    State(state): State<Arc<ApiState>>,
    _: NoParameters,
    body: Body,
) -> Result<Json<CheckAnswer>, Refusal> {
    let mut request: serde_json::Map<String, Value> = read_json(body).await?;
    let units = take_units(&mut request)?;
    let items = take_list(&mut request, "items", MAX_ITEMS)?;
    refuse_unknown(&request, &["items", "units"])?;
    let view = find_view(&state, Wanted::ONE).await?;
    let wishes: Vec<Result<(Wish, Wanted), Refusal>> = (0..)
        .zip(&items)
        .map(|(index, item): (u32, _)| read_want(item, &format!("items[{index}]"), units))
        .collect();
    let _turn = state.checks.acquire().await.map_err(|error| internal(&error))?;
    let (pools, checked_in) = (state.pools.clone(), Arc::clone(&view));
    let items: Vec<Checked> = run_aside(move || {
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
    Ok(Json(CheckAnswer { as_of: as_of(&view)?, level, items }))
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
        (status = OK, body = Picked),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`invalid_json`, `invalid_field`, `unknown_parameter`"),
        (status = REQUEST_TIMEOUT, body = Problem, content_type = "application/problem+json",
            description = "`body_too_slow`"),
        (status = CONFLICT, body = NonePicked, content_type = "application/problem+json",
            description = "`none_available`: no preference has the least level; `preferences` says why"),
        (status = PAYLOAD_TOO_LARGE, body = Problem, content_type = "application/problem+json",
            description = "`body_too_large`: more than 1 MiB"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn pick(
    State(state): State<Arc<ApiState>>,
    _: NoParameters,
    body: Body,
) -> Result<Response, Refusal> {
    let mut request: serde_json::Map<String, Value> = read_json(body).await?;
    let units = take_units(&mut request)?;
    let least = take_level(&mut request)?;
    let preferences = take_list(&mut request, "preferences", MAX_PREFERENCES)?;
    refuse_unknown(&request, &["preferences", "units", "min_level"])?;
    // A mistake in the last one is as wrong when the first can be had.
    let preferences: Vec<(Wish, Wanted)> = (0..)
        .zip(preferences)
        .map(|(index, item): (u32, _)| read_want(&item, &format!("preferences[{index}]"), units))
        .collect::<Result<_, _>>()?;
    let view = find_view(&state, Wanted::ONE).await?;
    let mut passed = Vec::with_capacity(preferences.len());
    for (preference, (wish, wanted)) in (0..).zip(&preferences) {
        let found = checked(state.pools.read().find(&view, wish, *wanted));
        match found.pool {
            Some(pool) if found.level >= least => {
                return Ok(Json(Picked { as_of: as_of(&view)?, preference, pool }).into_response());
            }
            _ => passed.push(found),
        }
    }
    let detail = format!("none of {} preferences is {least} or better", passed.len());
    let problem = Refusal::new(StatusCode::CONFLICT, "none_available", detail).into_problem();
    let mut response =
        (StatusCode::CONFLICT, Json(NonePicked { problem, preferences: passed })).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
    Ok(response)
}

/// Show everything that is known of a pool
#[utoipa::path(
    get,
    path = "/v1/pools/{id}",
    tag = "availability",
    params(
        ("id" = String, Path, description = "The `id` of a pool: 16 hexadecimal digits"),
        ("units" = Option<u32>, Query, description = "How many at once; 1 if it is missing",
            minimum = 1, maximum = 2_147_483_647),
    ),
    responses(
        (status = OK, body = PoolDetail),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json",
            description = "`unknown_pool`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn show_pool(
    State(state): State<Arc<ApiState>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(&uri, &["units"])?;
    let wanted = read_units(&parameters)?;
    let Path(id) = id.map_err(|error| unreadable_path(&error))?;
    let number = read_id(&id)?;
    let view = find_view(&state, Wanted::ONE).await?;
    let detail = state.pools.read().detail(&view, number, wanted);
    let detail: PoolDetail = detail.ok_or_else(|| unknown_pool(&id))?;
    Ok(respond(&state, &headers, "application/json", to_json(&detail)))
}

/// Show what was seen of a pool
///
/// From the database: 503 while it is away, when all other routes go on.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}/history",
    tag = "availability",
    params(
        ("id" = String, Path, description = "The `id` of a pool: 16 hexadecimal digits"),
        ("from" = Option<DateTime<Utc>>, Query, description = "30 days before `to` if it is missing"),
        ("to" = Option<DateTime<Utc>>, Query, description = "Now if it is missing"),
    ),
    responses(
        (status = OK, body = History),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`"),
        (status = NOT_FOUND, body = Problem, content_type = "application/problem+json",
            description = "`unknown_pool`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`, or `database_unavailable`: try again"),
    )
)]
pub(super) async fn show_history(
    State(state): State<Arc<ApiState>>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(&uri, &["from", "to"])?;
    let Path(id) = id.map_err(|error| unreadable_path(&error))?;
    let number = read_id(&id)?;
    let to = read_time(&parameters, "to")?.unwrap_or_else(|| state.clock.now());
    let from = read_time(&parameters, "from")?.unwrap_or(to - DEFAULT_HISTORY);
    if from > to || to - from > MOST_HISTORY {
        let expected = format!("a time at most {} days before to", MOST_HISTORY.num_days());
        return Err(invalid("from", &from.to_rfc3339(), &expected));
    }
    let view = find_view(&state, Wanted::ONE).await?;
    let pools = state.pools.read().pools_with_id(&view, number);
    let mut pools = pools.ok_or_else(|| unknown_pool(&id))?;
    pools.sort_by(|(_, one), (_, other)| one.cmp(other));
    let ids: Vec<i32> = pools.iter().map(|(id, _)| *id).collect();
    let since = Timestamp::from_millis(from.timestamp_millis());
    let _turn = state.histories.acquire().await.map_err(|error| internal(&error))?;
    let read = timeout(HISTORY_TIME, state.db.list_histories(&ids, since)).await;
    let error = match read {
        Ok(Ok(histories)) => {
            return Ok(answer_history(&state, &headers, id, (from, to), pools, &histories));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {HISTORY_TIME:?}"),
    };
    warn!(error, "failed to read history");
    let detail = "history is read from the database, which did not answer; try again. Lists, checks and \
                  picks go on without it";
    Err(Refusal::unavailable("database_unavailable", detail))
}

fn answer_history(
    state: &ApiState,
    headers: &HeaderMap,
    id: String,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    pools: Vec<(i32, String)>,
    histories: &BTreeMap<i32, Vec<Segment>>,
) -> Response {
    let of_pool = |id| histories.get(&id).map(Vec::as_slice).unwrap_or_default();
    let sources = pools.into_iter().map(|(id, source)| {
        let segments = of_pool(id).iter().filter_map(|it| to_history(it, from, to)).collect();
        SourceHistory { source, segments }
    });
    let history = History { id, from, to, sources: sources.collect() };
    let mut response = respond(state, headers, "application/json", to_json(&history));
    // It was read just now.
    response.headers_mut().insert(header::AGE, HeaderValue::from_static("0"));
    response
}

/// List who reports
#[utoipa::path(
    get,
    path = "/v1/sources",
    tag = "availability",
    responses(
        (status = OK, body = SourceList),
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
    let items = state.pools.read().sources(at);
    let list = SourceList { as_of: time(at).ok_or_else(starting)?, items };
    Ok(respond(&state, &headers, "application/json", to_json(&list)))
}

/// Compare what was said with what came
///
/// Samples of what was said are compared with what came once their hour has passed: by tenth of the
/// probability before and after the correction by what was learned, and by level.
#[utoipa::path(
    get,
    path = "/v1/quality",
    tag = "availability",
    responses(
        (status = OK, body = Quality),
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
    let days = u32::try_from(QUALITY_DAYS).unwrap_or(u32::MAX);
    let quality = Quality { as_of, days, kinds: kinds.collect() };
    Ok(respond(&state, &headers, "application/json", to_json(&quality)))
}

fn read_filter(parameters: &Parameters) -> Result<Filter, Refusal> {
    let q = parameters.get("q").unwrap_or_default();
    let mut filter: Filter = q.parse().map_err(|error: FilterError| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_filter", error.to_string()).about(
            "q".to_owned(),
            error.found.clone(),
            error.expected.to_owned(),
        )
    })?;
    for (name, field) in FIELD_PARAMETERS {
        let Some(given) = parameters.get(name) else { continue };
        if given.contains('"') {
            let quoted: Filter = format!("{name}:{given}")
                .parse()
                .map_err(|error: FilterError| invalid(name, given, error.expected))?;
            filter.terms.extend(quoted.terms);
            continue;
        }
        let values: Vec<&str> = given.split(',').map(str::trim).collect();
        if values.len() > MAX_VALUES {
            return Err(invalid(name, given, &format!("at most {MAX_VALUES} values")));
        }
        let is_level =
            |value: &&str| Level::ALL.iter().any(|it| value.eq_ignore_ascii_case(it.as_str()));
        if field == Field::Level && !values.iter().all(is_level) {
            let allowed = Level::ALL.map(Level::as_str);
            return Err(invalid(name, given, "levels, separated by commas").allowing(allowed));
        }
        let values = values.into_iter().map(Pattern::with_stars).collect();
        filter.terms.push(Term { is_negated: false, field: Some(field), values });
    }
    Ok(filter)
}

pub(super) fn read_units(parameters: &Parameters) -> Result<Wanted, Refusal> {
    let units = parameters.number("units", 1..=MAX_UNITS, 1)?;
    Ok(Wanted::new(units).unwrap_or(Wanted::ONE))
}

fn read_id(id: &str) -> Result<u64, Refusal> {
    let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(id, 16).ok().filter(|_| is_id);
    number.ok_or_else(|| unknown_pool(id))
}

/// A path that is not text.
pub(super) fn unreadable_path(error: &PathRejection) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_path", error.body_text())
}

fn unknown_pool(id: &str) -> Refusal {
    let detail =
        format!("there is no pool {id:?} now; /v1/availability lists those that there are");
    Refusal::new(StatusCode::NOT_FOUND, "unknown_pool", detail)
}

fn read_time(
    parameters: &Parameters,
    name: &'static str,
) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    // Far enough from both ends of the calendar for 30 days more.
    let years =
        DateTime::UNIX_EPOCH..DateTime::from_timestamp(253_402_300_799, 0).unwrap_or_default();
    let time = time.filter(|time| years.contains(time));
    time.map(Some).ok_or_else(|| invalid(name, text, "a time such as 2026-01-31T12:00:00Z"))
}

async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = read_body(body, MAX_BODY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body: {error}"))
    })
}

fn wrong_field(field: &str, found: &Value, expected: &str) -> Refusal {
    let found = match found.to_string() {
        long if long.len() > 100 => format!("{}…", long.chars().take(100).collect::<String>()),
        short => short,
    };
    let detail = format!("{field}: found {found}, expected {expected}");
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_field", detail).about(
        field.to_owned(),
        found,
        expected.to_owned(),
    )
}

type Object = serde_json::Map<String, Value>;

fn take_units(request: &mut Object) -> Result<Wanted, Refusal> {
    match request.remove("units") {
        None | Some(Value::Null) => Ok(Wanted::ONE),
        Some(found) => units_of(&found, "units"),
    }
}

fn units_of(found: &Value, field: &str) -> Result<Wanted, Refusal> {
    // 4.0 is a whole number in JSON.
    let number = found
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (1.0..=f64::from(MAX_UNITS)).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within bounds"
    )]
    let wanted = number.and_then(|number| Wanted::new(number as u32));
    let expected = format!("a whole number from 1 to {MAX_UNITS}");
    wanted.ok_or_else(|| wrong_field(field, found, &expected))
}

fn take_level(request: &mut Object) -> Result<Availability, Refusal> {
    let Some(found) = request.remove("min_level").filter(|found| !found.is_null()) else {
        return Ok(Availability::High);
    };
    serde_json::from_value(found.clone()).map_err(|_| {
        let allowed = Availability::ALL.map(Availability::as_str);
        wrong_field("min_level", &found, "a level").allowing(allowed)
    })
}

fn take_list(request: &mut Object, field: &str, most: usize) -> Result<Vec<Value>, Refusal> {
    let expected = format!("a list of 1 to {most}");
    match request.remove(field) {
        Some(Value::Array(items)) if (1..=most).contains(&items.len()) => Ok(items),
        Some(Value::Array(items)) => {
            Err(wrong_field(field, &format!("{} of them", items.len()).into(), &expected))
        }
        found => Err(wrong_field(field, &found.unwrap_or_default(), &expected)),
    }
}

fn refuse_unknown(request: &Object, known: &[&str]) -> Result<(), Refusal> {
    match request.iter().next() {
        None => Ok(()),
        Some((field, found)) => {
            Err(wrong_field(field, found, "no such field").allowing(known.iter().copied()))
        }
    }
}

/// What one item asks for.
fn read_want(item: &Value, field: &str, units: Wanted) -> Result<(Wish, Wanted), Refusal> {
    let expected = "an object with provider, name, and if need be region, zone, tier, unit, units";
    let want: Want = serde_json::from_value(item.clone()).map_err(|error| {
        let detail = format!("{field}: {error}, expected {expected}");
        wrong_field(field, item, expected).saying(detail)
    })?;
    for (name, text) in [("provider", &want.provider), ("name", &want.name)] {
        if text.trim().is_empty() {
            let found = Value::from(text.as_str());
            return Err(wrong_field(&format!("{field}.{name}"), &found, "a name"));
        }
    }
    let wanted = match want.units {
        Some(number) => units_of(&number.into(), &format!("{field}.units"))?,
        None => units,
    };
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

/// The part of a segment that lies between two times.
fn to_history(segment: &Segment, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<HistorySegment> {
    let (started, last_seen) = (time(segment.started)?, time(segment.last_seen)?);
    if last_seen < from || started > to {
        return None;
    }
    Some(HistorySegment {
        started: started.max(from),
        last_seen: last_seen.min(to),
        total: segment.observation.total().map(availability::Units::get),
        free: segment.observation.free().map(availability::Units::get),
        available: segment.observation.is_free(Wanted::ONE).unwrap_or(false),
    })
}

/// The view of the latest tick. One that nobody asked for lately is made, one at a time.
pub(super) async fn find_view(state: &ApiState, wanted: Wanted) -> Result<Arc<View>, Refusal> {
    if let Some(view) = state.pools.view(wanted) {
        return Ok(view);
    }
    let Ok(_place) = state.views.places.try_acquire() else {
        let detail = "many other numbers of units are asked for at once; try again";
        return Err(Refusal::too_many("too_many_numbers", detail));
    };
    let _turn = state.views.turn.acquire().await.map_err(|error| internal(&error))?;
    let pools = state.pools.clone();
    run_aside(move || pools.make_view(wanted)).await?.ok_or_else(starting)
}

/// Runs what may take milliseconds where no other request waits for it.
async fn run_aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    spawn_blocking(work).await.map_err(|error| internal(&error))
}

fn starting() -> Refusal {
    Refusal::unavailable("starting", "nothing has been read from the database yet")
}

fn as_of(view: &View) -> Result<DateTime<Utc>, Refusal> {
    time(view.as_of).ok_or_else(starting)
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    error!(%error, "failed to answer");
    let detail = "the answer could not be made; the log says why";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

/// An answer from memory, with a tag and with its age.
pub(super) fn respond(
    state: &ApiState,
    request: &HeaderMap,
    media_type: &'static str,
    body: Vec<u8>,
) -> Response {
    let digest = Sha256::digest(&body);
    let half = digest.iter().take(16).fold(0_u128, |tag, byte| tag << 8 | u128::from(*byte));
    let etag = HeaderValue::try_from(format!("\"{half:032x}\"")).expect("hexadecimal digits");
    let age = state.published.age();
    let freshness = if state.published.is_stale(age) { "stale" } else { "fresh" };
    let is_known =
        request.get_all(header::IF_NONE_MATCH).iter().any(|tags| matches_tag(tags, &etag));
    let mut response = Response::new(if is_known { Body::empty() } else { Body::from(body) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::AGE, age.as_secs().into());
    headers.insert(header::CACHE_CONTROL, state.cache_control.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(&FRESHNESS, HeaderValue::from_static(freshness));
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    response
}

//! `GET /v1/pools/{id}` and its history.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use availability::{Segment, Timestamp, Wanted};
use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::{History, HistorySegment, PoolDetail, Problem, SourceHistory};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tokio::time::timeout;
use tracing::warn;

use super::{
    ApiState, Refusal,
    answer::{find_view, respond, to_json},
    parameters::{Parameters, invalid, unreadable_path},
};
use crate::{pools::time, snapshot::FRESHNESS};

/// How far back a history goes unless `from` says otherwise.
const DEFAULT_HISTORY: TimeDelta = TimeDelta::days(30);

/// How much of it one answer has at most.
const MOST_HISTORY: TimeDelta = TimeDelta::days(31);

/// How long the database may take for it, with the wait for the one before.
const HISTORY_TIME: Duration = Duration::from_secs(5);

/// Show everything that is known of a pool
#[utoipa::path(
    get,
    path = "/v1/pools/{id}",
    tag = "availability",
    params(
        ("id" = String, Path, description = "The `id` of a pool: 16 hexadecimal digits",
            pattern = "^[0-9a-fA-F]{16}$"),
        ("units" = Option<u32>, Query, description = "How many at once; 1 if it is missing",
            minimum = 1, maximum = 2_147_483_647),
    ),
    responses(
        (status = OK, body = PoolDetail, description = "What is known of the pool"),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_path`"),
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
    let wanted = parameters.units()?;
    let Path(id) = id.map_err(|error| unreadable_path(&error))?;
    let number = read_id(&id)?;
    let view = find_view(&state, Wanted::ONE).await?;
    let detail = state.pools.read().detail(&view, number, wanted);
    let mut detail: PoolDetail = detail.ok_or_else(|| unknown_pool(&id))?;
    // What is deleted from the database stays in memory.
    let oldest = TimeDelta::from_std(state.history_retention).unwrap_or(TimeDelta::MAX);
    detail.attempts.retain(|attempt| detail.as_of - attempt.at <= oldest);
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
        ("id" = String, Path, description = "The `id` of a pool: 16 hexadecimal digits",
            pattern = "^[0-9a-fA-F]{16}$"),
        ("from" = Option<DateTime<Utc>>, Query, description = "30 days before `to` if it is missing"),
        ("to" = Option<DateTime<Utc>>, Query, description = "Now if it is missing"),
    ),
    responses(
        (status = OK, body = History, description = "What each source saw"),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_path`"),
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
    let until = Timestamp::from_millis(to.timestamp_millis());
    let read = timeout(HISTORY_TIME, async {
        let _turn = state.histories.acquire().await;
        state.db.list_histories(&ids, since, until).await
    });
    let error = match read.await {
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
    response.headers_mut().insert(&FRESHNESS, HeaderValue::from_static("fresh"));
    response
}

fn read_id(id: &str) -> Result<u64, Refusal> {
    let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(id, 16).ok().filter(|_| is_id);
    number.ok_or_else(|| unknown_pool(id))
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

#[cfg(test)]
mod tests {
    use http::Uri;
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::{DEFAULT_HISTORY, Parameters, read_id, read_time};

    fn read(time: &str) -> bool {
        let time: String = form_urlencoded::byte_serialize(time.as_bytes()).collect();
        let uri: Uri = format!("/?to={time}").parse().expect("a path");
        let parameters = Parameters::read(&uri, &["to"]).expect("known");
        // What is read leaves room for the time before it.
        read_time(&parameters, "to").map(|time| time.map(|time| time - DEFAULT_HISTORY)).is_ok()
    }

    #[test]
    fn times_are_those_of_the_unix_epoch() {
        for (time, is_read) in [
            ("1970-01-01T00:00:00Z", true),
            ("1969-12-31T23:59:59Z", false),
            ("9999-12-31T23:59:58Z", true),
            ("9999-12-31T23:59:59-23:59", false),
            ("2026-01-31", false),
        ] {
            assert_eq!(read(time), is_read, "{time}");
        }
    }

    proptest! {
        #[test]
        fn no_time_makes_the_reader_panic(
            time in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](Z|[-+][0-2][0-9]:[0-5][0-9])|.{0,30}"
        ) {
            read(&time);
        }

        #[test]
        fn an_id_is_16_hexadecimal_digits(number in any::<u64>(), other in "[-+0-9a-fx ]{0,18}|.{0,18}") {
            prop_assert_eq!(read_id(&format!("{number:016x}")).ok(), Some(number));
            let is_id = other.len() == 16 && other.chars().all(|c| c.is_ascii_hexdigit());
            prop_assert_eq!(read_id(&other).is_ok(), is_id);
        }
    }
}

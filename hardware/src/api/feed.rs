//! `GET /feed.atom`: the latest changes of levels, for feed readers and for whatever waits for hardware.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use hardware_api::{Availability, Problem};
use http::{HeaderMap, HeaderValue, Uri, header};

use super::{
    ApiState, Refusal, TrimmedSlashes,
    answer::{internal, respond, run_blocking, starting},
    atom,
    availability::read_filter,
    parameters::Parameters,
};

/// Changes in a feed unless `limit` says otherwise, and at most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

const PARAMETERS: [&str; 8] = ["q", "provider", "name", "region", "zone", "tier", "level", "limit"];

const EXAMPLE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <id>urn:uuid:6e7bbb1c-0c4c-8d0f-9a2e-2b6f0a7d1c55</id>
  <title>Changes of level: level=HIGH, provider=aws</title>
  <updated>2026-03-01T12:00:05.250Z</updated>
  <link rel="self" type="application/atom+xml" href="?level=HIGH&amp;provider=aws"/>
  <author><name>Gill Hicks hardware</name></author>
  <entry>
    <id>urn:uuid:0f2d7c1e-93a4-8b61-8c55-d0a6b8e6f4a1</id>
    <title>aws p5.48xlarge eu-west-1a: LOW → HIGH</title>
    <updated>2026-03-01T12:00:05.250Z</updated>
    <link rel="alternate" type="application/json" href="v1/pools/5d41402abc4b2a76"/>
    <category term="HIGH"/>
    <summary>P 0.9132 for one unit, on-demand. The wanted units are free most of the time.</summary>
  </entry>
</feed>
"#;

/// Follow changes of levels
///
/// An Atom feed (RFC 4287) of the changes of the level for one unit, the latest first; of all that are kept, those
/// of pools that match, to a `level` that does. Levels are compared about every minute, and what came and went
/// in between is no change, nor is a pool that nobody had reported before. The latest 10 000 changes are kept, and
/// none for longer than `HISTORY_RETENTION`. Answered from memory.
#[utoipa::path(
    get,
    path = "/feed.atom",
    tag = "availability",
    params(
        ("q" = Option<String>, Query, description = "A filter, as of `/v1/availability`; `level:` is about the new \
            level, and `source:` about who spoke", example = "provider:aws region:us-* level:high"),
        ("provider" = Option<String>, Query, description = "As `provider:` in `q`", example = "aws"),
        ("name" = Option<String>, Query, description = "As `name:` in `q`", example = "p5.*"),
        ("region" = Option<String>, Query, description = "As `region:` in `q`"),
        ("zone" = Option<String>, Query, description = "As `zone:` in `q`"),
        ("tier" = Option<String>, Query, description = "As `tier:` in `q`"),
        ("level" = Option<Vec<Availability>>, Query, style = Form, explode = false,
            description = "As `level:` in `q`: one of them", example = json!(["HIGH", "MEDIUM"])),
        ("limit" = Option<u32>, Query, description = "Changes at most; 50 if it is missing",
            minimum = 1, maximum = 200),
    ),
    responses(
        (status = OK, body = String, content_type = "application/atom+xml",
            headers(("ETag" = String, description = "Changes with the feed")), example = json!(EXAMPLE)),
        (status = NOT_MODIFIED, description = "The feed still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_filter`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn show_feed(
    State(state): State<Arc<ApiState>>,
    trimmed: Option<Extension<TrimmedSlashes>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(&uri, &PARAMETERS)?;
    let filter = read_filter(&parameters)?;
    let limit = parameters.number("limit", 1..=MAX_LIMIT, DEFAULT_LIMIT)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // References are relative to where the client asked, which may be behind a prefix.
    let root = "../".repeat(trimmed.map_or(0, |Extension(TrimmedSlashes(count))| count));
    let pools = state.pools.clone();
    let feed = run_blocking(move || pools.read().feed(&filter, limit)).await?;
    let feed = feed.ok_or_else(starting)?;
    let body = atom::write(&feed, &parameters, &root).map_err(|error| internal(&error))?;
    let mut response = respond(&state, &headers, "application/atom+xml", body);
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    Ok(response)
}

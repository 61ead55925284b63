//! `GET /v1/availability`: the pools that match a filter, in an order, page by page.

use std::sync::Arc;

use availability::Level;
use axum::{extract::State, response::Response};
use hardware_api::{
    Availability, AvailabilityPage, Problem,
    filter::{Field, Filter, FilterError, MAX_VALUES, Pattern, Term},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::{
    ApiState, Refusal,
    answer::{as_of, find_view, internal, respond, run_blocking, to_json},
    parameters::{Parameters, invalid},
    tables::{Format, to_csv, to_markdown},
};
use crate::pools::{Search, Sort};

/// Rows on a page unless `limit` says otherwise, and at most.
const DEFAULT_LIMIT: u32 = 50;

const MAX_LIMIT: u32 = 1000;

/// The parameters that are fields of the filter.
const FIELD_PARAMETERS: [(&str, Field); 6] = [
    ("provider", Field::Provider),
    ("name", Field::Name),
    ("region", Field::Region),
    ("zone", Field::Zone),
    ("tier", Field::Tier),
    ("level", Field::Level),
];

/// What a search is made of; `format` is of the HTTP route alone.
pub(super) const SEARCH_PARAMETERS: [&str; 11] = [
    "q", "provider", "name", "region", "zone", "tier", "units", "level", "sort", "cursor", "limit",
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
        ("level" = Option<Vec<Availability>>, Query, style = Form, explode = false,
            description = "As `level:` in `q`: one of them", example = json!(["HIGH", "MEDIUM"])),
        ("units" = Option<u32>, Query, description = "How many at once; 1 if it is missing",
            minimum = 1, maximum = 2_147_483_647),
        ("sort" = inline(Option<Sort>), Query, description = "`level` (the best first), `name`, `free`, `total` \
            (the most first) or `observed_at` (the latest first); `-` before it turns it around"),
        ("cursor" = Option<String>, Query, description = "The `cursor` in the `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Rows on a page; 50 if it is missing",
            minimum = 1, maximum = 1000),
        ("format" = inline(Option<Format>), Query, description = "`json`, `csv` or `markdown`; else as Accept says"),
    ),
    responses(
        (status = OK, description = "A page of pools, in the order asked for", content(
            (AvailabilityPage = "application/json"),
            (String = "text/csv"),
            (String = "text/markdown"),
        ), headers(("Link" = String, description = "The next page, relative to this one"))),
        (status = NOT_MODIFIED, description = "The page still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_filter`, `invalid_cursor`"),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "`too_many_numbers`: many other numbers of units are asked for at once; try again"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn list_availability(
    State(state): State<Arc<ApiState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let parameters = Parameters::read(&uri, &[&SEARCH_PARAMETERS[..], &["format"]].concat())?;
    let format = Format::choose(parameters.get("format"), &headers)?;
    let page = find(&state, &parameters).await?;
    let (media_type, body) = match format {
        Format::Json => ("application/json", to_json(&page)),
        Format::Csv => {
            let table = to_csv(&page.items).map_err(|error| internal(&error))?;
            ("text/csv; charset=utf-8; header=present", table)
        }
        Format::Markdown => ("text/markdown; charset=utf-8", to_markdown(&page.items).into_bytes()),
    };
    let mut response = respond(&state, &headers, media_type, body);
    let link = page.next.map(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")));
    if let Some(Ok(link)) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The page that parameters among [`SEARCH_PARAMETERS`] ask for.
pub(super) async fn find(
    state: &ApiState,
    parameters: &Parameters,
) -> Result<AvailabilityPage, Refusal> {
    let filter = read_filter(parameters)?;
    let wanted = parameters.units()?;
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
    let view = find_view(state, wanted).await?;
    let (pools, searched) = (state.pools.clone(), Arc::clone(&view));
    let (items, next) = run_blocking(move || {
        let pools = pools.read();
        let page = search.run(&pools, &searched);
        let items = page.rows.iter().filter_map(|row| pools.answer(&searched, *row, wanted));
        let items: Vec<_> = items.filter(|item| search.allows(item.level)).collect();
        (items, page.next)
    })
    .await?;
    let next = next.map(|cursor| parameters.with("cursor", &cursor));
    let (as_of, units) = (as_of(&view)?, wanted.get());
    Ok(AvailabilityPage { as_of, units, items, next })
}

/// The filter of a request: `q`, and the parameters that are terms of it.
pub(super) fn read_filter(parameters: &Parameters) -> Result<Filter, Refusal> {
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
            let [term] = quoted.terms.as_slice() else {
                return Err(invalid(name, given, "values, separated by commas"));
            };
            filter.terms.push(term.clone());
            continue;
        }
        let values: Vec<&str> = given.split(',').map(str::trim).collect();
        if values.iter().any(|value| value.is_empty()) {
            let expected = "values, separated by commas; \"\" for an empty one";
            return Err(invalid(name, given, expected));
        }
        if values.len() > MAX_VALUES {
            return Err(invalid(name, given, &format!("at most {MAX_VALUES} values")));
        }
        let is_level = |value: &&str| Availability::from_word(value).is_some();
        if field == Field::Level && !values.iter().all(is_level) {
            let allowed = Level::ALL.map(Level::as_str);
            return Err(invalid(name, given, "levels, separated by commas").allowing(allowed));
        }
        let values = values.into_iter().map(Pattern::with_stars).collect();
        filter.terms.push(Term { is_negated: false, field: Some(field), values });
    }
    Ok(filter)
}

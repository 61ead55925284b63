//! What the routes below `/v1` say, compared with a computation of its own: a simulated day of 200 pools goes
//! in through `POST /v1/observations`.

mod definition;
mod documented;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use hardware::store::Db;
use hardware_api::{
    Availability, AvailabilityPage, CheckAnswer, Freshness, History, NonePicked,
    ObservationSummary, Picked, Pool, PoolDetail, Quality, SourceList,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use self::definition::{Expected, Report, Seen};
use crate::support::{
    database::execute,
    eventually,
    service::{TOKEN, TestService},
};

const INTERVAL_MIN: i64 = 10;

/// A pool of the simulated day, and what its sources reported.
struct Simulated {
    names: [String; 6],
    /// By source.
    reports: BTreeMap<&'static str, Vec<Report>>,
}

/// 160 pools that count, of which 20 have a second source that says yes or no, and 40 that are only known by
/// yes or no; a report every ten minutes, some of which are missing.
fn simulate(now: DateTime<Utc>, random: &mut SmallRng) -> Vec<Simulated> {
    let providers = ["Amazon", "azure", "Google Cloud", "lab"];
    (0..200)
        .map(|number: usize| {
            let family = ["c5", "m5", "p4d"][number % 3];
            let names = [
                providers[number % 4].to_owned(),
                format!("{family}.{}xlarge", number / 12 + 1),
                format!("Region-{}", number % 5),
                if number.is_multiple_of(2) {
                    String::new()
                } else {
                    format!("zone-{}", number % 3)
                },
                ["on-demand", "spot"][number / 100].to_owned(),
                "unit".to_owned(),
            ];
            let total = random.random_range(1..=40);
            let mut in_use: i64 = random.random_range(0..=i64::from(total));
            let mut counts = Vec::new();
            let mut answers = Vec::new();
            for step in (0..144).rev() {
                let at = now - TimeDelta::minutes(step * INTERVAL_MIN);
                in_use = (in_use + random.random_range(-3..=3)).clamp(0, i64::from(total));
                let used = u32::try_from(in_use).expect("not negative");
                if step == 0 || random.random_bool(0.8) {
                    counts.push(Report { at, seen: Seen::Counts { total, free: total - used } });
                }
                if step == 0 || random.random_bool(0.9) {
                    answers.push(Report { at, seen: Seen::Available(used < total) });
                }
            }
            let mut reports = BTreeMap::new();
            if number < 160 {
                reports.insert("counter", counts);
            }
            if !(20..160).contains(&number) {
                reports.insert("asker", answers);
            }
            Simulated { names, reports }
        })
        .collect()
}

async fn post(service: &TestService, source: &str, pools: &[Simulated]) {
    let mut observations = Vec::new();
    for pool in pools {
        for report in pool.reports.get(source).into_iter().flatten() {
            let [provider, name, region, zone, tier, unit] = &pool.names;
            let mut observation = json!({
                "provider": provider, "name": name, "region": region, "zone": zone, "tier": tier,
                "unit": unit, "observed_at": report.at,
            });
            match report.seen {
                Seen::Counts { total, free } => {
                    observation["total"] = total.into();
                    observation["in_use"] = (total - free).into();
                }
                Seen::Available(is_available) => observation["available"] = is_available.into(),
            }
            observations.push(observation);
        }
    }
    observations.sort_by_key(|observation| observation["observed_at"].to_string());
    for part in observations.chunks(10_000) {
        let interval = INTERVAL_MIN * 60;
        let batch =
            json!({"source": source, "expected_interval_s": interval, "observations": part});
        let answer = service.observe(&batch).await;
        let summary: ObservationSummary = answer.json().await.expect("a summary");
        assert_eq!(summary.refused_total, 0, "{:?}", summary.refused);
        let taken = usize::try_from(summary.accepted + summary.unchanged).expect("a count");
        assert_eq!(taken, part.len(), "{summary:?}");
    }
}

async fn json<T: serde::de::DeserializeOwned>(response: Response) -> T {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("what the description says")
}

async fn post_json(service: &TestService, path: &str, body: &Value) -> Response {
    let request = service.client.post(format!("{}{path}", service.url)).json(body);
    request.send().await.expect("an answer")
}

/// All pages, in order.
async fn list_all(service: &TestService, query: &str) -> Vec<Pool> {
    let mut query = format!("?{query}");
    let mut items = Vec::new();
    loop {
        let page: AvailabilityPage =
            json(service.get(&format!("/v1/availability{query}")).await).await;
        items.extend(page.items);
        match page.next {
            Some(next) => query = next,
            None => return items,
        }
    }
}

fn assert_near(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (None, None) => {}
        // Time goes on between the tick and the comparison, and four digits are shown.
        (Some(found), Some(expected)) if (found - expected).abs() < 5e-4 => {}
        _ => panic!("{what}: found {found:?}, expected {expected:?}"),
    }
}

fn assert_pool(pool: &Pool, expected: &Expected) {
    let what = format!("{} × {} {} {}", pool.units, pool.provider, pool.name, pool.region);
    assert_near(pool.probability, expected.probability, &what);
    assert_near(pool.interval.map(|it| it.low), expected.interval.map(|it| it.0), &what);
    assert_near(pool.interval.map(|it| it.high), expected.interval.map(|it| it.1), &what);
    assert_eq!(pool.level, expected.level, "{what}: {pool:?} {expected:?}");
    assert_eq!(pool.free, expected.free, "{what}");
    assert_eq!(pool.total, expected.total, "{what}");
    assert_eq!(pool.can_fulfil_now, expected.can_fulfil_now, "{what}");
    assert_eq!(pool.since.map(|it| it.timestamp_millis()), expected.since_ms, "{what}");
    assert_eq!(
        pool.observed_at.map(|it| it.timestamp_millis()),
        Some(expected.observed_ms),
        "{what}"
    );
    assert_eq!(pool.source, expected.source, "{what}");
    assert_eq!(pool.interpolated, expected.is_interpolated, "{what}");
    assert_eq!(pool.freshness, Freshness::Fresh, "{what}");
    let codes: BTreeSet<&str> = pool.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, expected.reasons, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_says_what_the_definition_says() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let service = TestService::on_sqlite().await;
    // Whole seconds, as the text of a time may have.
    let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).expect("now");
    let simulated = simulate(now, &mut random);
    for source in ["counter", "asker"] {
        post(&service, source, &simulated).await;
    }
    let list: Vec<Pool> = eventually("all pools are listed", async || {
        let all = list_all(&service, "limit=1000&sort=name").await;
        let is_read = all.iter().all(|pool| pool.observed_at.is_some());
        (all.len() == 200 && is_read).then_some(all)
    })
    .await;

    let find = |pool: &Pool| {
        let is_it = |it: &&Simulated| {
            it.names
                == [&pool.provider, &pool.name, &pool.region, &pool.zone, &pool.tier, &pool.unit]
                    .map(ToOwned::to_owned)
        };
        simulated.iter().find(is_it).unwrap_or_else(|| panic!("nobody reported {pool:?}"))
    };
    let mut levels = BTreeSet::new();
    for units in [1, 2, 3, 5, 9, 10, 13, 20, 40, 41, 1000] {
        let page: AvailabilityPage =
            json(service.get(&format!("/v1/availability?units={units}&limit=200")).await).await;
        assert_eq!((page.items.len(), page.units, page.next), (200, units, None));
        for pool in &page.items {
            assert_pool(pool, &definition::expect(&find(pool).reports, units, page.as_of));
            levels.insert(pool.level);
        }
        let ranks: Vec<_> =
            page.items.iter().map(|pool| (pool.level, pool.probability.unwrap_or(0.0))).collect();
        assert!(
            ranks.is_sorted_by(
                |one, other| one.0 > other.0 || (one.0 == other.0 && one.1 >= other.1 - 1e-4)
            ),
            "{units}: {ranks:?}"
        );
        check_and_pick(&service, &simulated, units).await;
    }
    assert!(levels.len() >= 3, "the day had only {levels:?}");

    for pool in list.iter().step_by(7) {
        let path = format!("/v1/pools/{}", pool.id);
        let detail: PoolDetail = json(service.get(&format!("{path}?units=3")).await).await;
        let reports = &find(pool).reports;
        assert_pool(&detail.pool, &definition::expect(reports, 3, detail.as_of));
        let numbers: Vec<u32> = detail.by_units.iter().map(|point| point.units).collect();
        assert_eq!(numbers, definition::numbers(reports));
        let is_high = |units: &u32| {
            definition::expect(reports, *units, detail.as_of).level == Availability::High
        };
        // A source that counts speaks for all numbers; one that does not, for one.
        let most = if detail.pool.total.is_some() { 41 } else { 1 };
        assert_eq!(
            detail.pool.most_at_high,
            (1..=most).rev().find(is_high),
            "{}",
            detail.pool.name
        );
        for point in &detail.by_units {
            let expected = definition::expect(reports, point.units, detail.as_of);
            assert_eq!(point.level, expected.level);
            assert_near(point.probability, expected.probability, &pool.name);
            let low = expected.interval.map(|it| it.0);
            assert_near(point.interval.map(|it| it.low), low, &pool.name);
        }
        let named: BTreeSet<&str> = detail.sources.iter().map(|it| it.source.as_str()).collect();
        assert_eq!(named, reports.keys().copied().collect());
        assert_eq!(detail.sources.iter().filter(|it| it.speaks).count(), 1);

        let history: History = json(service.get(&format!("{path}/history")).await).await;
        assert_eq!(history.sources.len(), reports.len());
        for source in &history.sources {
            let found: Vec<_> = source
                .segments
                .iter()
                .map(|it| (it.started, it.last_seen, it.total, it.free, it.available))
                .collect();
            let expected = definition::segments(&reports[source.source.as_str()]);
            assert_eq!(found, expected, "{} by {}", pool.name, source.source);
        }
    }

    let sources: SourceList = json(service.get("/v1/sources").await).await;
    let found: Vec<_> = sources
        .items
        .iter()
        .map(|it| (it.name.as_str(), it.kinds.join(", "), it.pools, it.expected_interval_s))
        .collect();
    assert_eq!(
        found,
        [("asker", "boolean".to_owned(), 60, 600), ("counter", "counts".to_owned(), 160, 600)]
    );
}

async fn check_and_pick(service: &TestService, simulated: &[Simulated], units: u32) {
    let wants: Vec<Value> = simulated
        .iter()
        .step_by(9)
        .map(|it| {
            let [provider, name, region, zone, tier, _] = &it.names;
            json!({"provider": provider, "name": name.to_uppercase(), "region": region, "zone": zone, "tier": tier})
        })
        .collect();
    let answer = post_json(service, "/v1/check", &json!({"items": wants, "units": units})).await;
    let checked: CheckAnswer = json(answer).await;
    assert_eq!(checked.items.len(), wants.len());
    assert_eq!(checked.level, checked.items.iter().map(|it| it.level).min().expect("some"));
    for (item, simulated) in checked.items.iter().zip(simulated.iter().step_by(9)) {
        assert_eq!(item.matching, 1);
        let pool = item.pool.as_ref().expect("it is known");
        assert_pool(pool, &definition::expect(&simulated.reports, units, checked.as_of));
        assert_eq!(item.high, u32::from(pool.level == Availability::High));
    }
    let request = json!({"preferences": wants, "units": units});
    let answer = post_json(service, "/v1/pick", &request).await;
    let first = checked.items.iter().position(|it| it.level == Availability::High);
    match (answer.status(), first) {
        (StatusCode::OK, Some(first)) => {
            let picked: Picked = answer.json().await.expect("a pick");
            assert_eq!(usize::try_from(picked.preference), Ok(first));
        }
        (StatusCode::CONFLICT, None) => {
            let none: NonePicked = answer.json().await.expect("a problem");
            assert_eq!(none.problem.code, "none_available");
            let found: Vec<_> = none.preferences.iter().map(|it| it.level).collect();
            let expected: Vec<_> = checked.items.iter().map(|it| it.level).collect();
            assert_eq!(found, expected);
        }
        (status, first) => panic!("{status} with {first:?}"),
    }
}

/// Three pools that have been free for three hours, and one that has been full.
async fn few_pools(service: &TestService) {
    let now = Utc::now();
    let pool = |provider: &str, name: &str, region: &str, in_use: u32| json!({"provider": provider, "name": name, "region": region, "total": 12, "in_use": in_use});
    for (minutes, c5) in [(180, 2), (120, 2), (60, 2), (0, 2)] {
        let batch = json!({
            "source": "lab", "expected_interval_s": 3600,
            "observed_at": now - TimeDelta::minutes(minutes),
            "observations": [
                pool("Amazon", "c5.large", "us-east-1", c5),
                pool("Amazon", "c5.2xlarge", "us-east-1", 4),
                pool("Amazon", "c5.10xlarge", "eu-west-1", 12),
                pool("Azure", "Standard_H16mr", "=evil|x", 0),
            ],
        });
        assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    }
    eventually("all pools are listed", async || {
        (list_all(service, "q=level:high").await.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_orders_and_pages() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    let names = async |query: &str| -> Vec<String> {
        list_all(&service, query).await.into_iter().map(|pool| pool.name).collect()
    };
    let (large, double, ten, azure) = ("c5.large", "c5.2xlarge", "c5.10xlarge", "Standard_H16mr");
    let table: &[(&str, &[&str])] = &[
        ("sort=name", &[double, ten, large, azure]),
        ("sort=-name", &[azure, large, ten, double]),
        ("sort=name&limit=1", &[double, ten, large, azure]),
        ("sort=-name&limit=1", &[azure, large, ten, double]),
        ("sort=free", &[azure, large, double, ten]),
        ("sort=-free&limit=1", &[ten, double, large, azure]),
        ("sort=free&limit=1", &[azure, large, double, ten]),
        ("sort=total&limit=1", &[double, ten, large, azure]),
        ("sort=-total", &[azure, large, ten, double]),
        ("sort=observed_at&limit=3", &[double, ten, large, azure]),
        ("limit=1", &[double, large, azure, ten]),
        ("sort=-level&limit=1", &[ten, azure, large, double]),
        ("provider=aws&sort=name", &[double, ten, large]),
        ("provider=aws&limit=1", &[double, large, ten]),
        ("q=AWS%20-level:low&sort=name", &[double, large]),
        ("q=on-demand%20standard_h16", &[azure]),
        ("q=tier:on-*%20name:Standard_*", &[azure]),
        ("q=provider:ec2%20-level:low&sort=name", &[double, large]),
        ("q=region:us-*&sort=name", &[double, large]),
        ("name=c5.*&region=eu-west-1", &[ten]),
        ("name=h16mr", &[azure]),
        ("name=standard_H16MR", &[azure]),
        ("q=10x,h16&sort=name", &[ten, azure]),
        ("q=source:lab%20xlarge&sort=name", &[double, ten]),
        ("level=LOW", &[ten]),
        ("units=11", &[azure, double, large, ten]),
        ("q=%22%22&sort=name", &[double, ten, large, azure]),
        ("q=zone:%22%22%20tier:on-demand%20c5.large", &[large]),
    ];
    for (query, expected) in table {
        assert_eq!(names(query).await, *expected, "{query}");
    }

    // A page goes on after its last row, whatever comes before it meanwhile.
    let first = service.get("/v1/availability?sort=name&limit=2").await;
    let link = first.headers()[header::LINK].to_str().expect("ASCII").to_owned();
    let first: AvailabilityPage = json(first).await;
    assert_eq!(link, format!("<{}>; rel=\"next\"", first.next.as_deref().expect("another page")));
    let batch = json!({"source": "lab", "expected_interval_s": 3600, "observations": [
        {"provider": "Amazon", "name": "a1.large", "total": 1, "in_use": 0},
        {"provider": "Amazon", "name": "c5.11xlarge", "total": 1, "in_use": 0},
    ]});
    service.observe(&batch).await;
    eventually("the new pools are listed", async || {
        (names("sort=name").await.len() == 6).then_some(())
    })
    .await;
    let next = first.next.expect("another page");
    let second: AvailabilityPage =
        json(service.get(&format!("/v1/availability{next}")).await).await;
    let found: Vec<_> = second.items.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(found, ["c5.11xlarge", large]);
}

/// More words than a filter takes.
fn numbered(word: &str, between: &str) -> String {
    (0..=100).map(|number| format!("{word}{number}")).collect::<Vec<_>>().join(between)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_numbers_of_units_at_once_leave_the_service_as_it_is() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    let ask = async |units: u32| {
        let url = format!("{}/v1/availability?units={units}", service.url);
        service.client.get(url).send().await.expect("an answer").status()
    };
    let numbers: Vec<u32> = (100..300).collect();
    let statuses = futures::future::join_all(numbers.into_iter().map(ask)).await;
    assert!(statuses.contains(&StatusCode::OK), "{statuses:?}");
    for status in statuses {
        assert!(matches!(status.as_u16(), 200 | 429), "{status}");
    }
    assert_eq!(ask(7).await, StatusCode::OK);
    assert_eq!(service.get("/hardware/").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    let problem = async |response: Response, status: StatusCode| -> Value {
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        response.json().await.expect("a problem")
    };
    let bad = StatusCode::BAD_REQUEST;
    for (query, code, field) in [
        ("colour=red", "unknown_parameter", "colour"),
        ("units=0", "invalid_parameter", "units"),
        ("units=a", "invalid_parameter", "units"),
        ("limit=1001", "invalid_parameter", "limit"),
        ("sort=price", "invalid_parameter", "sort"),
        ("level=good", "invalid_parameter", "level"),
        ("format=xml", "invalid_parameter", "format"),
        ("q=a:b", "invalid_filter", "q"),
        ("q=%22open", "invalid_filter", "q"),
        ("cursor=x", "invalid_cursor", "cursor"),
        ("units=1&units=2", "invalid_parameter", "units"),
        (&format!("q={}", numbered("a", "+")), "invalid_filter", "q"),
        (&format!("q={}", numbered("zone", ",")), "invalid_filter", "q"),
        (&format!("zone={}", numbered("a", ",")), "invalid_parameter", "zone"),
        ("zone=a,", "invalid_parameter", "zone"),
        ("zone=%22a%22%20-level:low", "invalid_parameter", "zone"),
    ] {
        let found = problem(service.get(&format!("/v1/availability?{query}")).await, bad).await;
        assert_eq!((&found["code"], &found["field"]), (&json!(code), &json!(field)), "{query}");
    }
    let found = problem(service.get("/v1/availability?sort=price").await, bad).await;
    assert_eq!(found["allowed"][0], "level");
    let page: AvailabilityPage = json(service.get("/v1/availability?limit=1").await).await;
    let other = format!("/v1/availability{}&sort=name", page.next.expect("more"));
    assert_eq!(problem(service.get(&other).await, bad).await["code"], "invalid_cursor");

    let path = problem(service.get("/v1/pools/%FF").await, bad).await;
    assert_eq!(path["code"], "invalid_path");
    for path in ["/v1/pools/0000000000000000", "/v1/pools/x", "/v1/pools/0000000000000000/history"]
    {
        let found = problem(service.get(path).await, StatusCode::NOT_FOUND).await;
        assert_eq!(found["code"], "unknown_pool", "{path}");
    }
    let id = &page.items[0].id;
    let path = format!("/v1/pools/{id}/history?from=yesterday");
    assert_eq!(problem(service.get(&path).await, bad).await["field"], "from");
    let path = format!("/v1/pools/{id}/history?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z");
    assert_eq!(problem(service.get(&path).await, bad).await["field"], "from");

    for (path, body, field) in [
        ("/v1/check", json!({}), json!("items")),
        ("/v1/check", json!({"items": []}), json!("items")),
        ("/v1/check", json!({"items": [{}], "unit": 1}), json!("unit")),
        ("/v1/check", json!({"items": [{}], "units": -1}), json!("units")),
        (
            "/v1/pick",
            json!({"preferences": [{"provider": "aws", "name": "a", "units": 0}]}),
            json!("preferences[0].units"),
        ),
        ("/v1/pick", json!({"preferences": [{"provider": "aws"}]}), json!("preferences[0]")),
        (
            "/v1/pick",
            json!({"preferences": [{"provider": "aws", "name": " "}]}),
            json!("preferences[0].name"),
        ),
        (
            "/v1/pick",
            json!({"preferences": [{"provider": "aws", "name": "a"}], "min_level": "GOOD"}),
            json!("min_level"),
        ),
        ("/v1/pick", json!([]), Value::Null),
    ] {
        let found = problem(post_json(&service, path, &body).await, bad).await;
        assert_eq!(found["field"], field, "{body}: {found}");
    }
    // One item that cannot be understood leaves the others alone.
    let items =
        json!([{"provider": "aws", "name": "c5"}, {"name": 1}, {"provider": "x", "name": "y"}]);
    let answer = post_json(&service, "/v1/check", &json!({"items": items})).await;
    let checked: CheckAnswer = json(answer).await;
    let [family, wrong, unknown] = checked.items.as_slice() else { panic!("{checked:?}") };
    assert_eq!((family.level, family.matching, family.high), (Availability::High, 3, 2));
    assert_eq!(wrong.problem.as_ref().and_then(|it| it.field.as_deref()), Some("items[1]"));
    assert_eq!((unknown.matching, unknown.reasons[0].code.as_str()), (0, "no_data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_page_as_json_csv_and_markdown() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    let csv = service.get("/v1/availability?format=csv&sort=name").await;
    assert_eq!(csv.headers()[header::CONTENT_TYPE], "text/csv; charset=utf-8; header=present");
    let text = csv.text().await.expect("text");
    let mut reader = csv_reader(&text);
    let lines: Vec<BTreeMap<String, String>> =
        reader.deserialize().collect::<Result<_, _>>().expect("CSV");
    let list = list_all(&service, "sort=name").await;
    assert_eq!(lines.len(), list.len());
    for (line, pool) in lines.iter().zip(&list) {
        assert_eq!(line["id"], pool.id);
        assert_eq!(line["level"], pool.level.to_string());
        assert_eq!(line["free"], pool.free.expect("counted").to_string());
    }
    assert_eq!(lines[3]["region"], "'=evil|x", "no spreadsheet computes it");
    let request = service.client.get(format!("{}/v1/availability?sort=name", service.url));
    let markdown = request.header(header::ACCEPT, "text/markdown").send().await.expect("sent");
    let table = markdown.text().await.expect("text");
    assert_eq!(table.lines().count(), 2 + list.len(), "{table}");
    assert!(table.contains("| =evil\\|x |"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_badge_says_in_words_what_it_shows() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    for (path, title) in [
        ("/badge/aws/c5.svg", "aws c5: HIGH"),
        ("/badge/aws/c5.svg?units=13", "13 × aws c5: LOW"),
        ("/badge/ec2/c5?region=EU-west-1", "ec2 c5: LOW"),
        ("/badge/nobody/%3Cx%3E.svg", "nobody &lt;x&gt;: UNKNOWN"),
    ] {
        let response = service.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "image/svg+xml");
        assert_eq!(
            response.headers()[header::CACHE_CONTROL],
            "public, max-age=60, must-revalidate"
        );
        let svg = response.text().await.expect("text");
        assert!(svg.contains(&format!("<title>{title}</title>")), "{path}: {svg}");
    }
    assert_eq!(service.get("/badge/aws/c5.svg?unit=2").await.status(), StatusCode::BAD_REQUEST);
}

fn csv_reader(text: &str) -> csv::Reader<&[u8]> {
    csv::Reader::from_reader(text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_tagged_readable_by_other_sites_and_need_no_exact_slash() {
    let service = TestService::on_sqlite().await;
    few_pools(&service).await;
    let id = list_all(&service, "").await.remove(0).id;
    let from = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
    for path in [
        "/v1/sources".to_owned(),
        "/v1/quality".to_owned(),
        format!("/v1/pools/{id}/history?{from}"),
        "/v1/availability?limit=1".to_owned(),
        format!("/v1/pools/{id}"),
    ] {
        let (plain, query) = path.split_once('?').unwrap_or((&path, ""));
        // Of one tick, if the next one does not come between the two.
        eventually("the same answer twice", async || {
            let first = service.get(&path).await;
            assert_eq!(first.status(), StatusCode::OK, "{path}");
            assert_eq!(first.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
            let tag = first.headers()[header::ETAG].clone();
            let url = format!("{}{plain}/?{query}", service.url);
            let again = service.client.get(url).header(header::IF_NONE_MATCH, tag);
            let again = again.send().await.expect("an answer");
            (again.status() == StatusCode::NOT_MODIFIED).then_some(())
        })
        .await;
    }
    let preflight = service
        .client
        .request(reqwest::Method::OPTIONS, format!("{}/v1/pick", service.url))
        .header(header::ORIGIN, "https://elsewhere.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
    let allowed = preflight.send().await.expect("an answer");
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(
        allowed.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS],
        "accept,content-type,if-none-match"
    );
    let posting = service.observe(&json!({"source": "x", "observations": []})).await;
    assert!(
        !posting.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        "it is not reading"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quality_is_what_was_scored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hardware.db");
    let db = Db::new(&hardware::store::StoreConfig::Sqlite { path }).expect("a pool");
    db.migrate().await.expect("migrated");
    let today = Utc::now().timestamp() / 86_400;
    for (day, curve, band, forecasts, predicted, observed, brier) in [
        (today, "corrected", 9, 8, 7.6, 7.2, 0.5),
        (today - 1, "corrected", 9, 2, 1.8, 2.0, 0.1),
        (today, "corrected", 1, 10, 1.5, 1.0, 0.9),
        (today, "uncorrected", 8, 20, 17.0, 10.2, 6.0),
        (today, "level", 0, 10, 9.4, 9.2, 0.6),
        (today, "level", 2, 10, 1.5, 1.0, 0.9),
        (today - 31, "level", 0, 1000, 0.0, 0.0, 0.0),
    ] {
        execute(&db, &format!(
            "INSERT INTO quality_day (day, kind, curve, band, forecasts, predicted, observed, brier) \
             VALUES ({day}, 'counts', '{curve}', {band}, {forecasts}, {predicted}, {observed}, {brier})"
        )).await;
    }
    drop(db);
    let service = TestService::in_folder(folder, &["--observations-token", TOKEN]).await;
    service.wait_until_ready().await;
    let quality: Quality = json(service.get("/v1/quality").await).await;
    let [kind] = quality.kinds.as_slice() else { panic!("{quality:?}") };
    assert_eq!((kind.kind.as_str(), kind.forecasts, quality.days), ("counts", 20, 30));
    assert!((kind.corrected.brier - 0.075).abs() < 1e-9, "1.5 over 20: {kind:?}");
    assert!((kind.uncorrected.brier - 0.3).abs() < 1e-9, "{kind:?}");
    let deciles: Vec<_> =
        kind.corrected.deciles.iter().map(|it| (it.decile, it.forecasts)).collect();
    assert_eq!(deciles, [(1, 10), (9, 10)]);
    assert!((kind.corrected.deciles[1].predicted - 0.94).abs() < 1e-9);
    assert!((kind.corrected.deciles[1].observed - 0.92).abs() < 1e-9);
    let levels: Vec<_> = kind.levels.iter().map(|it| (it.level, it.came_true)).collect();
    assert_eq!(levels, [(Availability::High, 0.92), (Availability::Low, 0.1)]);
}

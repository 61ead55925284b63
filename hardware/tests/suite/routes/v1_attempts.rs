//! `POST /v1/attempts`

use std::time::Duration;

use availability::Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use hardware::store::Step;
use hardware_api::{
    AttemptOutcome, AttemptSummary, Availability, AvailabilityPage, Pool, PoolDetail, SourceList,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    support::{
        database::{TestDatabase, on_both_databases},
        eventually,
        service::{TOKEN, TestService, replace_file},
    },
    two_pods::{self, three_hours},
};

on_both_databases!(
    a_failure_keeps_a_pool_from_being_high_until_as_many_are_got,
    attempts_can_be_sent_twice_and_do_not_change,
    attempts_of_a_pool_that_nobody_has_seen_are_shown_once_it_is,
    attempts_are_deleted_with_history,
);

async fn start(database: &TestDatabase) -> TestService {
    if database.mysql.is_none() {
        return TestService::on_sqlite().await;
    }
    drop(database.migrated().await);
    two_pods::start(database).await
}

fn attempt(units: u32, outcome: &str, at: DateTime<Utc>) -> Value {
    json!({"provider": "AWS", "name": "C5", "units": units, "outcome": outcome, "at": at})
}

async fn send_with(
    service: &TestService,
    token: &str,
    source: &str,
    attempts: &[Value],
) -> Response {
    let request = service.client.post(format!("{}/v1/attempts", service.url)).bearer_auth(token);
    let request = request.json(&json!({"source": source, "attempts": attempts}));
    request.send().await.expect("an answer")
}

async fn send(service: &TestService, attempts: &[Value]) -> AttemptSummary {
    let answer = send_with(service, TOKEN, "launcher", attempts).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.expect("a summary")
}

/// c5 for a number of units, once `is_as_expected` holds of it.
async fn wait_for_pool(
    service: &TestService,
    units: u32,
    is_as_expected: impl Fn(&Pool) -> bool,
) -> Pool {
    eventually(&format!("c5 for {units} is as expected"), async || {
        let path = format!("/v1/availability?name=c5&units={units}");
        let page: AvailabilityPage = service.get(&path).await.json().await.expect("a page");
        page.items.into_iter().next().filter(&is_as_expected)
    })
    .await
}

async fn detail(service: &TestService, id: &str) -> PoolDetail {
    service.get(&format!("/v1/pools/{id}")).await.json().await.expect("a pool")
}

fn has_level(level: Availability) -> impl Fn(&Pool) -> bool {
    move |pool| pool.level == level
}

async fn a_failure_keeps_a_pool_from_being_high_until_as_many_are_got(database: TestDatabase) {
    let service = start(&database).await;
    service.observe(&three_hours()).await;
    let before = wait_for_pool(&service, 4, has_level(Availability::High)).await;
    assert_eq!(before.most_at_high, Some(6));

    let now = Utc::now();
    let failed = attempt(4, "failed", now - TimeDelta::minutes(2));
    assert_eq!(send(&service, &[failed]).await.accepted, 1);
    for units in [4, 5] {
        let pool = wait_for_pool(&service, units, has_level(Availability::Medium)).await;
        assert!(pool.reasons.iter().any(|it| it.code == "recent_failure"), "{:?}", pool.reasons);
        assert_eq!((pool.probability, pool.most_at_high), (before.probability, Some(3)));
    }
    let fewer = wait_for_pool(&service, 3, |_| true).await;
    assert_eq!(fewer.level, Availability::High, "fewer were not asked for");

    // Fewer than that say nothing of four.
    let fewer = attempt(3, "succeeded", now - TimeDelta::seconds(90));
    let as_many = attempt(5, "succeeded", now - TimeDelta::minutes(1));
    send(&service, &[fewer]).await;
    let shown = eventually("the attempt is shown", async || {
        let detail = detail(&service, &before.id).await;
        (detail.attempts.len() == 2).then_some(detail)
    })
    .await;
    assert_eq!(shown.by_units[3].level, Availability::Medium);
    assert_eq!(shown.by_units[2].level, Availability::High);
    send(&service, &[as_many]).await;
    wait_for_pool(&service, 4, has_level(Availability::High)).await;
    let outcomes = detail(&service, &before.id).await.attempts;
    let outcomes: Vec<_> = outcomes.iter().map(|it| (it.units, it.outcome)).collect();
    let (succeeded, failed) = (AttemptOutcome::Succeeded, AttemptOutcome::Failed);
    assert_eq!(outcomes, [(5, succeeded), (3, succeeded), (4, failed)], "the latest first");
}

async fn attempts_can_be_sent_twice_and_do_not_change(database: TestDatabase) {
    let service = start(&database).await;
    let at = Utc::now() - TimeDelta::minutes(5);
    let attempts = [attempt(1, "failed", at), attempt(2, "failed", at), attempt(1, "failed", at)];
    let first = send(&service, &attempts).await;
    assert_eq!((first.accepted, first.duplicates), (2, 1));
    let again = send(&service, &attempts).await;
    assert_eq!(again, AttemptSummary { duplicates: 3, ..AttemptSummary::default() });
    let old = attempt(1, "failed", at - TimeDelta::days(40));
    let other = send(&service, &[attempt(1, "succeeded", at), old, json!({})]).await;
    let codes: Vec<_> = other.refused.iter().map(|it| (it.index, it.code.as_str())).collect();
    assert_eq!(codes, [(0, "contradicts"), (1, "too_old"), (2, "invalid_field")]);
    assert_eq!((other.accepted, other.refused_total), (0, 3));
    let source = eventually("the source is listed", async || {
        let list: SourceList = service.get("/v1/sources").await.json().await.expect("a list");
        list.items.into_iter().next()
    })
    .await;
    assert_eq!((source.name.as_str(), source.pools), ("launcher", 0));
}

async fn attempts_of_a_pool_that_nobody_has_seen_are_shown_once_it_is(database: TestDatabase) {
    let service = start(&database).await;
    let now = Utc::now();
    let attempts: Vec<Value> =
        (0..25).map(|second| attempt(1, "failed", now - TimeDelta::seconds(second))).collect();
    assert_eq!(send(&service, &attempts).await.accepted, 25);
    let none: AvailabilityPage =
        service.get("/v1/availability?name=c5").await.json().await.expect("a page");
    assert_eq!(none.items, [], "an attempt alone is no pool");
    service.observe(&three_hours()).await;
    let pool = wait_for_pool(&service, 1, has_level(Availability::Medium)).await;
    assert_eq!(pool.most_at_high, None);
    let mut shown = detail(&service, &pool.id).await.attempts;
    assert_eq!((shown.len(), shown[0].source.as_str()), (20, "launcher"));
    shown.dedup_by_key(|attempt| attempt.at);
    assert!(shown.is_sorted_by_key(|attempt| std::cmp::Reverse(attempt.at)) && shown.len() == 20);

    // A process that starts reads them.
    if database.mysql.is_some() {
        let other = two_pods::start(&database).await;
        let pool = wait_for_pool(&other, 1, |_| true).await;
        assert_eq!(pool.level, Availability::Medium);
        assert_eq!(detail(&other, &pool.id).await.attempts, shown);
    }
}

async fn attempts_are_deleted_with_history(database: TestDatabase) {
    let db = database.migrated().await;
    let hour = |hour: i64| Timestamp::from_millis(1_767_225_600_000 + hour * 3_600_000);
    let now = DateTime::from_timestamp_millis(hour(48).as_millis()).expect("a time");
    let attempts: Vec<Value> = (0..48)
        .map(|at| {
            let at = DateTime::from_timestamp_millis(hour(at).as_millis()).expect("a time");
            attempt(1, "failed", at)
        })
        .collect();
    let body = json!({"source": "launcher", "attempts": attempts}).to_string();
    let received = hardware::observation::parse_attempts(body.as_bytes(), now).expect("good");
    let arrival = hardware::store::Arrival::new(hour(48), Duration::from_hours(72));
    db.record_attempts(&received.batch, arrival).await.expect("recorded");
    let lease = db.claim("jobs", "test", 60).await.expect("asked").expect("nobody has it");
    let deleted = db.delete_old_history(&lease, hour(36)).await.expect("deleted");
    assert_eq!(deleted, Step::Did(36));
    let done = db.delete_old_history(&lease, hour(36)).await.expect("asked");
    assert_eq!(done, Step::Done);
    let source = db.list_sources().await.expect("sources").remove(0);
    let mut kept = db.list_attempts(source.id, -1).await.expect("attempts");
    kept.sort_by_key(|row| row.attempt.at);
    assert_eq!((kept.len(), kept[0].attempt.at), (12, hour(36)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_source_opens_its_attempts_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    replace_file(&file, r#"{"rack": "rack-token"}"#);
    let path = file.to_str().expect("UTF-8");
    let options = ["--observations-token", TOKEN, "--source-tokens-file", path];
    let service = TestService::with(&options).await;
    service.wait_until_ready().await;
    let table = [
        ("rack", "rack-token", StatusCode::OK),
        ("lab", TOKEN, StatusCode::OK),
        ("rack", TOKEN, StatusCode::FORBIDDEN),
        ("lab", "rack-token", StatusCode::FORBIDDEN),
        ("lab", "wrong", StatusCode::UNAUTHORIZED),
    ];
    for (source, token, status) in table {
        let answer = send_with(&service, token, source, &[]).await;
        assert_eq!(answer.status(), status, "{source} with {token}");
    }
}

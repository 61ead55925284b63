//! A source that says that something keeps it from seeing its pools as they are.

use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::{
    Availability, AvailabilityPage, CheckAnswer, NonePicked, ObservationSummary, PoolDetail,
    Reason, Source, SourceList,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    support::{
        database::{TestDatabase, on_both_databases},
        eventually,
        service::TestService,
    },
    two_pods::{self, three_hours},
};

on_both_databases!(
    no_level_follows_from_a_source_while_it_has_a_problem,
    a_restart_keeps_a_problem,
    observations_beside_a_problem_are_history,
    a_source_that_never_had_a_pool_is_listed_with_its_problem,
    a_problem_goes_on_while_its_code_is_the_same,
    another_source_speaks_while_one_has_a_problem,
);

const DETAIL: &str = "The source may not list pods; bind the ClusterRole to its ServiceAccount.";

async fn start(database: &TestDatabase) -> TestService {
    if database.mysql.is_none() {
        return TestService::on_sqlite().await;
    }
    drop(database.migrated().await);
    two_pods::start(database).await
}

async fn restart(mut service: TestService, database: &TestDatabase) -> TestService {
    if database.mysql.is_some() {
        drop(service);
        return two_pods::start(database).await;
    }
    let other = TempDir::new().expect("a folder");
    let folder = std::mem::replace(&mut service.folder, other);
    drop(service);
    let service = TestService::in_folder(folder, &[]).await;
    service.wait_until_ready().await;
    service
}

fn problem_of(source: &str, code: &str) -> Value {
    json!({"source": source, "problem": {"code": code, "detail": DETAIL}, "observations": []})
}

async fn send(service: &TestService, batch: &Value) -> ObservationSummary {
    let answer = service.observe(batch).await;
    assert_eq!(answer.status(), StatusCode::OK, "{batch}");
    answer.json().await.expect("a summary")
}

async fn post(service: &TestService, path: &str, body: &Value) -> reqwest::Response {
    let request = service.client.post(format!("{}{path}", service.url)).json(body);
    request.send().await.expect("an answer")
}

async fn get<T: serde::de::DeserializeOwned>(service: &TestService, path: &str) -> T {
    service.get(path).await.json().await.expect("what the description says")
}

async fn wait_for_level(service: &TestService, level: Availability) {
    eventually(&format!("c5 is {level}"), async || {
        (service.level("c5").await == Some(level)).then_some(())
    })
    .await;
}

/// A source as it is listed, once `is_as_expected` holds of it.
async fn wait_for_source(
    service: &TestService,
    name: &str,
    is_as_expected: impl Fn(&Source) -> bool,
) -> Source {
    eventually(&format!("source {name} is as expected"), async || {
        let list: SourceList = get(service, "/v1/sources").await;
        list.items.into_iter().find(|source| source.name == name).filter(&is_as_expected)
    })
    .await
}

fn has_code(code: &str) -> impl Fn(&Source) -> bool {
    move |source| source.problem.as_ref().is_some_and(|problem| problem.code == code)
}

fn c5() -> Value {
    json!({"provider": "aws", "name": "c5"})
}

fn expected_reason() -> Vec<Reason> {
    vec![Reason { code: "pods_forbidden".to_owned(), sentence: DETAIL.to_owned() }]
}

async fn no_level_follows_from_a_source_while_it_has_a_problem(database: TestDatabase) {
    let service = start(&database).await;
    send(&service, &three_hours()).await;
    wait_for_level(&service, Availability::High).await;
    // Times are kept in milliseconds.
    let began = Utc::now() - TimeDelta::milliseconds(1);
    let taken = send(&service, &problem_of("lab", "pods_forbidden")).await;
    assert_eq!(taken, ObservationSummary::default(), "nothing is refused or warned of");
    wait_for_level(&service, Availability::Unknown).await;

    let check: CheckAnswer =
        post(&service, "/v1/check", &json!({"items": [c5()]})).await.json().await.expect("a check");
    assert_eq!(
        (check.level, check.items[0].matching, check.items[0].high),
        (Availability::Unknown, 1, 0)
    );
    assert_eq!(check.items[0].reasons, expected_reason());

    let answer = post(&service, "/v1/pick", &json!({"preferences": [c5()]})).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let none: NonePicked = answer.json().await.expect("reasons");
    assert_eq!(none.preferences[0].reasons, expected_reason());

    let page: AvailabilityPage = get(&service, "/v1/availability?name=c5").await;
    let pool = &page.items[0];
    assert_eq!((pool.level, pool.probability, pool.interval), (Availability::Unknown, None, None));
    assert_eq!((pool.most_at_high, pool.can_fulfil_now, pool.record), (None, None, None));
    assert_eq!((pool.free, pool.total), (Some(6), Some(8)), "as it was last seen");
    assert_eq!(pool.reasons, expected_reason());

    let detail: PoolDetail = get(&service, &format!("/v1/pools/{}", pool.id)).await;
    assert!(!detail.by_units.is_empty());
    for point in detail.by_units {
        assert_eq!((point.level, point.probability), (Availability::Unknown, None), "{point:?}");
    }
    let reading = &detail.sources[0];
    assert_eq!(
        (reading.speaks, reading.level, reading.explanation),
        (false, Availability::Unknown, None)
    );
    let badge = service.get("/badge/aws/c5.svg").await.text().await.expect("a picture");
    assert!(badge.contains("UNKNOWN"), "{badge}");

    let source = wait_for_source(&service, "lab", has_code("pods_forbidden")).await;
    let problem = source.problem.expect("it has one");
    assert_eq!((problem.detail.as_str(), source.pools), (DETAIL, 2));
    assert!((began..=Utc::now()).contains(&problem.since), "{problem:?} since {began}");
    assert_eq!(reading.problem, Some(problem));

    send(&service, &json!({"source": "lab", "observations": []})).await;
    wait_for_level(&service, Availability::High).await;
    let sources: Value = get(&service, "/v1/sources").await;
    assert_eq!(sources["items"][0].get("problem"), None, "{sources}");
}

async fn a_restart_keeps_a_problem(database: TestDatabase) {
    let service = start(&database).await;
    send(&service, &three_hours()).await;
    wait_for_level(&service, Availability::High).await;
    send(&service, &problem_of("lab", "pods_forbidden")).await;
    let before = wait_for_source(&service, "lab", has_code("pods_forbidden")).await;
    let service = restart(service, &database).await;
    assert_eq!(service.level("c5").await, Some(Availability::Unknown), "from the first answer on");
    let after = wait_for_source(&service, "lab", |_| true).await;
    assert_eq!(after.problem, before.problem);
}

async fn observations_beside_a_problem_are_history(database: TestDatabase) {
    let service = start(&database).await;
    let mut batch = problem_of("lab", "nodes_stale");
    batch["observations"] = json!([{"provider": "aws", "name": "c5", "total": 8, "in_use": 8, "observed_at": Utc::now()}]);
    assert_eq!(send(&service, &batch).await.accepted, 1);
    let pool = eventually("the pool is listed", async || {
        let page: AvailabilityPage = get(&service, "/v1/availability?name=c5").await;
        page.items.into_iter().next()
    })
    .await;
    assert_eq!((pool.level, pool.reasons[0].code.as_str()), (Availability::Unknown, "nodes_stale"));
    send(&service, &json!({"source": "lab", "observations": []})).await;
    wait_for_level(&service, Availability::Low).await;
}

async fn a_source_that_never_had_a_pool_is_listed_with_its_problem(database: TestDatabase) {
    let service = start(&database).await;
    send(&service, &problem_of("kubernetes", "nodes_forbidden")).await;
    let source = wait_for_source(&service, "kubernetes", has_code("nodes_forbidden")).await;
    assert_eq!((source.pools, source.kinds.len()), (0, 0));
}

async fn a_problem_goes_on_while_its_code_is_the_same(database: TestDatabase) {
    let service = start(&database).await;
    let since = |source: &Source| source.problem.as_ref().expect("a problem").since;
    send(&service, &problem_of("lab", "nodes_forbidden")).await;
    let first = wait_for_source(&service, "lab", has_code("nodes_forbidden")).await;
    let mut reworded = problem_of("lab", "nodes_forbidden");
    reworded["problem"]["detail"] = "Bind the role.".into();
    send(&service, &reworded).await;
    let has_other_words =
        |source: &Source| source.problem.as_ref().is_some_and(|it| it.detail == "Bind the role.");
    let second = wait_for_source(&service, "lab", has_other_words).await;
    assert_eq!(since(&second), since(&first), "it is the same problem");
    send(&service, &problem_of("lab", "pods_forbidden")).await;
    let third = wait_for_source(&service, "lab", has_code("pods_forbidden")).await;
    assert!(since(&third) > since(&first), "another problem began later");
}

async fn another_source_speaks_while_one_has_a_problem(database: TestDatabase) {
    let service = start(&database).await;
    send(&service, &three_hours()).await;
    let no =
        json!({"provider": "aws", "name": "c5", "available": false, "observed_at": Utc::now()});
    send(&service, &json!({"source": "asker", "observations": [no]})).await;
    wait_for_level(&service, Availability::High).await;
    send(&service, &problem_of("lab", "pods_forbidden")).await;
    wait_for_level(&service, Availability::Low).await;
    let page: AvailabilityPage = get(&service, "/v1/availability?name=c5").await;
    assert_eq!(page.items[0].source, "asker");
    let codes: Vec<&str> = page.items[0].reasons.iter().map(|it| it.code.as_str()).collect();
    assert!(
        !codes.contains(&"pods_forbidden") && !codes.contains(&"sources_disagree"),
        "{codes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_that_one_process_takes_in_is_shown_by_the_other_one() {
    let database = TestDatabase::mysql().await;
    drop(database.migrated().await);
    let (one, other) = (two_pods::start(&database).await, two_pods::start(&database).await);
    send(&one, &three_hours()).await;
    wait_for_level(&other, Availability::High).await;
    send(&one, &problem_of("lab", "pods_forbidden")).await;
    let mut shown: Vec<Option<DateTime<Utc>>> = Vec::new();
    for service in [&one, &other] {
        wait_for_level(service, Availability::Unknown).await;
        let source = wait_for_source(service, "lab", has_code("pods_forbidden")).await;
        shown.push(source.problem.map(|problem| problem.since));
    }
    assert_eq!(shown[0], shown[1]);
    send(&other, &json!({"source": "lab", "observations": []})).await;
    for service in [&one, &other] {
        wait_for_level(service, Availability::High).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_problem_that_speaks_of_unlisted_pools_is_refused() {
    let service = TestService::on_sqlite().await;
    let mut batch = problem_of("lab", "pods_forbidden");
    batch["unlisted"] = "unchanged".into();
    batch["observed_at"] = json!(Utc::now() - TimeDelta::minutes(1));
    let answer = service.observe(&batch).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let refusal: hardware_api::Problem = answer.json().await.expect("a problem document");
    assert_eq!(
        (refusal.code.as_str(), refusal.field.as_deref()),
        ("invalid_field", Some("unlisted"))
    );
    let sources: SourceList = get(&service, "/v1/sources").await;
    assert_eq!(sources.items, [], "nothing of it was recorded");
}

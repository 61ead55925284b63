//! `POST /v1/observations`

use chrono::{TimeDelta, Utc};
use hardware_api::{Availability, ObservationSummary};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    service::{TOKEN, TestService, replace_file, report},
};

async fn problem(response: Response) -> Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    response.json().await.expect("a problem document")
}

async fn summary(response: Response) -> ObservationSummary {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("a summary")
}

fn warnings(summary: &ObservationSummary) -> Vec<(&str, u32)> {
    summary.warnings.iter().map(|warning| (warning.code.as_str(), warning.count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_can_be_sent_twice() {
    let service = TestService::on_sqlite().await;
    let started = Utc::now() - TimeDelta::minutes(1);
    let seen = |second: i64, in_use: u32| {
        json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": in_use,
            "observed_at": started + TimeDelta::seconds(second)})
    };
    let batch = json!({"source": "lab", "observations": [seen(0, 1), seen(10, 1), seen(20, 2)]});
    let first = summary(service.observe(&batch).await).await;
    assert_eq!((first.accepted, first.unchanged, first.refused_total), (2, 1, 0));
    let second = summary(service.observe(&batch).await).await;
    assert_eq!(second, ObservationSummary { duplicates: 3, ..ObservationSummary::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_time_can_be_sent_twice_although_its_observations_have_none() {
    let service = TestService::on_sqlite().await;
    let seen = json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": 1});
    let batch = json!({"source": "lab", "observed_at": Utc::now(), "observations": [seen]});
    let first = summary(service.observe(&batch).await).await;
    assert_eq!(first, ObservationSummary { accepted: 1, ..ObservationSummary::default() });
    let second = summary(service.observe(&batch).await).await;
    assert_eq!(second, ObservationSummary { duplicates: 1, ..ObservationSummary::default() });
    let undated = json!({"source": "lab", "observations": [seen]});
    let third = summary(service.observe(&undated).await).await;
    assert_eq!((third.unchanged, warnings(&third)), (1, vec![("no_observed_at", 1)]));
}

/// Every kind of refusal and of warning in one answer. The detail that names this server's time is
/// left out of the snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_lists_what_was_refused_and_what_is_worth_a_look() {
    let service = TestService::on_sqlite().await;
    let started = Utc::now() - TimeDelta::days(2);
    let seen = |name: &str, second: i64, in_use: u32| {
        json!({"provider": "Amazon", "name": name, "total": 8, "in_use": in_use,
            "observed_at": started + TimeDelta::seconds(second)})
    };
    let first = [seen("c5", 0, 1), seen("c5", 60, 1)];
    summary(service.observe(&json!({"source": "lab", "observations": first})).await).await;
    let batch = json!({"source": "lab", "observations": [
        seen("c5", 30, 7),
        {"provider": "Amazon", "name": "c5", "total": "many"},
        seen("c5", 3600, 1),
        seen("m5", 0, 1),
        {"provider": "Amazon", "name": "c5", "available": true,
            "observed_at": "2999-01-01T00:00:00Z"},
        {"provider": "Azure", "name": "H16mr", "available": true},
        seen("c5", -31 * 86_400, 1),
        seen("c5", -60, 1),
    ], "unlisted": "unchanged"});
    let mut answer = summary(service.observe(&batch).await).await;
    assert_eq!((answer.accepted, answer.late, answer.refused_total), (3, 1, 4));
    let refused: Vec<(u32, &str)> =
        answer.refused.iter().map(|item| (item.index, item.code.as_str())).collect();
    assert_eq!(
        refused,
        [(0, "contradicts"), (1, "invalid_field"), (4, "observed_in_future"), (6, "too_old")]
    );
    assert_eq!(
        warnings(&answer),
        [
            ("no_observed_at", 1),
            ("slower_than_declared", 1),
            ("too_old", 3),
            ("unlisted", 1),
            ("incomplete", 4)
        ]
    );
    // These name times.
    let known = std::mem::take(&mut answer.refused[0].detail);
    assert!(known.contains("(on-demand, unit) is known to have been 7 of 8 free from"), "{known}");
    let old = std::mem::take(&mut answer.refused[3].detail);
    assert!(old.contains("HISTORY_RETENTION"), "{old}");
    let future = std::mem::take(&mut answer.refused[2].detail);
    assert!(future.ends_with(r#"found "2999-01-01T00:00:00Z""#), "{future}");
    insta::assert_json_snapshot!(answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_which_nothing_is_taken_is_processed_all_the_same() {
    let service = TestService::on_sqlite().await;
    let batch = json!({"source": "lab", "observations": vec![json!({}); 10_000]});
    let answer = summary(service.observe(&batch).await).await;
    assert_eq!((answer.accepted, answer.refused_total, answer.refused.len()), (0, 10_000, 100));
    assert_eq!(answer.refused[99].index, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_in_use_than_there_is_counts_as_full() {
    let service = TestService::on_sqlite().await;
    assert_eq!(summary(service.observe(&report("c5", 8, 9)).await).await.accepted, 1);
    eventually("a full pool makes the row LOW", async || {
        (service.level("c5").await == Some(Availability::Low)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_taken_however_it_is_written() {
    let service = TestService::on_sqlite().await;
    let body = "\u{FEFF}{\"source\": \"lab\", \"expected_interval_s\": 6e1, \"observations\": [
        {\"provider\": \"Amazon\", \"name\": \"c5\", \"total\": 8.0, \"in_use\": -0}]}";
    let request = service.client.post(format!("{}/v1/observations", service.url));
    let response = request.bearer_auth(TOKEN).body(body).send().await.expect("an answer");
    assert_eq!(summary(response).await.accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_only_know_yes_or_no_are_taken() {
    let service = TestService::on_sqlite().await;
    let no = json!({"provider": "Amazon", "name": "c5", "available": false});
    summary(service.observe(&json!({"source": "lab", "observations": [no]})).await).await;
    eventually("a no makes the row LOW", async || {
        (service.level("c5").await == Some(Availability::Low)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_batch_is_said_in_full() {
    let service = TestService::on_sqlite().await;
    let batch = json!({"source": "lab", "expected_interval_s": 0.5, "observations": []});
    let response = service.observe(&batch).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    insta::assert_json_snapshot!(problem(response).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_observation_leaves_the_others_alone() {
    let service = TestService::on_sqlite().await;
    let good = json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": 0});
    let wrong = json!({"provider": "Amazon", "name": "c5", "total": "many"});
    let batch = json!({"source": "lab", "observations": [good, wrong]});
    let answer = summary(service.observe(&batch).await).await;
    assert_eq!((answer.accepted, answer.refused_total), (1, 1));
    let detail = "field observations[1].total: expected a whole number from 0 to 2147483647, found \
                  \"many\"";
    assert_eq!(answer.refused[0].detail, detail);
    eventually("the good one shows", async || {
        (service.level("c5").await != Some(Availability::Unknown)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_the_future_is_refused() {
    let service = TestService::on_sqlite().await;
    let at = Utc::now() + TimeDelta::minutes(5);
    let batch = json!({"source": "lab", "observed_at": at, "observations": []});
    let response = service.observe(&batch).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let problem = problem(response).await;
    assert_eq!(problem["code"], "observed_in_future");
    assert_eq!(problem["field"], "observed_at");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_token_is_let_in() {
    let service = TestService::on_sqlite().await;
    let url = format!("{}/v1/observations", service.url);
    let send = async |authorization: Option<&str>| {
        let mut request = service.client.post(&url).json(&report("c5", 8, 8));
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.send().await.expect("an answer")
    };
    for wrong in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic dDp0"), Some(TOKEN)] {
        let response = send(wrong).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"observations\"");
        assert_eq!(problem(response).await["code"], "unauthorized");
    }
    assert_eq!(send(Some(&format!("bearer {TOKEN}"))).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_route_is_closed() {
    let service = TestService::with(&[]).await;
    service.wait_until_ready().await;
    let response = service.observe(&report("c5", 8, 8)).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(problem(response).await["code"], "observations_disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_replaced_in_its_file_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    replace_file(&file, "an-older-token\n");
    let path = file.to_str().expect("UTF-8");
    let service = TestService::with(&["--observations-token-file", path]).await;
    service.wait_until_ready().await;
    assert_eq!(service.observe(&report("c5", 8, 8)).await.status(), StatusCode::UNAUTHORIZED);
    replace_file(&file, TOKEN);
    eventually("the new token is let in", async || {
        service.observe(&report("c5", 8, 8)).await.status().is_success().then_some(())
    })
    .await;
}

/// A batch of one source, sent with some token: the status and the code of the problem, if any.
async fn send_as(service: &TestService, source: &str, token: &str) -> (u16, String) {
    let seen = json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": 1});
    let request = service.client.post(format!("{}/v1/observations", service.url));
    let request = request.json(&json!({"source": source, "observations": [seen]}));
    let response = request.bearer_auth(token).send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_a_token_of_its_own_is_let_in_with_that_one_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    replace_file(&file, r#"{"rack": "rack-token", "shelf": "shelf-token"}"#);
    let path = file.to_str().expect("UTF-8");
    let options = ["--observations-token", TOKEN, "--source-tokens-file", path];
    let service = TestService::with(&options).await;
    service.wait_until_ready().await;
    let table = [
        ("rack", "rack-token", 200, ""),
        (" rack ", "rack-token", 200, ""),
        ("lab", TOKEN, 200, ""),
        ("rack", TOKEN, 403, "wrong_source"),
        ("rack", "shelf-token", 403, "wrong_source"),
        ("lab", "rack-token", 403, "wrong_source"),
        ("rack", "wrong", 401, "unauthorized"),
    ];
    for (source, token, status, code) in table {
        let found = send_as(&service, source, token).await;
        assert_eq!(found, (status, code.to_owned()), "{source} with {token}");
    }
    replace_file(&file, r#"{"rack": "next-token"}"#);
    eventually("the new token is let in", async || {
        (send_as(&service, "rack", "next-token").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(send_as(&service, "rack", "rack-token").await.0, 401, "the old one is not");
    assert_eq!(send_as(&service, "shelf", TOKEN).await.0, 200, "it has no token of its own now");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_shared_token_only_sources_with_their_own_are_let_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    replace_file(&file, r#"{"rack": "rack-token"}"#);
    let path = file.to_str().expect("UTF-8");
    let service = TestService::with(&["--source-tokens-file", path]).await;
    service.wait_until_ready().await;
    assert_eq!(send_as(&service, "rack", "rack-token").await.0, 200);
    let refused = send_as(&service, "lab", "rack-token").await;
    assert_eq!(refused, (403, "wrong_source".to_owned()));
    assert_eq!(send_as(&service, "lab", TOKEN).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_source_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens");
    replace_file(&file, r#"{"lab": "lab-token"}"#);
    let path = file.to_str().expect("UTF-8");
    let options = ["--observations-token", TOKEN, "--source-tokens-file", path];
    let service = TestService::with(&options).await;
    service.wait_until_ready().await;
    let problem = problem(service.observe(&report("c5", 8, 8)).await).await;
    let detail = "the bearer token does not open source \"lab\"; use the token of this source";
    assert_eq!(problem["detail"], detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let service = TestService::on_sqlite().await;
    let request = service.client.post(format!("{}/v1/observations", service.url));
    // One byte too many: of a much larger one the server may close the connection before it is sent.
    let response = request.bearer_auth(TOKEN).body(vec![b' '; 4 * 1024 * 1024 + 1]).send().await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(response).await["code"], "body_too_large");
    assert_eq!(service.observe(&report("c5", 8, 8)).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_is_taken() {
    let service = TestService::on_sqlite().await;
    let seen = |number: u32| json!({"provider": "p", "name": format!("n{number}"), "total": 1, "in_use": 0});
    let observations = |count: u32| (0..count).map(seen).collect::<Vec<_>>();
    let full = json!({"source": "lab", "observations": observations(10_000)});
    assert_eq!(summary(service.observe(&full).await).await.accepted, 10_000);
    let over = json!({"source": "lab", "observations": observations(10_001)});
    let response = service.observe(&over).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await["found"], "a list of 10001");
}

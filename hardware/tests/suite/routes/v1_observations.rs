//! `POST /v1/observations`

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

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_can_be_sent_twice() {
    let service = TestService::on_sqlite().await;
    let seen = |second: u32, in_use: u32| {
        json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": in_use,
            "observed_at": format!("2026-01-01T00:00:{second:02}Z")})
    };
    let batch = json!({"source": "lab", "observations": [seen(0, 1), seen(10, 1), seen(20, 2)]});
    let first = summary(service.observe(&batch).await).await;
    let expected = ObservationSummary { accepted: 2, unchanged: 1, duplicates: 0, out_of_order: 0 };
    assert_eq!(first, expected);
    let second = summary(service.observe(&batch).await).await;
    assert_eq!(second, ObservationSummary { duplicates: 3, ..ObservationSummary::default() });
    let late = json!({"source": "lab", "observations": [seen(5, 7)]});
    let late = summary(service.observe(&late).await).await;
    assert_eq!(late, ObservationSummary { out_of_order: 1, ..ObservationSummary::default() });
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
async fn what_is_wrong_is_said_in_full() {
    let service = TestService::on_sqlite().await;
    let response = service.observe(&report("c5", 8, 9)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    insta::assert_json_snapshot!(problem(response).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_observation_keeps_the_whole_batch_out() {
    let service = TestService::on_sqlite().await;
    let good = json!({"provider": "Amazon", "name": "c5", "total": 8, "in_use": 0});
    let wrong = json!({"provider": "Amazon", "name": "c5", "total": "many"});
    let batch = json!({"source": "lab", "observations": [good, wrong]});
    assert_eq!(service.observe(&batch).await.status(), StatusCode::BAD_REQUEST);
    // The next batch makes the list current, and the row shows that only this one was taken.
    summary(service.observe(&report("H16mr", 1, 0)).await).await;
    let row = json!({"provider": "Azure", "name": "H16mr", "total": 1, "in_use": 1});
    service.observe(&json!({"source": "other", "observations": [row]})).await;
    eventually("the later batch shows", async || {
        (service.level("H16mr").await == Some(Availability::Low)).then_some(())
    })
    .await;
    assert_eq!(service.level("c5").await, Some(Availability::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_observation_is_refused() {
    let service = TestService::on_sqlite().await;
    let at = chrono::Utc::now() + chrono::TimeDelta::minutes(5);
    let seen = json!({"provider": "p", "name": "n", "available": true, "observed_at": at});
    let response = service.observe(&json!({"source": "lab", "observations": [seen]})).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let problem = problem(response).await;
    assert_eq!(problem["code"], "observed_in_future");
    assert_eq!(problem["field"], "observations[0].observed_at");
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

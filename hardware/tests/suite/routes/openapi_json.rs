//! `GET /openapi.json`

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::service::TestService;

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_changes_only_on_purpose() {
    let service = TestService::on_sqlite().await;
    let document: Value = service.get("/openapi.json").await.json().await.expect("JSON");
    insta::assert_json_snapshot!(document);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_would_do_nothing_is_refused() {
    let service = TestService::on_sqlite().await;
    let response = service.get("/openapi.json?format=yaml").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "unknown_parameter");
    assert_eq!(problem["field"], "format");
}

//! Everything else: what is not there is said in the same form as every other error.

use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use crate::support::service::TestService;

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_there_is_a_problem_document() {
    let service = TestService::on_sqlite().await;
    let response = service.get("/nowhere").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    insta::assert_json_snapshot!(problem);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_taken_is_a_problem_document() {
    let service = TestService::on_sqlite().await;
    let request = service.client.request(Method::DELETE, format!("{}/hardware/", service.url));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "method_not_allowed");
}

//! Requests that cannot be answered as asked.

use hardware_api::Problem;
use portal::CachePolicy;
use reqwest::Method;

use crate::support::{
    hardware::{FakeHardware, both_rows},
    portal::TestPortal,
};

#[tokio::test]
async fn a_wrong_address_gets_a_page_in_a_browser() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let response = portal.browse("/hardwear/%3Cscript%3E").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(response.headers()["cache-control"], CachePolicy::NoStore.header_value());
    assert_eq!(response.headers()["vary"], "accept");
    assert!(response.headers().contains_key("content-security-policy"));
    let page = response.text().await.expect("text");
    assert!(page.contains("There is nothing at /hardwear/"), "{page}");
    assert!(page.contains("href=\"/\"") && !page.contains("<script"), "{page}");
}

#[tokio::test]
async fn a_wrong_address_gets_a_problem_document_in_a_program() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    for accept in ["*/*", "application/json", "text/html;q=0"] {
        let response = portal.send(Method::GET, "/hardware/", &[("accept", accept)]).await;
        assert_eq!(response.status(), 404, "{accept}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Problem = response.json().await.expect("a problem");
        assert_eq!((problem.status, problem.code.as_str()), (404, "not_found"));
        assert!(problem.detail.contains("/hardware/"), "{problem:?}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    for path in ["/", "/rows", "/healthz"] {
        let response = portal.send(Method::POST, path, &[]).await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()["allow"], "GET,HEAD", "{path}");
        let problem: Problem = response.json().await.expect("a problem");
        assert_eq!(problem.code, "method_not_allowed");
    }
}

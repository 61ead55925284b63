//! `GET /rows`

use portal::CachePolicy;
use reqwest::Method;

use crate::support::{
    eventually,
    hardware::{FakeHardware, both_rows},
    portal::{TestPortal, row_texts},
};

#[tokio::test]
async fn the_fragment_is_the_changing_part_of_the_page() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    portal.page_with("<tbody>").await;
    // The minute may turn between the two.
    let rows = eventually("a page with the rows in it", async || {
        let rows = portal.get("/rows").await.text().await.expect("text");
        portal.page().await.contains(rows.trim()).then_some(rows)
    })
    .await;
    assert!(!rows.contains("<html"), "{rows}");
    assert_eq!(row_texts(&rows).len(), 2);
}

#[tokio::test]
async fn an_unchanged_list_costs_a_304_that_still_tells_its_age() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    portal.page_with("<tbody>").await;
    // The minute may turn between two requests; then the next one has the new tag.
    let response = eventually("a 304", async || {
        let response = portal.get("/rows").await;
        assert_eq!(response.headers()["cache-control"], CachePolicy::Revalidate.header_value());
        let tag = response.headers()["etag"].to_str().expect("text").to_owned();
        let again = portal.send(Method::GET, "/rows", &[("if-none-match", &tag)]).await;
        (again.status() == 304).then_some(again)
    })
    .await;
    let age: u64 = response.headers()["age"].to_str().expect("text").parse().expect("a number");
    assert!((1..60).contains(&age), "hardware said 1 s, the portal says {age} s");
}

#[tokio::test]
async fn without_a_list_there_is_no_age() {
    let hardware = FakeHardware::start(crate::support::hardware::Behaviour::Hang).await;
    let portal = TestPortal::of(&hardware).await;
    let response = portal.get("/rows").await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("age"));
}

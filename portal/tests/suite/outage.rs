//! What the page says while `hardware` is away, and that it recovers.

use std::time::Instant;

use axum::http::StatusCode;

use crate::support::{
    eventually,
    hardware::{Behaviour, FakeHardware, both_rows, json, list},
    portal::{TestPortal, row_texts},
};

const ROWS: [(&str, &str, &str); 1] = [("Amazon", "c5", "HIGH")];

#[tokio::test]
async fn the_page_is_there_before_the_first_answer() {
    let hardware = FakeHardware::start(Behaviour::Hang).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page().await;
    assert!(page.contains("<strong>Starting.</strong>"), "{page}");
    assert!(!page.contains("<table"), "{page}");
    hardware.now(both_rows());
    portal.page_with("<tbody>").await;
}

#[tokio::test]
async fn the_page_says_that_hardware_cannot_be_reached() {
    // Nothing listens on port 1.
    let portal = TestPortal::asking("127.0.0.1:1").await;
    let page = portal.page_with("The hardware service cannot be reached").await;
    assert!(page.contains("There is no earlier list to show"), "{page}");
    assert!(!page.contains("127.0.0.1"), "addresses are nobody's business:\n{page}");
}

#[tokio::test]
async fn every_kind_of_failure_keeps_the_last_good_list_and_heals() {
    let hardware = FakeHardware::start(list(&ROWS)).await;
    let portal = TestPortal::of(&hardware).await;
    portal.page_with("<tbody>").await;
    for (behaviour, words) in [
        (Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR), "answers with error 500"),
        (Behaviour::Status(StatusCode::SERVICE_UNAVAILABLE), "The hardware service is not ready"),
        (Behaviour::Status(StatusCode::FOUND), "answers with error 302"),
        (Behaviour::Garbage("<html>"), "gives an unreadable answer"),
        (Behaviour::Garbage("[{\"provider\":\"Amazon\"}]"), "gives an unreadable answer"),
        (Behaviour::Hang, "does not answer in time"),
    ] {
        hardware.now(behaviour.clone());
        let page = portal.page_with(words).await;
        assert!(page.contains("These levels were last confirmed less than a minute ago"), "{page}");
        assert_eq!(row_texts(&page), ["Amazon - c5: HIGH"], "{behaviour:?}");
        hardware.now(list(&ROWS));
        eventually("the notice is gone", async || {
            (!portal.page().await.contains("notice-warning")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_list_that_hardware_calls_stale_says_since_when() {
    let hardware = FakeHardware::start(Behaviour::StaleList(json(&ROWS), 185)).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("The hardware service cannot confirm its list").await;
    assert!(page.contains("last confirmed 3 min ago, at "), "{page}");
    assert_eq!(row_texts(&page), ["Amazon - c5: HIGH"]);
    let age = portal.get("/rows").await.headers()["age"].to_str().expect("text").parse::<u64>();
    assert!((185..245).contains(&age.expect("a number")));
}

#[tokio::test]
async fn an_unchanged_list_is_not_sent_again() {
    let hardware = FakeHardware::start(list(&ROWS)).await;
    let portal = TestPortal::of(&hardware).await;
    eventually("several answers", async || (hardware.not_modified_answers() > 3).then_some(()))
        .await;
    assert_eq!(hardware.full_answers(), 1);
    assert_eq!(row_texts(&portal.page().await), ["Amazon - c5: HIGH"]);
}

#[tokio::test]
async fn a_failing_hardware_is_asked_less_often() {
    let hardware = FakeHardware::start(Behaviour::Status(StatusCode::BAD_GATEWAY)).await;
    let _portal = TestPortal::of(&hardware).await;
    let started = Instant::now();
    eventually("six attempts", async || (hardware.failed_answers() >= 6).then_some(())).await;
    // Pauses of at least 100, 200, 400, 800 and 1600 ms; at the usual interval it were 500 ms.
    assert!(started.elapsed().as_millis() > 3000, "{:?}", started.elapsed());
}

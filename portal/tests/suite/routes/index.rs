//! `GET /`

use portal::CachePolicy;

use crate::support::{
    eventually,
    hardware::{Behaviour, FakeHardware, both_rows, list},
    portal::{TestPortal, row_texts},
};

#[tokio::test]
async fn the_page_shows_both_rows_of_the_original_in_its_words() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::patient(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    assert_eq!(row_texts(&page), ["Amazon - c5: HIGH", "Azure - H16mr: LOW"]);
    assert!(!page.contains("notice-warning"), "nothing to warn of:\n{page}");
    assert!(page.contains("Last confirmed at <time datetime="), "{page}");
}

#[tokio::test]
async fn a_hostile_name_is_only_text() {
    let name = "<script>alert(1)</script>\"'&";
    let hardware = FakeHardware::start(list(&[("<b>", name, "UNKNOWN")])).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
}

#[tokio::test]
async fn a_changed_level_appears() {
    let hardware = FakeHardware::start(list(&[("Amazon", "c5", "HIGH")])).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    assert_eq!(row_texts(&page), ["Amazon - c5: HIGH"]);
    hardware.now(list(&[("Amazon", "c5", "MEDIUM")]));
    let page = portal.page_with("level-MEDIUM\"><svg class=\"icon\" aria-hidden=\"true\"").await;
    assert!(!row_texts(&page).is_empty());
}

#[tokio::test]
async fn an_empty_catalog_says_what_to_do() {
    let hardware = FakeHardware::start(list(&[])).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("No hardware is listed yet").await;
    assert!(!page.contains("<table"), "{page}");
}

#[tokio::test]
async fn the_page_may_be_kept_but_not_used_without_asking() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    portal.page_with("<tbody>").await;
    let response = portal.browse("/?utm_source=chat").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(response.headers()["cache-control"], CachePolicy::Revalidate.header_value());
    // The minute may turn between two requests; then the next one has the new tag.
    eventually("a 304", async || {
        let response = portal.browse("/").await;
        let tag = response.headers()["etag"].to_str().expect("text").to_owned();
        let again = portal.send(reqwest::Method::GET, "/", &[("if-none-match", &tag)]).await;
        if again.status() != 304 {
            return None;
        }
        assert_eq!(again.headers()["etag"], tag.as_str());
        assert!(again.text().await.expect("text").is_empty());
        Some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_inline_and_nothing_of_third_parties() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    let response = portal.get("/").await;
    let headers = response.headers();
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    for forbidden in [" style=", "<style", "onclick", "onload", "://", "javascript:"] {
        assert!(!page.contains(forbidden), "{forbidden} in:\n{page}");
    }
    let scripts = page.matches("<script").count();
    assert_eq!((scripts, page.matches("<script type=\"module\" src=\"/assets/").count()), (1, 1));
}

#[tokio::test]
async fn a_page_for_assistive_technology() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    for part in [
        "<html lang=\"en\">",
        "<header>",
        "<main ",
        "<caption",
        "<th scope=\"col\">Availability</th>",
        "<th scope=\"row\">",
        "role=\"status\" aria-live=\"polite\"",
        "<a class=\"skip\" href=\"#list\">",
        "<noscript>",
    ] {
        assert!(page.contains(part), "{part} is missing in:\n{page}");
    }
    assert_eq!(page.matches("<h1>").count(), 1);
}

#[tokio::test]
async fn every_client_gets_the_page_in_an_encoding_it_reads() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    for (accepted, expected) in [("br, gzip", "br"), ("gzip", "gzip")] {
        let headers = [("accept-encoding", accepted)];
        let response = portal.send(reqwest::Method::GET, "/", &headers).await;
        assert_eq!(response.headers()["content-encoding"], expected);
        assert_eq!(response.headers()["vary"], "accept-encoding");
        let bytes = response.bytes().await.expect("a body");
        assert!(bytes.len() < page.len() / 2, "{} of {} bytes", bytes.len(), page.len());
    }
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let hardware = FakeHardware::start(Behaviour::Hang).await;
    let portal = TestPortal::of(&hardware).await;
    let response = portal.send(reqwest::Method::HEAD, "/", &[]).await;
    assert_eq!(response.status(), 200);
    assert_ne!(response.headers()["content-length"], "0");
}

//! `GET /assets/…`

use portal::CachePolicy;

use crate::support::{
    hardware::{FakeHardware, both_rows},
    portal::TestPortal,
};

#[tokio::test]
async fn what_the_page_refers_to_is_there_and_never_changes() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page().await;
    let paths: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    for path in paths {
        let response = portal.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers();
        assert_eq!(headers["cache-control"], CachePolicy::Immutable.header_value());
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let expected = match path.rsplit_once('.').expect("an extension").1 {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(headers["content-type"], expected, "{path}");
    }
}

#[tokio::test]
async fn the_address_of_another_version_is_not_answered_with_this_one() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let response = portal.get("/assets/0123456789abcdef0123456789abcdef.css").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["cache-control"], CachePolicy::NoStore.header_value());
}

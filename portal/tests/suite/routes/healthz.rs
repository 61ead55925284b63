//! `GET /healthz`

use portal::CachePolicy;

use crate::support::portal::TestPortal;

#[tokio::test]
async fn it_is_healthy_without_hardware() {
    let portal = TestPortal::asking("127.0.0.1:1").await;
    let response = portal.get("/healthz").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], CachePolicy::NoStore.header_value());
    assert_eq!(response.text().await.expect("text"), "ok\n");
}

//! `GET /credentials`, on the admin listener

use serde_json::{Value, json};

use crate::support::service::TestService;

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_database_has_no_credentials() {
    let service = TestService::on_sqlite().await;
    let report: Value = service.get_admin("/credentials").await.json().await.expect("JSON");
    assert_eq!(report, json!({"generation": 0, "candidate": null, "connections": {}}));
}

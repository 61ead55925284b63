//! `GET /hardware/`

use std::{io::Read, time::Duration};

use flate2::read::GzDecoder;
use hardware_api::Availability;
use reqwest::{StatusCode, header};
use serde_json::json;

use crate::support::{
    database::execute,
    eventually,
    service::{TestService, replace_file, report},
};

/// Files that are followed are read twice a second.
const LONGER_THAN_A_FILE_IS_LEFT_UNREAD: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_what_clients_of_the_original_expect() {
    let service = TestService::on_sqlite().await;
    let response = service.get("/hardware/").await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=1, stale-if-error=60");
    let age: u64 = headers[header::AGE].to_str().expect("text").parse().expect("seconds");
    assert!(age < 5, "it is refreshed ten times a second, and {age} s old");
    assert_eq!(headers[header::VARY], "accept-encoding");
    assert_eq!(headers["snapshot-freshness"], "fresh");
    let body: serde_json::Value = response.json().await.expect("JSON");
    insta::assert_json_snapshot!(body);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_are_ignored_as_they_always_were() {
    let service = TestService::on_sqlite().await;
    assert_eq!(service.get("/hardware/?colour=red").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_without_a_slash_leads_to_the_one_with_it() {
    let service = TestService::on_sqlite().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("a client");
    let response = client.get(format!("{}/hardware", service.url)).send().await.expect("sent");
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()[header::LOCATION], "/hardware/");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_has_not_changed_is_not_sent_again() {
    let service = TestService::on_sqlite().await;
    let url = format!("{}/hardware/", service.url);
    let tag = service.get("/hardware/").await.headers()[header::ETAG].clone();
    let ask = async |tags: &str| {
        let request = service.client.get(&url).header(header::IF_NONE_MATCH, tags);
        request.send().await.expect("an answer")
    };
    let tag = tag.to_str().expect("ASCII");
    let strong = tag.trim_start_matches("W/");
    for tags in [tag, strong, "*", &format!("\"x\", {tag}")] {
        let response = ask(tags).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(response.headers()[header::ETAG], tag);
        assert!(response.bytes().await.expect("a body").is_empty());
    }
    assert_eq!(ask("\"x\"").await.status(), StatusCode::OK);

    service.observe(&report("c5", 8, 8)).await;
    eventually("another list has another tag", async || {
        (ask(tag).await.status() == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_comes_in_the_encoding_that_the_client_takes() {
    let service = TestService::on_sqlite().await;
    let ask = async |accepted: &str| {
        let request = service.client.get(format!("{}/hardware/", service.url));
        request.header(header::ACCEPT_ENCODING, accepted).send().await.expect("an answer")
    };
    let plain = service.get("/hardware/").await.bytes().await.expect("a body");

    let gzip = ask("gzip, deflate").await;
    assert_eq!(gzip.headers()[header::CONTENT_ENCODING], "gzip");
    let mut unpacked = Vec::new();
    let body = gzip.bytes().await.expect("a body");
    GzDecoder::new(&*body).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain);

    let brotli = ask("gzip, br").await;
    assert_eq!(brotli.headers()[header::CONTENT_ENCODING], "br");
    let mut unpacked = Vec::new();
    let body = brotli.bytes().await.expect("a body");
    brotli::Decompressor::new(&*body, 4096).read_to_end(&mut unpacked).expect("brotli");
    assert_eq!(unpacked, plain);

    let refused = ask("br;q=0, gzip;q=0").await;
    assert!(!refused.headers().contains_key(header::CONTENT_ENCODING));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_other_tools_insert_appear() {
    let service = TestService::on_sqlite().await;
    let database = hardware::store::StoreConfig::Sqlite { path: service.database() };
    let other_tool = hardware::store::Db::new(&database).expect("a pool");
    execute(&other_tool, "INSERT INTO hardware (provider, name) VALUES ('Hetzner', 'ax41')").await;
    let level = eventually("the row appears", async || service.level("ax41").await).await;
    assert_eq!(level, Availability::Unknown);
    let names: Vec<String> = service.list().await.into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["c5", "H16mr", "ax41"], "in the order of the table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_has_the_level_of_its_best_pool() {
    let service = TestService::on_sqlite().await;
    service.observe(&report("c5.large", 8, 8)).await;
    eventually("a full pool makes the row LOW", async || {
        (service.level("c5").await == Some(Availability::Low)).then_some(())
    })
    .await;
    service.observe(&report("c5.xlarge", 8, 1)).await;
    eventually("a free pool, known for a moment only, makes it MEDIUM", async || {
        (service.level("c5").await == Some(Availability::Medium)).then_some(())
    })
    .await;
    assert_eq!(service.level("H16mr").await, Some(Availability::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_of_free_units_make_a_row_high() {
    let service = TestService::on_sqlite().await;
    let now = chrono::Utc::now();
    let seen = |minutes: i64| {
        json!({"provider": "Azure", "name": "Standard_H16mr", "total": 4, "in_use": 1,
            "observed_at": (now - chrono::TimeDelta::minutes(minutes)).to_rfc3339()})
    };
    let observations: Vec<_> = (0..600).rev().map(seen).collect();
    service.observe(&json!({"source": "lab", "observations": observations})).await;
    eventually("ten hours of reports make the row HIGH", async || {
        (service.level("H16mr").await == Some(Availability::High)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_followed_and_never_deletes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("catalog.json");
    replace_file(&file, r#"[{"provider":"Google","name":"n2"}]"#);
    let path = file.to_str().expect("UTF-8").to_owned();
    let service = TestService::with(&["--catalog-file", &path]).await;
    service.wait_until_ready().await;
    let names =
        async || -> Vec<String> { service.list().await.into_iter().map(|row| row.name).collect() };
    assert_eq!(names().await, ["n2"], "the catalog is there with the first snapshot");

    replace_file(&file, r#"[{"provider":"Amazon","name":"m5"}]"#);
    eventually("the new entry appears", async || (names().await.len() == 2).then_some(())).await;
    assert_eq!(names().await, ["n2", "m5"], "what left the catalog stays in the table");

    replace_file(&file, "not JSON");
    tokio::time::sleep(LONGER_THAN_A_FILE_IS_LEFT_UNREAD).await;
    assert_eq!(names().await, ["n2", "m5"], "a bad catalog changes nothing");
    replace_file(&file, r#"[{"provider":"Amazon","name":"m5"},{"provider":"OVH","name":"b3"}]"#);
    eventually("a good catalog after a bad one", async || {
        (names().await == ["n2", "m5", "b3"]).then_some(())
    })
    .await;
}

//! The service while its database is late, away or being changed.

use std::time::Duration;

use hardware_api::Availability;
use reqwest::{StatusCode, header};
use secrecy::ExposeSecret;
use service_kit::credentials::CredentialSet;

use crate::support::{
    database::{PASSWORD, TestDatabase, candidate, execute},
    eventually,
    proxy::{Behaviour, Proxy},
    service::{TOKEN, TestService, replace_file, report},
};

/// A service on MySQL, with a proxy between them.
struct World {
    service: TestService,
    proxy: Proxy,
    database: TestDatabase,
    credentials_file: std::path::PathBuf,
}

impl World {
    async fn start() -> Self {
        let database = TestDatabase::mysql().await;
        let mysql = database.mysql_details();
        let proxy = Proxy::start(&mysql.server.host, mysql.server.port).await;
        let folder = tempfile::tempdir().expect("a folder");
        let credentials_file = folder.path().join("credentials.json");
        let set = CredentialSet {
            generation: 1,
            // The server's certificate is good for this name, and the proxy listens there.
            host: "localhost".to_owned(),
            port: proxy.address.port(),
            database: mysql.schema.clone(),
            candidates: vec![candidate(&mysql.user, PASSWORD)],
        };
        replace_file(&credentials_file, set.to_json().expose_secret());
        let service = TestService::in_folder(
            folder,
            &[
                "--mysql-credentials-file",
                credentials_file.to_str().expect("UTF-8"),
                "--mysql-tls-ca-file",
                mysql.server.ca_file.to_str().expect("UTF-8"),
                "--observations-token",
                TOKEN,
            ],
        )
        .await;
        Self { service, proxy, database, credentials_file }
    }

    async fn migrated() -> Self {
        let world = Self::start().await;
        world.database.migrated().await;
        world.service.wait_until_ready().await;
        world
    }

    fn rewrite_credentials(&self, change: impl FnOnce(&mut CredentialSet)) {
        let json = std::fs::read(&self.credentials_file).expect("readable");
        let mut set = CredentialSet::from_json(&json).expect("well-formed");
        change(&mut set);
        replace_file(&self.credentials_file, set.to_json().expose_secret());
    }

    /// Asks until the answer's age reaches `seconds`; every answer must be good.
    async fn serves_until_age(&self, seconds: u64) {
        eventually("the answer grows old", async || {
            let response = self.service.get("/hardware/").await;
            assert_eq!(response.status(), StatusCode::OK);
            let age = response.headers()[header::AGE].to_str().expect("ASCII").to_owned();
            (age.parse::<u64>().expect("a number") >= seconds).then_some(())
        })
        .await;
    }

    async fn is_fresh_again(&self) {
        eventually("the answer is fresh again", async || {
            (self.service.get("/hardware/").await.headers()[header::AGE] == "0").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_schema_says_what_to_do_and_then_gets_ready() {
    let world = World::start().await;
    let service = &world.service;
    let said = eventually("pending migrations are named", async || {
        let response = service.get_admin("/readyz").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let text = response.text().await.expect("text");
        text.contains("migrations pending").then_some(text)
    })
    .await;
    assert!(said.contains("run \"hardware migrate\""), "{said}");
    let response = service.get("/hardware/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    let problem: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "starting");

    world.database.migrated().await;
    service.wait_until_ready().await;
    assert_eq!(service.list().await.len(), 2, "the default catalog");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_database_makes_answers_older_but_never_wrong() {
    let world = World::migrated().await;
    world.proxy.set(Behaviour::Reset);
    world.serves_until_age(2).await;
    assert_eq!(world.service.get_admin("/readyz").await.status(), StatusCode::OK);
    assert_eq!(world.service.get("/feed.atom").await.status(), StatusCode::OK, "from memory");
    let refused = world.service.observe(&report("c5", 8, 8)).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(problem["code"], "database_unavailable");

    world.proxy.set(Behaviour::Pass);
    world.is_fresh_again().await;
    assert_eq!(world.service.observe(&report("c5", 8, 8)).await.status(), StatusCode::OK);
    eventually("observations count again", async || {
        (world.service.level("c5").await == Some(Availability::Low)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_makes_answers_stale_and_is_found_again() {
    let world = World::migrated().await;
    world.proxy.set(Behaviour::Swallow);
    world.serves_until_age(11).await;
    let response = world.service.get("/hardware/").await;
    assert_eq!(response.headers()["snapshot-freshness"], "stale");
    world.proxy.set(Behaviour::Pass);
    world.is_fresh_again().await;
    let response = world.service.get("/hardware/").await;
    assert_eq!(response.headers()["snapshot-freshness"], "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_slows_no_answer() {
    let world = World::migrated().await;
    world.proxy.set(Behaviour::Delay(Duration::from_millis(500)));
    let started = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(world.service.get("/hardware/").await.status(), StatusCode::OK);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_replaced_in_its_file_is_used_without_a_restart() {
    let world = World::migrated().await;
    let mysql = world.database.mysql_details();
    let new = mysql.other_user();
    mysql.create_account(&new, "another-password").await;
    world.rewrite_credentials(|set| {
        set.generation = 2;
        set.candidates = vec![candidate(&new, "another-password")];
    });
    // A login under way counts as a connection, but no candidate has been let in before it ends.
    let report = eventually("a login with the new generation, and none older", async || {
        let report = world.service.get_admin("/credentials").await;
        let report: serde_json::Value = report.json().await.expect("JSON");
        let connections = report["connections"].as_object().expect("an object");
        (connections.keys().eq(["2"]) && !report["candidate"].is_null()).then_some(report)
    })
    .await;
    assert_eq!((&report["generation"], &report["candidate"]), (&2.into(), &0.into()));
    assert!(!report.to_string().contains(&new), "no names: {report}");
    eventually("the server has no session of the old account", async || {
        (mysql.sessions_of(&mysql.user).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_other_tools_insert_into_mysql_appear() {
    let world = World::migrated().await;
    let db = world.database.connect();
    execute(&db, "INSERT INTO hardware (provider, name) VALUES ('Hetzner', 'ax41')").await;
    eventually("the row appears", async || world.service.level("ax41").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_replaced_in_its_file_is_used_without_a_restart() {
    let database = TestDatabase::mysql().await;
    let mysql = database.mysql_details();
    database.migrated().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    replace_file(&file, &format!("{PASSWORD}\n"));
    let (host, path) = (format!("{}:{}", mysql.server.host, mysql.server.port), file.clone());
    let options = [
        ["--mysql-host", &host],
        ["--mysql-user", &mysql.user],
        ["--mysql-password-file", path.to_str().expect("UTF-8")],
        ["--mysql-database", &mysql.schema],
        ["--mysql-tls-ca-file", mysql.server.ca_file.to_str().expect("UTF-8")],
    ];
    let service = TestService::in_folder(folder, options.as_flattened()).await;
    service.wait_until_ready().await;
    let user = &mysql.user;
    let change = format!("ALTER USER '{user}'@'%' IDENTIFIED BY 'another' REQUIRE SSL");
    mysql.server.administer(&[change]).await;
    replace_file(&file, "another");
    eventually("only connections with the new password", async || {
        let report = service.get_admin("/credentials").await;
        let report: serde_json::Value = report.json().await.expect("JSON");
        let connections = report["connections"].as_object().expect("an object");
        connections.keys().eq(["1"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observations_are_written_although_their_client_has_left() {
    let world = World::migrated().await;
    world.proxy.set(Behaviour::Delay(Duration::from_millis(200)));
    let url = format!("{}/v1/observations", world.service.url);
    let impatient = world.service.client.post(url).bearer_auth(TOKEN).json(&report("c5", 8, 8));
    // Longer than the request takes to arrive, and shorter than its writes do: four answers, each 0.4 s late.
    let left = impatient.timeout(Duration::from_secs(1)).send().await;
    assert!(left.expect_err("it should not have waited").is_timeout());
    world.proxy.set(Behaviour::Pass);
    eventually("the observation counts", async || {
        (world.service.level("c5").await == Some(Availability::Low)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_only_be_read_keeps_the_answers_and_takes_batches_later() {
    let world = World::migrated().await;
    let (service, mysql) = (&world.service, world.database.mysql_details());
    assert_eq!(service.observe(&report("c5", 8, 8)).await.status(), StatusCode::OK);
    let rights = "INSERT, UPDATE, DELETE";
    let (schema, user) = (&mysql.schema, &mysql.user);
    // Sessions keep the rights on a schema that they began with.
    let change = async |statement: String| {
        mysql.server.administer(&[statement]).await;
        mysql.kill_sessions().await;
    };
    change(format!("REVOKE {rights} ON {schema}.* FROM '{user}'@'%'")).await;
    let at = chrono::Utc::now();
    let mut batch = report("c5", 8, 1);
    batch["observed_at"] = serde_json::json!(at);
    eventually("a batch is refused", async || {
        (service.observe(&batch).await.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let refused = service.observe(&batch).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "2");
    let problem: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(problem["code"], "database_unavailable");
    world.is_fresh_again().await;
    eventually("what was written before, and nothing of the batch", async || {
        let page = service.get("/v1/availability?name=c5").await;
        let page: serde_json::Value = page.json().await.expect("JSON");
        assert_ne!(page["items"][0]["free"], 7, "the batch was written: {page}");
        (page["items"][0]["free"] == 0).then_some(())
    })
    .await;

    change(format!("GRANT {rights} ON {schema}.* TO '{user}'@'%'")).await;
    eventually("the batch is taken", async || {
        let taken = service.observe(&batch).await;
        let is_taken = taken.status() == StatusCode::OK;
        let summary: serde_json::Value = taken.json().await.expect("JSON");
        (is_taken && summary["refused_total"] == 0).then_some(())
    })
    .await;
    eventually("it shows", async || {
        let page = service.get("/v1/availability?name=c5").await;
        let page: serde_json::Value = page.json().await.expect("JSON");
        (page["items"][0]["free"] == 7).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_only_history_waits_for_it() {
    let world = World::migrated().await;
    let service = &world.service;
    assert_eq!(service.observe(&report("c5", 8, 1)).await.status(), StatusCode::OK);
    let id = eventually("the pool is listed", async || {
        let page = service.get("/v1/availability?name=c5").await;
        let page: serde_json::Value = page.json().await.expect("JSON");
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let history = format!("/v1/pools/{id}/history");
    assert_eq!(service.get(&history).await.status(), StatusCode::OK);
    world.proxy.set(Behaviour::Reset);
    world.serves_until_age(2).await;
    let wanted = serde_json::json!({"provider": "aws", "name": "c5"});
    for (path, body) in [
        ("/v1/check", serde_json::json!({"items": [wanted]})),
        ("/v1/pick", serde_json::json!({"preferences": [wanted], "min_level": "LOW"})),
    ] {
        let url = format!("{}{path}", service.url);
        let answer = service.client.post(url).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    for path in ["/v1/availability", &format!("/v1/pools/{id}"), "/v1/sources", "/v1/quality"] {
        assert_eq!(service.get(path).await.status(), StatusCode::OK, "{path}");
    }
    let away = service.get(&history).await;
    assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(away.headers()[header::RETRY_AFTER], "2");
    let problem: serde_json::Value = away.json().await.expect("JSON");
    assert_eq!(problem["code"], "database_unavailable");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("try again")), "{problem}");
    world.proxy.set(Behaviour::Pass);
    eventually("history is back", async || {
        (service.get(&history).await.status() == StatusCode::OK).then_some(())
    })
    .await;
}

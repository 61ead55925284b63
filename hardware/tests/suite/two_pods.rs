//! Two processes on one server are one service.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use hardware::jobs;
use hardware_api::{Availability, ObservationSummary};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use service_kit::credentials::CredentialSet;

use crate::support::{
    database::{PASSWORD, TestDatabase, candidate},
    eventually,
    service::{TOKEN, TestService, replace_file},
};

pub(crate) async fn start(database: &TestDatabase) -> TestService {
    start_with_jobs_every(jobs::PAUSE, database).await
}

/// A service on a server of its own account, with jobs that are done more often than usual.
pub(crate) async fn start_with_jobs_every(pause: Duration, database: &TestDatabase) -> TestService {
    start_with_jobs_every_and(pause, database, &[]).await
}

/// The same, with further options.
pub(crate) async fn start_with_jobs_every_and(
    pause: Duration,
    database: &TestDatabase,
    further: &[&str],
) -> TestService {
    let mysql = database.mysql_details();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("credentials.json");
    let set = CredentialSet {
        generation: 1,
        host: mysql.server.host.clone(),
        port: mysql.server.port,
        database: mysql.schema.clone(),
        candidates: vec![candidate(&mysql.user, PASSWORD)],
    };
    replace_file(&file, set.to_json().expose_secret());
    let options = [
        "--mysql-credentials-file",
        file.to_str().expect("UTF-8"),
        "--mysql-tls-ca-file",
        mysql.server.ca_file.to_str().expect("UTF-8"),
        "--observations-token",
        TOKEN,
    ];
    let options: Vec<&str> = options.iter().chain(further).copied().collect();
    let service = TestService::with_jobs_every(pause, folder, &options).await;
    service.wait_until_ready().await;
    service
}

/// Three hours in which c5 was free, and H16mr was not.
pub(crate) fn three_hours() -> Value {
    let now = Utc::now();
    let observations: Vec<Value> = (0..=180)
        .flat_map(|minute| {
            let at = now - TimeDelta::minutes(180 - minute);
            [("Amazon", "c5", 2), ("Azure", "H16mr", 8)].map(|(provider, name, in_use)| {
                json!({"provider": provider, "name": name, "total": 8, "in_use": in_use,
                    "observed_at": at})
            })
        })
        .collect();
    json!({"source": "lab", "observations": observations})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_takes_in_the_other_one_shows() {
    let database = TestDatabase::mysql().await;
    drop(database.migrated().await);
    let (one, other) = (start(&database).await, start(&database).await);
    let history = three_hours();
    let answer = one.observe(&history).await;
    let taken: ObservationSummary = answer.json().await.expect("a summary");
    assert_eq!((taken.accepted, taken.unchanged, taken.refused_total), (2, 360, 0));
    for service in [&one, &other] {
        eventually("both show the levels", async || {
            let levels = [service.level("c5").await, service.level("H16mr").await];
            (levels == [Some(Availability::High), Some(Availability::Low)]).then_some(())
        })
        .await;
    }
    assert_eq!(one.list().await, other.list().await);
    // No answer had come, and the balancer chose the other one.
    let again: ObservationSummary = other.observe(&history).await.json().await.expect("a summary");
    assert_eq!(again, ObservationSummary { duplicates: 362, ..ObservationSummary::default() });
}

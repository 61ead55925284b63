//! `GET /feed.atom`, and badges: what is written as XML, judged by a program that others wrote.

use std::{collections::HashSet, time::Duration};

use chrono::{TimeDelta, Utc};
use hardware::store::{Db, StoreConfig};
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    support::{
        clients,
        database::{TestDatabase, execute},
        eventually,
        service::{TOKEN, TestService},
    },
    two_pods::start_with_jobs_every,
};

/// How often changes are looked for here.
const OFTEN: Duration = Duration::from_millis(200);

/// A feed as the other program read it.
#[derive(Debug, Deserialize, PartialEq)]
struct Feed {
    id: String,
    title: String,
    updated: String,
    links: Links,
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Entry {
    id: String,
    title: String,
    summary: String,
    updated: String,
    terms: Vec<String>,
    links: Links,
}

/// Where links lead, from where the feed was read.
#[derive(Debug, Deserialize, PartialEq)]
struct Links {
    #[serde(rename = "self")]
    this: Option<String>,
    alternate: Option<String>,
}

/// Has `document` judged, and returns what was read.
async fn judge(document: &[u8], arguments: &[&str]) -> Value {
    let shown = String::from_utf8_lossy(document);
    clients::run("validate_feed.py", arguments, document, &shown).await
}

/// The feed at a path, valid.
async fn read(service: &TestService, path: &str) -> Feed {
    let answer = service.get(path).await;
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/atom+xml");
    let document = answer.bytes().await.expect("a document");
    let url = format!("{}{path}", service.url);
    serde_json::from_value(judge(&document, &["feed", &url]).await).expect("a feed")
}

async fn count(service: &TestService, path: &str) -> usize {
    let text = service.get(path).await.text().await.expect("text");
    text.matches("<entry>").count()
}

async fn wait_for_entries(service: &TestService, path: &str, entries: usize) {
    eventually(&format!("{path} has {entries} entries"), async || {
        (count(service, path).await == entries).then_some(())
    })
    .await;
}

/// Reports as of some minutes ago.
async fn report(service: &TestService, minutes: &[i64], pools: &[(&str, &str, &str, u32)]) {
    for minutes in minutes {
        let observations: Vec<Value> = pools
            .iter()
            .map(|(provider, name, zone, in_use)| {
                json!({"provider": provider, "name": name, "region": "eu-west-1", "zone": zone,
                    "total": 8, "in_use": in_use})
            })
            .collect();
        let batch = json!({
            "source": "lab", "expected_interval_s": 3600,
            "observed_at": Utc::now() - TimeDelta::minutes(*minutes),
            "observations": observations,
        });
        assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    }
}

const HISTORY: [i64; 4] = [180, 120, 60, 1];

/// Waits until the levels are those that later ones are compared with.
async fn wait_until_known(db: &Db, supplies: usize) {
    eventually("the levels are recorded", async || {
        let known = db.known_levels().await.expect("read");
        let entries: usize = known.buckets.values().map(|bytes| bytes.len() / 10).sum();
        (entries == supplies).then_some(())
    })
    .await;
}

async fn on_sqlite() -> (TestService, Db) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = ["--observations-token", TOKEN];
    let service = TestService::with_jobs_every(OFTEN, folder, &options).await;
    service.wait_until_ready().await;
    let db = Db::new(&StoreConfig::Sqlite { path: service.database() }).expect("a pool");
    (service, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_levels_are_followed() {
    let (service, db) = on_sqlite().await;
    let empty = read(&service, "/feed.atom").await;
    assert_eq!(empty.entries, []);
    let pools = |p5: u32, c5: u32| {
        [
            ("Amazon", "p5.48xlarge", "eu-west-1a", p5),
            ("Amazon", "c5.large", "", c5),
            ("Azure", "H16mr", "", 8),
        ]
    };
    report(&service, &HISTORY, &pools(8, 1)).await;
    wait_until_known(&db, 3).await;
    assert_eq!(read(&service, "/feed.atom").await, empty, "what was never seen has not changed");

    report(&service, &[0], &pools(8, 8)).await;
    wait_for_entries(&service, "/feed.atom", 1).await;
    report(&service, &[0], &pools(0, 8)).await;
    wait_for_entries(&service, "/feed.atom", 2).await;
    let feed = read(&service, "/feed.atom").await;
    let [p5, c5] = feed.entries.as_slice() else { panic!("{feed:?}") };
    assert_eq!(c5.title, "Amazon c5.large eu-west-1: HIGH → LOW");
    assert_eq!(c5.terms, ["LOW"]);
    let sentence = "Fewer units are free than are wanted, as last seen.";
    assert!(c5.summary.starts_with("P 0."), "{c5:?}");
    assert!(c5.summary.ends_with(&format!(" for one unit, on-demand. {sentence}")), "{c5:?}");
    assert!(p5.title.starts_with("Amazon p5.48xlarge eu-west-1a: LOW → "), "{p5:?}");
    assert!(p5.updated >= c5.updated, "{feed:?}");
    assert_eq!(feed.updated, p5.updated);
    assert_eq!((&feed.id, feed.title.as_str()), (&empty.id, "Changes of level"));

    // From wherever it was asked for, its links lead to the pools.
    let pool = c5.links.alternate.clone().expect("a link");
    let detail: Value =
        service.client.get(&pool).send().await.expect("sent").json().await.expect("JSON");
    assert_eq!(detail["name"], "c5.large", "{pool}: {detail}");
    let slashed = read(&service, "/feed.atom//?level=low").await;
    assert_eq!(
        slashed.entries[0].links.alternate,
        Some(pool),
        "a slash at the end does not matter"
    );

    for (query, expected) in [
        ("level=LOW", vec![c5]),
        ("q=level:low,unknown", vec![c5]),
        ("q=-level:low&provider=aws", vec![p5]),
        ("provider=AWS", vec![p5, c5]),
        ("provider=aws&limit=1", vec![p5]),
        ("name=c5.*&region=eu-west-1", vec![c5]),
        ("zone=eu-west-1A", vec![p5]),
        ("tier=spot", vec![]),
        ("q=source:lab%20large", vec![p5, c5]),
        ("q=source:other", vec![]),
        ("provider=azure", vec![]),
    ] {
        let path = format!("/feed.atom?{query}");
        let found = read(&service, &path).await;
        let ids = |entries: &[&Entry]| entries.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&found.entries.iter().collect::<Vec<_>>()), ids(&expected), "{query}");
        assert_ne!(found.id, feed.id, "another filter is another feed");
        let this = found.links.this.expect("a link to itself");
        assert_eq!(
            read(&service, this.strip_prefix(&service.url).expect("here")).await.id,
            found.id
        );
    }
    let all = read(&service, "/feed.atom?limit=1").await;
    assert_eq!((&all.id, all.entries.len()), (&feed.id, 1), "more of it is the same feed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_is_asked_for_as_other_answers_are() {
    let (service, _db) = on_sqlite().await;
    let first = service.get("/feed.atom").await;
    let headers = first.headers();
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    for name in [&header::AGE, &header::CACHE_CONTROL] {
        assert!(headers.contains_key(name), "{name}");
    }
    let tag = headers[header::ETAG].clone();
    let ask = |method: Method| service.client.request(method, format!("{}/feed.atom", service.url));
    let again = ask(Method::GET).header(header::IF_NONE_MATCH, &tag).send().await.expect("sent");
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let head = ask(Method::HEAD).send().await.expect("sent");
    assert_eq!((head.status(), &head.headers()[header::ETAG]), (StatusCode::OK, &tag));
    assert_eq!(head.headers()[header::CONTENT_TYPE], "application/atom+xml");
    assert_eq!(head.bytes().await.expect("nothing").len(), 0);
    let post = ask(Method::POST).send().await.expect("sent");
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    for (query, code) in [
        ("units=2", "unknown_parameter"),
        ("sort=name", "unknown_parameter"),
        ("limit=0", "invalid_parameter"),
        ("limit=201", "invalid_parameter"),
        ("level=good", "invalid_parameter"),
        ("level=LOW&level=HIGH", "invalid_parameter"),
        ("q=%22open", "invalid_filter"),
    ] {
        let answer = service.get(&format!("/feed.atom?{query}")).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["code"], code, "{query}");
    }
}

const ODD: [&str; 5] = [
    "<&\"'>",
    "]]>&lt;!--",
    "🚀\u{2028}\u{202E}é",
    "a\u{FFFE}\u{FFFF}b",
    "<script>alert(1)</script>",
];

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_are_told_as_they_are() {
    let (service, db) = on_sqlite().await;
    let pools = |in_use: u32| ODD.map(|name| (name, name, name, in_use));
    report(&service, &HISTORY, &pools(0)).await;
    wait_until_known(&db, ODD.len()).await;
    report(&service, &[0], &pools(8)).await;
    wait_for_entries(&service, "/feed.atom", ODD.len()).await;
    // What no source can send may still be in a database.
    execute(
        &db,
        "INSERT INTO level_change (at, provider, name, region, zone, tier, unit, source, from_level, to_level, \
         probability, sentence) SELECT at, 'c' || char(1) || char(9) || char(27) || 'd', 'e' || char(10), '', '', \
         tier, unit, char(0), from_level, to_level, NULL, 'f' || char(2) FROM level_change LIMIT 1",
    )
    .await;
    wait_for_entries(&service, "/feed.atom", ODD.len() + 1).await;
    let feed = read(&service, "/feed.atom").await;
    let titles: HashSet<&str> = feed.entries.iter().map(|entry| entry.title.as_str()).collect();
    let expected = ODD.map(|name| {
        let shown = name.replace(['\u{FFFE}', '\u{FFFF}'], "\u{FFFD}");
        format!("{shown} {shown} {shown}: HIGH → LOW")
    });
    let odder = "c\u{FFFD}\t\u{FFFD}d e\n: HIGH → LOW";
    let expected = expected.iter().map(String::as_str).chain([odder]);
    assert_eq!(titles, expected.collect());
    assert_eq!(feed.entries[0].summary, "P not known for one unit, on-demand. f\u{FFFD}");
    let quoted = read(&service, "/feed.atom?q=%22%3C%26%5C%22%27%3E%22&provider=%3C*%3E").await;
    assert_eq!(quoted.title, r#"Changes of level: provider=<*>, q="<&\"'>""#);
    assert_eq!(quoted.entries.len(), 1);

    for name in ODD.iter().chain(&["c5", "\u{1}\u{85}", "%"]) {
        let mut url: reqwest::Url = service.url.parse().expect("a URL");
        url.path_segments_mut().expect("http").extend(["badge", name, &format!("{name}.svg")]);
        for query in ["", "units=13"] {
            url.set_query(Some(query));
            let badge = service.client.get(url.clone()).send().await.expect("sent");
            assert_eq!(badge.status(), StatusCode::OK, "{url}");
            let said = judge(&badge.bytes().await.expect("a picture"), &["svg"]).await;
            let title = said["title"].as_str().expect("text");
            assert!(title.ends_with(": LOW") || title.ends_with(": UNKNOWN"), "{url}: {title}");
        }
    }
}

/// Every change once, and no other: each begins with what the one before it ended with.
fn assert_chain(feed: &Feed, levels: usize) {
    let levels_of = |entry: &Entry| {
        let (_, levels) = entry.title.rsplit_once(": ").expect("levels");
        let (from, to) = levels.split_once(" → ").expect("two levels");
        (from.to_owned(), to.to_owned())
    };
    let told: Vec<_> = feed.entries.iter().rev().map(levels_of).collect();
    assert_eq!(told.len(), levels, "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].1 == pair[1].0), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_come_and_go_tell_each_change_once() {
    let database = TestDatabase::mysql().await;
    let db = database.migrated().await;
    let start = async || start_with_jobs_every(OFTEN, &database).await;
    let (one, other) = (start().await, start().await);
    let c5 = |in_use: u32| [("Amazon", "c5.large", "", in_use)];
    report(&one, &HISTORY, &c5(0)).await;
    wait_until_known(&db, 1).await;
    let mut told = 0;
    let change = async |service: &TestService, in_use: u32, told: &mut usize| {
        report(service, &[0], &c5(in_use)).await;
        *told += 1;
    };
    for in_use in [8, 0, 8] {
        change(if in_use == 0 { &other } else { &one }, in_use, &mut told).await;
        for service in [&one, &other] {
            wait_for_entries(service, "/feed.atom", told).await;
        }
    }
    let feed = read(&one, "/feed.atom").await;
    assert_chain(&feed, told);
    assert_eq!(feed.entries, with_links_of(&one, read(&other, "/feed.atom").await, &other));

    // Whoever has the lease is gone, with whatever it was doing, and it changes meanwhile.
    drop(one);
    change(&other, 0, &mut told).await;
    execute(&db, "UPDATE job_lease SET until = 1").await;
    wait_for_entries(&other, "/feed.atom", told).await;
    change(&other, 8, &mut told).await;
    drop(other);
    execute(&db, "UPDATE job_lease SET until = 1").await;
    let next = start().await;
    wait_for_entries(&next, "/feed.atom", told).await;
    // By then others have looked as well.
    change(&next, 0, &mut told).await;
    wait_for_entries(&next, "/feed.atom", told).await;
    assert_chain(&read(&next, "/feed.atom").await, told);
}

/// On MariaDB, whose columns have a length.
#[tokio::test(flavor = "multi_thread")]
async fn the_problem_of_a_source_is_told_in_full() {
    let database = TestDatabase::mysql().await;
    let db = database.migrated().await;
    let service = start_with_jobs_every(OFTEN, &database).await;
    report(&service, &HISTORY, &[("Amazon", "c5.large", "", 0)]).await;
    // While nothing at all is known nothing is told.
    let other = json!({"provider": "Azure", "name": "H16mr", "total": 8, "in_use": 8});
    let batch = json!({"source": "other", "observations": [other]});
    assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    wait_until_known(&db, 2).await;
    let detail = "é".repeat(500);
    let problem = json!({"code": "pods_forbidden", "detail": detail});
    let batch = json!({"source": "lab", "problem": problem, "observations": []});
    assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    wait_for_entries(&service, "/feed.atom", 1).await;
    let feed = service.get("/feed.atom").await.text().await.expect("text");
    assert!(feed.contains("→ UNKNOWN</title>") && feed.contains(&detail), "{feed}");
}

/// The entries of a feed as if another service had been asked for it.
fn with_links_of(asked: &TestService, feed: Feed, service: &TestService) -> Vec<Entry> {
    let there = |link: String| link.replace(&service.url, &asked.url);
    let entries = feed.entries.into_iter().map(|entry| Entry {
        links: Links { this: None, alternate: entry.links.alternate.map(there) },
        ..entry
    });
    entries.collect()
}

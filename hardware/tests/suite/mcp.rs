//! What agents get at `POST /mcp`, asked with the SDK that most of them are made of, compared with what the
//! HTTP routes answer.

mod documented;

use chrono::{TimeDelta, Utc};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{
    clients, eventually,
    service::{TOKEN, TestService},
};

/// A service that agents may ask, with c5.large that is full and p4d.24xlarge of which 6 of 8 are free. Its
/// answers stay those of one time, as it reads its database once an hour.
async fn with_agents() -> TestService {
    let options = ["--mcp", "--refresh-interval", "1h", "--observations-token", TOKEN];
    let service = TestService::with(&options).await;
    service.wait_until_ready().await;
    let of_hour = |hours| {
        let at = Utc::now() - TimeDelta::hours(hours);
        let pool = move |name: &str, in_use: u32| {
            json!({"provider": "Amazon", "name": name, "region": "us-east-1", "total": 8,
                "in_use": in_use, "observed_at": at})
        };
        [pool("p4d.24xlarge", 2), pool("c5.large", 8)]
    };
    let observations: Vec<Value> = [3, 2, 1, 0].into_iter().flat_map(of_hour).collect();
    let batch = json!({"source": "lab", "expected_interval_s": 3600, "observations": observations});
    assert_eq!(service.observe(&batch).await.status(), StatusCode::OK);
    eventually("p4d is HIGH", async || {
        let page = service.get("/v1/availability?level=HIGH").await;
        let page: Value = page.json().await.expect("JSON");
        page["items"].as_array().is_some_and(|items| items.len() == 1).then_some(())
    })
    .await;
    service
}

/// What the client prints of these calls.
async fn ask(service: &TestService, mode: &'static str, calls: &[(&str, Value)]) -> Value {
    let (url, calls) = (format!("{}/mcp", service.url), json!(calls).to_string());
    clients::run("mcp_client.py", &[&url, mode], calls.as_bytes(), "").await
}

/// What the route answers whose function the tool calls.
async fn ask_route(service: &TestService, tool: &str, arguments: &Value) -> (StatusCode, Value) {
    let url = |path: &str| format!("{}{path}", service.url);
    let request = match tool {
        "find" => {
            let mut url = reqwest::Url::parse(&url("/v1/availability")).expect("a URL");
            for (name, value) in arguments.as_object().expect("arguments") {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Array(texts) => {
                        let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
                        texts.join(",")
                    }
                    other => other.to_string(),
                };
                url.query_pairs_mut().append_pair(name, &value);
            }
            service.client.get(url)
        }
        other => service.client.post(url(&format!("/v1/{other}"))).json(arguments),
    };
    let response = request.send().await.expect("an answer");
    (response.status(), response.json().await.expect("JSON"))
}

fn cases() -> Vec<(&'static str, Value)> {
    let p4d = json!({"provider": "aws", "name": "p4d"});
    let c5 = json!({"provider": "aws", "name": "c5"});
    vec![
        ("check", json!({"units": 4, "items": [p4d, c5, {"provider": "aws", "name": ""}]})),
        ("check", json!({"items": [{"provider": "aws", "name": "p4d", "units": 9}]})),
        ("check", json!({"items": vec![&p4d; 1001]})),
        ("check", json!({"items": [p4d], "colour": "red"})),
        ("check", json!({})),
        ("pick", json!({"units": 4, "preferences": [c5, p4d]})),
        ("pick", json!({"units": 9, "preferences": [p4d, c5]})),
        ("pick", json!({"preferences": vec![&p4d; 101]})),
        ("pick", json!({"preferences": [p4d], "min_level": "SOME"})),
        ("find", json!({})),
        ("find", json!({"units": 4, "q": "region:us-* -level:low", "sort": "free"})),
        ("find", json!({"limit": 1})),
        ("find", json!({"q": "colour:red"})),
        ("find", json!({"level": "SOME"})),
        ("find", json!({"level": ["HIGH", "MEDIUM"]})),
        ("find", json!({"sort": "colour"})),
        ("find", json!({"limit": 1001})),
        ("find", json!({"cursor": "none"})),
    ]
}

async fn compare(mode: &'static str, protocol: &str) {
    let service = with_agents().await;
    let cases = cases();
    let asked = ask(&service, mode, &cases).await;
    assert_eq!(asked["protocol"], protocol);
    let calls = asked["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), cases.len());
    let mut refused = 0;
    for ((tool, arguments), call) in cases.iter().zip(calls) {
        let shown: String = arguments.to_string().chars().take(200).collect();
        let (status, answer) = ask_route(&service, tool, arguments).await;
        let is_refused = !matches!(status, StatusCode::OK | StatusCode::CONFLICT);
        assert_eq!(call["structured"], answer, "{tool} {shown}");
        assert_eq!(call["is_error"], is_refused, "{tool} {shown}");
        if is_refused {
            refused += 1;
            let text = call["text"][0].as_str().expect("a text");
            assert!(text.starts_with(answer["detail"].as_str().expect("a detail")), "{text}");
            let allowed = answer["allowed"].as_array().into_iter().flatten();
            for value in allowed.filter_map(Value::as_str) {
                assert!(text.contains(value), "{value} is missing in {text}");
            }
        }
    }
    assert_eq!(refused, 10, "of the cases, these are wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_get_what_the_routes_answer() {
    compare("auto", "2026-07-28").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_begin_with_a_handshake_get_the_same() {
    compare("legacy", "2025-11-25").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_lines_say_what_matters_and_lead_to_the_next_page() {
    let service = with_agents().await;
    let p4d = json!({"provider": "aws", "name": "p4d"});
    let calls = [
        ("pick", json!({"units": 4, "preferences": [p4d]})),
        ("pick", json!({"units": 9, "preferences": [p4d, {"provider": "lab", "name": "x"}]})),
        ("find", json!({"limit": 1})),
        // A client may have numbers of one kind only, and null for what is left out.
        ("find", json!({"limit": 1.0, "q": null})),
        ("find", json!({"name": {"is": "p4d"}})),
        ("find", json!({"format": "csv"})),
        ("reserve", json!({})),
    ];
    let asked = ask(&service, "auto", &calls).await;
    let calls = &asked["calls"];
    let text = |place: usize| calls[place]["text"][0].as_str().expect("a text");
    assert_eq!(
        text(0),
        "preferences[0] can be had: HIGH for 4: Amazon p4d.24xlarge, region us-east-1, tier on-demand, \
         6 of 8 free. The wanted units are free most of the time."
    );
    assert_eq!(calls[1]["is_error"], false, "nothing to pick is an answer");
    assert_eq!(calls[1]["structured"]["code"], "none_available");
    assert!(text(1).starts_with("Nothing to pick: none of 2 preferences is HIGH or better."));
    assert!(
        text(1).contains("6 of 8 free. More units are wanted than the pool has."),
        "{}",
        text(1)
    );
    assert!(text(1).ends_with("preferences[1]: UNKNOWN. No source has reported this yet."));
    let cursor = text(2).rsplit_once("with cursor ").expect("there are more").1.to_owned();
    assert_eq!(calls[3]["structured"], calls[2]["structured"]);
    assert_eq!(calls[4]["structured"]["expected"], "a text, a number or a list of texts");
    assert_eq!(calls[5]["structured"]["code"], "unknown_parameter", "agents get JSON");
    let error = calls[6]["protocol_error"].as_str().expect("no such tool");
    assert!(error.contains("there is no tool \"reserve\""), "{error}");

    let next = ask(&service, "auto", &[("find", json!({"limit": 1, "cursor": cursor}))]).await;
    let names = |page: &Value| page["structured"]["items"][0]["name"].clone();
    assert_eq!([names(&calls[2]), names(&next["calls"][0])], ["p4d.24xlarge", "c5.large"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_are_told_changes_only_on_purpose() {
    let service = with_agents().await;
    let mut asked = ask(&service, "auto", &[]).await;
    for tool in asked["tools"].as_array_mut().expect("tools") {
        // Those of the description of the routes, which has a test of its own.
        let answer = tool["outputSchema"].take();
        assert_eq!(answer["type"], "object", "as clients of older versions need it");
    }
    insta::assert_json_snapshot!(json!([asked["instructions"], asked["tools"]]));
}

async fn post(service: &TestService, headers: &[(&str, &str)], body: String) -> Response {
    let url = format!("{}/mcp", service.url);
    let mut request = service.client.post(url).body(body);
    let usual =
        [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
    for (name, value) in usual.iter().chain(headers) {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

fn list_tools() -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_may_use_any_name_of_the_service_and_pages_of_a_browser_none() {
    let service = with_agents().await;
    for host in ["demo-hardware:5001", "demo-hardware.team.svc", "hardware.example.com"] {
        let listed = post(&service, &[("host", host)], list_tools()).await;
        assert_eq!(listed.status(), StatusCode::OK, "{host}");
        assert_eq!(listed.headers()[header::CONTENT_TYPE], "application/json");
    }
    for origin in ["https://example.com", "http://localhost:5001", "null"] {
        let refused = post(&service, &[("origin", origin)], list_tools()).await;
        assert_problem(refused, StatusCode::FORBIDDEN, "origin_refused").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_a_problem_document() {
    let service = with_agents().await;
    let stream = service.get("/mcp").await;
    assert_problem(stream, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    let large = post(&service, &[], " ".repeat(1024 * 1024 + 1)).await;
    assert_problem(large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    let unreadable = post(&service, &[], "{".to_owned()).await;
    assert_problem(unreadable, StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_there_unless_it_is_switched_on() {
    let service = TestService::on_sqlite().await;
    let absent = post(&service, &[], list_tools()).await;
    assert_problem(absent, StatusCode::NOT_FOUND, "not_found").await;
    let absent = service.get("/mcp").await;
    assert_problem(absent, StatusCode::NOT_FOUND, "not_found").await;
}

async fn assert_problem(response: Response, status: StatusCode, code: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], code, "{problem}");
}

//! The page in a real browser: its script keeps it up to date and disturbs nobody.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    browser::Browser,
    eventually,
    hardware::{Behaviour, FakeHardware, both_rows, list, pools},
    portal::TestPortal,
};

const ROWS: &str = "[...document.querySelectorAll('#list tbody tr')].map(row => row.textContent)";

const POOLS: &str = "[...document.querySelectorAll('#pools tbody tr')].map(row => row.textContent)";

const SAID: &str = "document.getElementById('announcements').textContent";

#[tokio::test]
async fn an_open_page_follows_the_list_and_tells_when_it_cannot() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::patient(&hardware).await;
    portal.page_with("<tbody>").await;
    let browser = Browser::open(&portal.url).await;
    shows(&browser, ROWS, &json!(["Amazon - c5: HIGH", "Azure - H16mr: LOW"])).await;
    let style = browser.ask("getComputedStyle(document.querySelector('table')).display").await;
    assert_eq!(style, "table", "a list that assistive technology reads as a table");
    assert_ne!(browser.ask("getComputedStyle(document.body).maxWidth").await, "none", "no style");

    // The reader is somewhere; a change elsewhere must not move them.
    browser.ask("document.querySelector('.skip').focus()").await;
    browser.ask("void (window.kept = document.querySelectorAll('tbody tr')[1])").await;
    hardware.now(list(&[
        ("Amazon", "c5", "MEDIUM"),
        ("Azure", "H16mr", "LOW"),
        ("<b>", "new", "UNKNOWN"),
    ]));
    let rows = ["Amazon - c5: MEDIUM", "Azure - H16mr: LOW", "<b> - new: UNKNOWN"];
    shows(&browser, ROWS, &json!(rows)).await;
    assert_eq!(browser.ask("document.activeElement.className").await, "skip");
    assert_eq!(browser.ask("window.kept.isConnected").await, true, "it was not changed");
    assert_eq!(browser.ask(SAID).await, "Amazon - c5: MEDIUM. <b> - new: UNKNOWN.");
    let live = "document.getElementById('pulse').textContent.startsWith('Live, confirmed ')";
    shows(&browser, live, &json!(true)).await;

    hardware.now(Behaviour::Status(StatusCode::BAD_GATEWAY));
    let notice = "document.getElementById('notice').textContent.includes('error 502')";
    shows(&browser, notice, &json!(true)).await;
    assert_eq!(browser.ask(ROWS).await, json!(rows), "the last good list stays");

    drop(portal);
    let lost = "document.getElementById('pulse').textContent.startsWith('Not live')";
    shows(&browser, lost, &json!(true)).await;
    browser.close().await;
}

#[tokio::test]
async fn pools_are_known_by_their_names_and_only_their_levels_are_announced() {
    let hardware = FakeHardware::start(both_rows()).await;
    hardware.report(pools(&[("a", "r650", "HIGH", 0.91), ("b", "r750", "MEDIUM", 0.6)]));
    let portal = TestPortal::patient(&hardware).await;
    portal.page_with("What sources report").await;
    let browser = Browser::open(&portal.url).await;
    let (r650, r750) = ("lab - r650, eu · owned5 of 8 slots", "lab - r750, eu · owned5 of 8 slots");
    let rows = json!([format!("{r650}91\u{a0}%: HIGH"), format!("{r750}60\u{a0}%: MEDIUM")]);
    shows(&browser, POOLS, &rows).await;
    let role = "document.querySelector('#pools tbody th').getAttribute('role')";
    assert_eq!(browser.ask(role).await, "rowheader");

    // A chance changes all the time.
    hardware.report(pools(&[("a", "r650", "HIGH", 0.92), ("b", "r750", "MEDIUM", 0.6)]));
    let rows = json!([format!("{r650}92\u{a0}%: HIGH"), format!("{r750}60\u{a0}%: MEDIUM")]);
    shows(&browser, POOLS, &rows).await;
    assert_eq!(browser.ask(SAID).await, "");

    // The second becomes the first: one row changed, not two.
    browser.ask("void (window.kept = document.querySelector('#pools tr[data-key=a]'))").await;
    hardware.report(pools(&[("b", "r750", "HIGH", 0.95), ("a", "r650", "HIGH", 0.92)]));
    let rows = json!([format!("{r750}95\u{a0}%: HIGH"), format!("{r650}92\u{a0}%: HIGH")]);
    shows(&browser, POOLS, &rows).await;
    assert_eq!(browser.ask(SAID).await, "lab - r750, eu · owned: HIGH.");
    assert_eq!(browser.ask("window.kept.isConnected").await, true, "it was not changed");
    assert_eq!(browser.ask(ROWS).await, json!(["Amazon - c5: HIGH", "Azure - H16mr: LOW"]));

    hardware.report(pools(&[("a", "r650", "HIGH", 0.92)]));
    shows(&browser, POOLS, &json!([format!("{r650}92\u{a0}%: HIGH")])).await;
    hardware.report(pools(&[]));
    shows(&browser, "document.getElementById('pools').textContent.trim()", &json!("")).await;
    browser.close().await;
}

async fn shows(browser: &Browser, expression: &str, expected: &Value) {
    eventually(&format!("{expression} is {expected}"), async || {
        (browser.ask(expression).await == *expected).then_some(())
    })
    .await;
}

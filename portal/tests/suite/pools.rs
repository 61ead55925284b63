//! The pools that sources report, below the list and apart from it.

use axum::http::StatusCode;

use crate::support::{
    eventually,
    hardware::{Behaviour, FakeHardware, both_rows, list, pools},
    portal::{TestPortal, row_texts},
};

const LIST: [&str; 2] = ["Amazon - c5: HIGH", "Azure - H16mr: LOW"];

const SHOWN: &str = "What sources report";

async fn hardware_with_pools() -> FakeHardware {
    let hardware = FakeHardware::start(both_rows()).await;
    hardware.report(pools(&[("a", "r650", "HIGH", 0.9132)]));
    hardware
}

#[tokio::test]
async fn the_page_shows_pools_that_no_row_of_the_list_shows() {
    let hardware = hardware_with_pools().await;
    let portal = TestPortal::patient(&hardware).await;
    let page = portal.page_with(SHOWN).await;
    assert_eq!(row_texts(&page), LIST);
    for part in ["<bdi>lab</bdi> - <bdi>r650</bdi>", "eu · owned", "5 of 8 slots", "91\u{a0}%"] {
        assert!(page.contains(part), "{part} is missing in:\n{page}");
    }
    assert!(!page.contains("has not confirmed these"), "{page}");
}

#[tokio::test]
async fn a_hardware_without_pools_has_no_such_section_and_nothing_is_wrong() {
    let hardware = FakeHardware::start(both_rows()).await;
    let portal = TestPortal::of(&hardware).await;
    let page = portal.page_with("<tbody>").await;
    assert!(!page.contains(SHOWN) && !page.contains("notice-warning"), "{page}");
}

#[tokio::test]
async fn pools_alone_may_fail_and_the_list_goes_on() {
    let hardware = hardware_with_pools().await;
    let portal = TestPortal::of(&hardware).await;
    portal.page_with(SHOWN).await;
    for behaviour in [
        Behaviour::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Behaviour::Garbage("<html>"),
        Behaviour::Hang,
    ] {
        hardware.report(behaviour);
        let page = portal.page_with("The hardware service has not confirmed these since").await;
        assert!(page.contains("<bdi>r650</bdi>"), "the last good pools stay:\n{page}");
        hardware.report(pools(&[("a", "r650", "HIGH", 0.9132)]));
        eventually("the pools are confirmed again", async || {
            (!portal.page().await.contains("has not confirmed these")).then_some(())
        })
        .await;
    }
    hardware.report(Behaviour::Hang);
    portal.page_with("has not confirmed these").await;
    hardware.now(list(&[("Amazon", "c5", "LOW")]));
    eventually("the list follows", async || {
        (row_texts(&portal.page().await) == ["Amazon - c5: LOW"]).then_some(())
    })
    .await;
    hardware.report(Behaviour::Status(StatusCode::NOT_FOUND));
    eventually("the section is gone", async || {
        (!portal.page().await.contains(SHOWN)).then_some(())
    })
    .await;
}

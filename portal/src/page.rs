//! The page, rendered.

use std::io;

use askama::Template;
use hardware_api::Availability;
use service_kit::Prepared;

use crate::{
    CachePolicy,
    assets::{ASSETS, Assets},
    prepare::prepare,
    view::View,
};

/// Media type of pages and fragments.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// The page did not come into being.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// A template failed.
    #[error("failed to render the page: {0}")]
    Template(#[from] askama::Error),
    /// A body could not be compressed.
    #[error("failed to encode the page: {0}")]
    Encode(#[from] io::Error),
}

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Heading of the page.
    pub(crate) title: String,
    /// Pause between two looks of the page's script, in milliseconds.
    pub(crate) refresh_ms: u64,
}

/// One state of the page, ready to be sent.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The whole page.
    pub(crate) index: Prepared,
    /// Its changing part alone, for the page's script.
    pub(crate) rows: Prepared,
}

impl Rendered {
    /// Renders and encodes both.
    pub(crate) fn new(frame: &Frame, view: &View) -> Result<Self, RenderError> {
        let index = IndexPage { frame, view, assets: &ASSETS }.render()?;
        let rows = RowsFragment { view }.render()?;
        Ok(Self {
            index: prepare(index, HTML, CachePolicy::Revalidate)?,
            rows: prepare(rows, HTML, CachePolicy::Revalidate)?,
        })
    }
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage<'a> {
    frame: &'a Frame,
    view: &'a View,
    assets: &'a Assets,
}

#[derive(Template)]
#[template(path = "rows.html")]
struct RowsFragment<'a> {
    view: &'a View,
}

/// A page for a request that cannot be answered as asked.
#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorPage<'a> {
    /// Heading of the page that there is.
    pub(crate) title: &'a str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The status in words.
    pub(crate) reason: &'a str,
    /// What happened.
    pub(crate) detail: &'a str,
    /// What to do next.
    pub(crate) advice: &'a str,
    /// Files of the page.
    pub(crate) assets: &'a Assets,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use askama::Template;
    use hardware_api::{Availability, Hardware};

    use super::{ASSETS, ErrorPage, Frame, IndexPage, RowsFragment};
    use crate::{
        moment::Moment,
        view::{
            Notice, View,
            pools::{PoolRow, PoolsView},
        },
    };

    fn row(provider: &str, name: &str, availability: Availability) -> Hardware {
        Hardware { provider: provider.to_owned(), name: name.to_owned(), availability }
    }

    fn view(rows: Option<Vec<Hardware>>) -> View {
        View {
            rows: rows.map(Arc::from),
            notice: Some(Notice {
                title: "Title".to_owned(),
                text: "Text.".to_owned(),
                is_warning: true,
            }),
            pools: None,
            confirmed_at: Some(noon()),
        }
    }

    fn noon() -> Moment {
        Moment { machine: "2026-06-01T12:00Z".to_owned(), text: "12:00 UTC".to_owned() }
    }

    /// One pool with all that can be said of a level, and one of which nothing is known.
    fn pools() -> PoolsView {
        let slots = PoolRow {
            id: "5d41402abc4b2a76".to_owned(),
            provider: "lab".to_owned(),
            name: "<r650>".to_owned(),
            place: "eu · eu-1 · owned".to_owned(),
            level: Availability::High,
            free: Some("5 of 8 slots".to_owned()),
            chance: Some("91 %".to_owned()),
            reason: None,
            last_seen: None,
        };
        let forbidden = PoolRow {
            id: "7d793037a0760186".to_owned(),
            level: Availability::Unknown,
            free: Some("was 5 of 8 slots".to_owned()),
            chance: None,
            reason: Some("The source may not list <pods>.".to_owned()),
            last_seen: Some(noon()),
            ..slots.clone()
        };
        PoolsView { rows: vec![slots, forbidden], has_more: false, outdated_since: None }
    }

    /// Tags out, entities of askama decoded.
    fn text_of(html: &str) -> String {
        let mut text = String::new();
        let mut is_tag = false;
        for character in html.chars() {
            match character {
                '<' => is_tag = true,
                '>' => is_tag = false,
                _ if !is_tag => text.push(character),
                _ => {}
            }
        }
        text.replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&#38;", "&")
            .replace("&#34;", "\"")
    }

    #[test]
    fn each_row_reads_as_the_sentence_of_the_original() {
        let rows = Availability::ALL.map(|level| row("A & B", "<i>\"x\"</i>", level)).to_vec();
        let html = RowsFragment { view: &view(Some(rows)) }.render().expect("rendered");
        let body = html.split_once("<tbody>").expect("a table").1;
        let body = body.split_once("</tbody>").expect("a table").0;
        let texts: Vec<String> = body.split_terminator("</tr>").map(text_of).collect();
        let texts: Vec<&str> =
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        assert_eq!(
            texts,
            ["HIGH", "MEDIUM", "LOW", "UNKNOWN"]
                .map(|level| format!("A & B - <i>\"x\"</i>: {level}"))
        );
    }

    #[test]
    fn the_page_is_what_was_reviewed() {
        let rows = vec![row("Amazon", "c5", Availability::High)];
        let frame = Frame { title: "<Lab>".to_owned(), refresh_ms: 5000 };
        let page = IndexPage { frame: &frame, view: &view(Some(rows)), assets: &ASSETS };
        let mut html = page.render().expect("rendered");
        for (asset, name) in ASSETS.all().into_iter().zip(["style", "script", "icon"]) {
            html = html.replace(&asset.path, &format!("/assets/{name}"));
        }
        insta::assert_snapshot!(html);
    }

    #[test]
    fn the_pools_are_what_was_reviewed() {
        let view = View { pools: Some(pools()), ..view(Some(Vec::new())) };
        let html = RowsFragment { view: &view }.render().expect("rendered");
        let pools = html.split_once("<div id=\"pools\">").expect("the pools").1;
        insta::assert_snapshot!(pools.split_once("</div>").expect("an end").0);
    }

    #[test]
    fn pools_that_are_old_or_not_all_say_so() {
        let note = |has_more, outdated_since| {
            let pools = PoolsView { has_more, outdated_since, ..pools() };
            let view = View { pools: Some(pools), ..view(None) };
            let html = RowsFragment { view: &view }.render().expect("rendered");
            let note = html.split_once("<p id=\"pools-note\"").expect("a note").1;
            let note = note.split_once('>').expect("a tag").1;
            text_of(note.split_once("</p>").expect("an end").0)
        };
        assert_eq!(note(false, None), "");
        assert_eq!(
            note(true, None),
            "The first 2 are shown, the best first. \
             GET /v1/availability of the hardware service has all of them."
        );
        assert_eq!(
            note(true, Some(noon())),
            "The hardware service has not confirmed these since 12:00 UTC, and they may have changed. \
             The first 2 are shown, the best first. \
             GET /v1/availability of the hardware service has all of them."
        );
    }

    #[test]
    fn an_empty_list_and_no_list_differ() {
        let render = |rows| RowsFragment { view: &view(rows) }.render().expect("rendered");
        assert!(render(Some(Vec::new())).contains("No hardware is listed yet"));
        assert!(!render(None).contains("No hardware is listed yet"));
    }

    #[test]
    fn an_error_page_quotes_nothing_unescaped() {
        let page = ErrorPage {
            title: "<b>",
            status: 404,
            reason: "Not Found",
            detail: "<script>alert(1)</script>",
            advice: "",
            assets: &ASSETS,
        };
        let html = page.render().expect("rendered");
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
    }
}

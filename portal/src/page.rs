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
    use crate::view::{Moment, Notice, View};

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
            confirmed_at: Some(Moment {
                machine: "2026-06-01T12:00Z".to_owned(),
                text: "12:00 UTC".to_owned(),
            }),
        }
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

//! Style, script and icon: part of the program, at addresses that change with their content.

use std::{io, sync::LazyLock};

use service_kit::{Prepared, prepared::content_hash};

use crate::{CachePolicy, prepare::prepare};

/// A file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its address on this server.
    pub(crate) path: String,
    content: &'static [u8],
    media_type: &'static str,
}

/// The files that every page refers to.
#[derive(Debug)]
pub(crate) struct Assets {
    /// The style sheet.
    pub(crate) style: Asset,
    /// The live refresh.
    pub(crate) script: Asset,
    /// The icon of the browser's tab.
    pub(crate) icon: Asset,
}

/// The files of this build.
pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new(include_bytes!("../assets/portal.css"), "css", "text/css; charset=utf-8"),
    script: Asset::new(
        include_bytes!("../assets/portal.js"),
        "js",
        "text/javascript; charset=utf-8",
    ),
    icon: Asset::new(include_bytes!("../assets/icon.svg"), "svg", "image/svg+xml"),
});

impl Assets {
    /// All of them.
    pub(crate) fn all(&self) -> [&Asset; 3] {
        let Self { style, script, icon } = self;
        [style, script, icon]
    }
}

impl Asset {
    fn new(content: &'static [u8], extension: &str, media_type: &'static str) -> Self {
        let path = format!("/assets/{}.{extension}", content_hash(content));
        Self { path, content, media_type }
    }

    /// Encodes it for sending.
    pub(crate) fn encode(&self) -> io::Result<Prepared> {
        prepare(self.content, self.media_type, CachePolicy::Immutable)
    }
}

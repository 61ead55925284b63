//! A real Chromium, driven through chromedriver.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use fantoccini::{Client, ClientBuilder};
use serde_json::json;
use tempfile::TempDir;

/// A browser window; ends with the value.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts chromedriver on a free port and opens a window without a screen.
    pub async fn open() -> Result<Self> {
        let (driver, port) = start_driver()?;

        let profile = tempfile::tempdir()?;
        let options = json!({"goog:chromeOptions": {"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            // Nothing of the browser's own may look for the internet: there is none.
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            format!("--user-data-dir={}", profile.path().display()),
        ]}});
        let capabilities = options.as_object().cloned().context("an object")?;
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await?;
        Ok(Self { client, driver, _profile: profile })
    }

    /// Opens a page.
    pub async fn go_to(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("failed to open {url}"))
    }

    /// The text that a person sees on the page.
    pub async fn visible_text(&self) -> Result<String> {
        let body = self.client.find(fantoccini::Locator::Css("body")).await?;
        body.text().await.context("failed to read the page's text")
    }

    /// Each row of the list as a person reads it, with runs of white space folded.
    pub async fn rows(&self) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for row in self.client.find_all(fantoccini::Locator::Css("#list tbody tr")).await? {
            let text = row.prop("textContent").await?.unwrap_or_default();
            rows.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        Ok(rows)
    }

    /// Closes the window.
    pub async fn close(self) -> Result<()> {
        self.client.clone().close().await.context("failed to close the browser")
    }
}

/// chromedriver takes a port that is free for IPv4 and ends if another program has the same for IPv6. Then it
/// is started again.
fn start_driver() -> Result<(Child, u16)> {
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start chromedriver (Debian: chromium-driver)")?;
        let output = driver.stdout.take().context("chromedriver has no output")?;
        if let Some(port) = read_port(output)? {
            return Ok((driver, port));
        }
        driver.wait()?;
    }
    bail!("chromedriver ended before it said which port it uses, ten times")
}

/// chromedriver says which port it chose: "… was started successfully on port 41415."
fn read_port(output: ChildStdout) -> Result<Option<u16>> {
    let mut lines = BufReader::new(output).lines();
    for line in lines.by_ref() {
        if let Some((_, port)) = line?.rsplit_once("successfully on port ") {
            let port = port.trim_end_matches('.').parse()?;
            // Whoever stops reading would make chromedriver fail at its next line.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(Some(port));
        }
    }
    Ok(None)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        if self.driver.kill().is_ok() {
            drop(self.driver.wait());
        }
    }
}

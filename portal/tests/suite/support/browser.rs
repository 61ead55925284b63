//! A real Chromium, driven through chromedriver.

use std::{process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A browser window; ends with its test.
pub(crate) struct Browser {
    client: Client,
    _driver: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) async fn open(url: &str) -> Self {
        let started = timeout(Duration::from_secs(20), start_driver()).await;
        let (driver, port) = started.expect("chromedriver starts within the deadline");
        let profile = TempDir::new().expect("a folder");
        let options = json!({"goog:chromeOptions": {"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            // Nothing of the browser's own may look for the internet: there may be none.
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            format!("--user-data-dir={}", profile.path().display()),
        ]}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(options.as_object().cloned().expect("an object"))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser window");
        client.goto(url).await.expect("the page opens");
        Self { client, _driver: driver, _profile: profile }
    }

    /// What an expression of JavaScript gives on the page.
    pub(crate) async fn ask(&self, expression: &str) -> Value {
        let answer = self.client.execute(&format!("return {expression}"), Vec::new()).await;
        answer.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    pub(crate) async fn close(self) {
        self.client.close().await.expect("closed");
    }
}

/// chromedriver takes a port that is free for IPv4 and ends if another program has the same for IPv6. Then it
/// is started again.
async fn start_driver() -> (Child, u16) {
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is installed (Debian: chromium-driver)");
        let output = driver.stdout.take().expect("piped");
        if let Some(port) = read_port(output).await {
            return (driver, port);
        }
    }
    panic!("chromedriver ended before it said which port it uses, ten times");
}

/// chromedriver says which port it chose: "… was started successfully on port 41415."
async fn read_port(output: ChildStdout) -> Option<u16> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await.expect("UTF-8") {
        if let Some((_, port)) = line.rsplit_once("successfully on port ") {
            let port = port.trim_end_matches('.').parse().expect("a port");
            // Whoever stops reading would make chromedriver fail at its next line.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(port);
        }
    }
    None
}

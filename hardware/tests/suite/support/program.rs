//! The service as a program of its own.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use test_kit::{Running, free_addresses};

use super::eventually;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hardware");

/// The program on a file, taking observations.
pub(crate) struct Program {
    pub(crate) running: Running,
    pub(crate) url: String,
    pub(crate) admin_url: String,
    pub(crate) client: Client,
}

impl Program {
    /// Starts it as `sh` does after `prelude`.
    pub(crate) async fn start(folder: &Path, prelude: &str) -> Self {
        let [public, admin] = free_addresses();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{prelude} exec \"$0\" serve"), PROGRAM])
            .env("SQLITE_PATH", folder.join("hardware.db"))
            .env("HARDWARE_LISTEN", &public)
            .env("ADMIN_LISTEN", &admin)
            .env("OBSERVATIONS_TOKEN", "token")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let running = Running(command.spawn().expect("it starts"));
        let client = Client::builder().no_proxy().build().expect("a client");
        let admin_url = format!("http://{admin}");
        let ready = format!("{admin_url}/readyz");
        eventually("it is ready", async || {
            let answer = client.get(&ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Self { running, url: format!("http://{public}"), admin_url, client }
    }

    /// The answer to a batch, if there is one.
    pub(crate) async fn observe(&self, batch: &Value) -> Option<(StatusCode, Value)> {
        let url = format!("{}/v1/observations", self.url);
        let answer = self.client.post(url).bearer_auth("token").json(batch).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.json().await.ok()?))
    }

    /// As the end of its machine does.
    pub(crate) fn kill(mut self) {
        self.running.0.kill().expect("it runs");
        self.running.0.wait().expect("it ended");
    }
}

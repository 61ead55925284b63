//! The service in the test's own process, on ports of its own.

use std::{path::Path, time::Duration};

use hardware::{
    app::App,
    config::{Cli, Command},
    jobs,
};
use hardware_api::{Availability, Hardware};
use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use service_kit::{
    Clock, Lifecycle, admin,
    lifecycle::ShutdownTimes,
    server::{self, Site},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::eventually;

pub(crate) const TOKEN: &str = "the-token";

const TIMES: ShutdownTimes =
    ShutdownTimes { drain_delay: Duration::ZERO, deadline: Duration::from_secs(10) };

/// A running service.
pub(crate) struct TestService {
    pub(crate) url: String,
    pub(crate) admin_url: String,
    pub(crate) client: Client,
    pub(crate) folder: TempDir,
    lifecycle: Lifecycle,
}

impl TestService {
    /// On SQLite, ready, taking observations with [`TOKEN`].
    pub(crate) async fn on_sqlite() -> Self {
        let service = Self::with(&["--observations-token", TOKEN]).await;
        service.wait_until_ready().await;
        service
    }

    /// With further options; on SQLite unless they say otherwise. Not necessarily ready.
    pub(crate) async fn with(options: &[&str]) -> Self {
        Self::in_folder(TempDir::new().expect("a folder"), options).await
    }

    pub(crate) async fn in_folder(folder: TempDir, options: &[&str]) -> Self {
        Self::with_jobs_every(jobs::PAUSE, folder, options).await
    }

    /// With jobs that are done more often than usual.
    pub(crate) async fn with_jobs_every(
        pause: Duration,
        folder: TempDir,
        options: &[&str],
    ) -> Self {
        let database = folder.path().join("hardware.db");
        let database = database.to_str().expect("UTF-8");
        let fixed = ["hardware", "serve", "--sqlite-path", database];
        let is_fast = !options.contains(&"--refresh-interval");
        let fast = is_fast.then_some(&["--refresh-interval", "100ms"]).into_iter().flatten();
        let cli: Cli = test_kit::parse(fixed.iter().chain(fast).chain(options));
        let Command::Serve(mut args) = cli.command else { panic!("asked to serve") };
        args.jobs_pause = pause;
        args.watches_pause = args.watches_pause.min(pause);
        let (lifecycle, _ended) = Lifecycle::new(TIMES);
        let app =
            App::start(&args, &lifecycle, Clock::new(chrono::Utc::now)).await.expect("started");
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let readiness = lifecycle.readiness().clone();
        let admin =
            admin::router_with_series(readiness, metrics, move || (app.series)()).merge(app.admin);
        let url = listen(&lifecycle, app.public).await;
        let admin_url = listen(&lifecycle, Site::new("admin", admin)).await;
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { url, admin_url, client, folder, lifecycle }
    }

    pub(crate) async fn wait_until_ready(&self) {
        eventually("the service is ready", async || {
            self.get_admin("/readyz").await.status().is_success().then_some(())
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.url);
        self.client.get(url).send().await.expect("an answer")
    }

    pub(crate) async fn get_admin(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.admin_url);
        self.client.get(url).send().await.expect("an answer")
    }

    /// The list as clients see it.
    pub(crate) async fn list(&self) -> Vec<Hardware> {
        self.get("/hardware/").await.json().await.expect("a list")
    }

    /// The level of a row, if there is one.
    pub(crate) async fn level(&self, name: &str) -> Option<Availability> {
        let list = self.list().await;
        list.into_iter().find(|row| row.name == name).map(|row| row.availability)
    }

    /// Sends observations with the right token.
    pub(crate) async fn observe(&self, body: &Value) -> Response {
        let url = format!("{}/v1/observations", self.url);
        self.client.post(url).bearer_auth(TOKEN).json(body).send().await.expect("an answer")
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("hardware.db")
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        self.lifecycle.closing().cancel();
        self.lifecycle.closed().cancel();
    }
}

async fn listen(lifecycle: &Lifecycle, site: Site) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let closing = lifecycle.closing().clone();
    tokio::spawn(server::serve(listener, site, server::Limits::default(), closing));
    format!("http://{address}")
}

/// One source's report of one pool.
pub(crate) fn report(name: &str, total: u32, in_use: u32) -> Value {
    let observation = json!({"provider": "aws", "name": name, "total": total, "in_use": in_use});
    json!({"source": "lab", "observations": [observation]})
}

/// Replaces a file as an editor or the kubelet would: at once.
pub(crate) fn replace_file(path: &Path, content: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, content).expect("written");
    std::fs::rename(&next, path).expect("replaced");
}

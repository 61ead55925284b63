//! A portal in the test's own process, on a port of its own.

use std::time::Duration;

use portal::{
    app,
    config::{Cli, Command},
};
use reqwest::{Client, Method, Response};
use service_kit::{Clock, Lifecycle, lifecycle::ShutdownTimes, server};
use tokio::net::TcpListener;

use super::{eventually, hardware::FakeHardware};

const TIMES: ShutdownTimes =
    ShutdownTimes { drain_delay: Duration::ZERO, deadline: Duration::from_secs(10) };

/// A running portal.
pub(crate) struct TestPortal {
    pub(crate) url: String,
    client: Client,
    lifecycle: Lifecycle,
}

impl TestPortal {
    /// Asks `hardware` every 100 ms.
    pub(crate) async fn of(hardware: &FakeHardware) -> Self {
        Self::asking(&hardware.address).await
    }

    /// Asks `hardware` every second, so that a busy machine is no outage: three intervals without an
    /// answer are one.
    pub(crate) async fn patient(hardware: &FakeHardware) -> Self {
        Self::start("1s", &hardware.address).await
    }

    pub(crate) async fn asking(host: &str) -> Self {
        Self::start("100ms", host).await
    }

    async fn start(refresh_interval: &str, host: &str) -> Self {
        let options =
            ["portal", "serve", "--refresh-interval", refresh_interval, "--hardware-host", host];
        let cli: Cli = test_kit::parse(options);
        let Command::Serve(args) = cli.command else { panic!("asked to serve") };
        let (lifecycle, _ended) = Lifecycle::new(TIMES);
        let site = app::start(&args, &lifecycle, Clock::new(chrono::Utc::now)).expect("started");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let closing = lifecycle.closing().clone();
        tokio::spawn(server::serve(listener, site, server::Limits::default(), closing));
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { url, client, lifecycle }
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[]).await
    }

    /// As a browser asks for a page.
    pub(crate) async fn browse(&self, path: &str) -> Response {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        self.send(Method::GET, path, &[("accept", accept)]).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    pub(crate) async fn page(&self) -> String {
        self.get("/").await.text().await.expect("text")
    }

    /// The page, once it contains `text`.
    pub(crate) async fn page_with(&self, text: &str) -> String {
        eventually(&format!("the page says \"{text}\""), async || {
            let page = self.page().await;
            page.contains(text).then_some(page)
        })
        .await
    }
}

impl Drop for TestPortal {
    fn drop(&mut self) {
        self.lifecycle.closing().cancel();
        self.lifecycle.closed().cancel();
    }
}

/// The text of each row of the list, as a script in the browser would read it.
pub(crate) fn row_texts(page: &str) -> Vec<String> {
    let (_, body) = page.split_once("<tbody>").unwrap_or_default();
    let (body, _) = body.split_once("</tbody>").unwrap_or_default();
    let rows = body.split("<tr>").skip(1).map(|row| {
        let row = row.split("</tr>").next().unwrap_or_default();
        let outside_tags = row.split('<').filter_map(|part| part.split_once('>'));
        outside_tags.map(|(_, text)| text).collect()
    });
    rows.collect()
}

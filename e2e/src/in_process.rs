//! The operator inside of the test's own process, with its own ServiceAccount's rights, so that what
//! lies between it and the API server can be made to fail.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use kube::{Config, client::ClientBuilder};
use operator::{
    cluster::{
        client::{Fence, GuardLayer},
        pod_http::PodHttp,
        scope::Scope,
    },
    portal::{gauges::PortalGauges, source_reports::SourceReports},
    rotation::{pod_reports::PodReports, source::Sources},
    run::{Equipment, control, follow},
    settings::Settings,
    watch::reports::WatchReports,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{fault::Faults, namespace::configuration_of_operator, proxy::Proxy, setting};

/// Short, so that a request without an answer does not take up the test's time, but longer than the API
/// server takes for one while many walks keep both cores busy: 1 s was not.
const DEADLINE: Duration = Duration::from_secs(3);

/// Short as well: what a portal says is compared once it is at rest.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// More than the operator gives to what is under way when it is told to stop, on a busy machine.
const STOPPED: Duration = Duration::from_secs(10);

/// A running operator.
pub struct Operator {
    task: JoinHandle<()>,
    closing: CancellationToken,
    /// Its way to the API server, if it has one of its own.
    _proxy: Option<Proxy>,
}

impl Operator {
    /// Starts one for a single namespace, whose requests pass `faults`.
    pub async fn start(namespace: &str, faults: &Faults) -> Result<Self> {
        Self::run(namespace, configuration_of_operator().await?, faults, None)
    }

    /// Starts one for a single namespace, whose connections to the API server pass `faults`.
    pub async fn start_behind_proxy(namespace: &str, faults: &Faults) -> Result<Self> {
        let mut config = configuration_of_operator().await?;
        let host = config.cluster_url.host().context("the API server has an address")?.to_owned();
        let server = format!("{host}:{}", config.cluster_url.port_u16().unwrap_or(443));
        let proxy = Proxy::start(Ipv4Addr::LOCALHOST.into(), &server, faults).await?;
        config.cluster_url = format!("https://{}", proxy.address()).parse()?;
        // It is still the server's own certificate.
        config.tls_server_name = Some(host);
        Self::run(namespace, config, &Faults::default(), Some(proxy))
    }

    fn run(
        namespace: &str,
        mut config: Config,
        faults: &Faults,
        proxy: Option<Proxy>,
    ) -> Result<Self> {
        config.connect_timeout = Some(DEADLINE);
        config.default_retry = false;
        let guard = GuardLayer::new(Fence::always_open(), DEADLINE);
        let client = ClientBuilder::try_from(config)?.with_layer(faults).with_layer(&guard).build();
        let settings = Settings {
            hardware_image: setting("E2E_HARDWARE_IMAGE")?,
            portal_image: setting("E2E_PORTAL_IMAGE")?,
            collector_image: setting("E2E_COLLECTOR_IMAGE")?,
            image_pull_policy: Some("Never".to_owned()),
            allowed_database_hosts: Vec::new(),
            // The states of rotations too, which the installed operator must leave alone.
            namespace: namespace.to_owned(),
            rds_authorities: Vec::new().into(),
            aws_endpoint: None,
        };
        let http = PodHttp::new().context("failed to prepare a client for pods")?;
        let equipment = Equipment {
            sources: Sources::new(client.clone(), None),
            watch_reports: WatchReports::new(client.clone(), http.clone()),
            client,
            fence: Fence::always_open(),
            settings,
            pod_reports: PodReports::new(http.clone()),
            source_reports: SourceReports::new(http),
            instance: "in-process".to_owned(),
            gauges: PortalGauges::default(),
            status_pause: STATUS_PAUSE,
        };
        let closing = CancellationToken::new();
        let scopes = vec![Scope::Namespace(namespace.to_owned())];
        let followed = follow(&equipment.client, scopes);
        let task = tokio::spawn(control(equipment, followed, closing.clone()));
        Ok(Self { task, closing, _proxy: proxy })
    }

    /// Ends it as a signal does.
    pub async fn stop(mut self) -> Result<()> {
        self.closing.cancel();
        let ended = timeout(STOPPED, &mut self.task).await;
        ended.context("the operator goes on after it was told to stop")?.context("it panicked")
    }

    /// Ends it as the end of its machine does: nothing that was under way goes on.
    pub async fn crash(mut self) -> Result<()> {
        self.task.abort();
        match (&mut self.task).await {
            Err(error) if error.is_cancelled() => Ok(()),
            other => other.context("the operator panicked"),
        }
    }
}

/// A test that fails leaves no operator behind, which would go on in the namespace of the next one.
impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

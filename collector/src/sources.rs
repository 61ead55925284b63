//! The kinds of sources. Each says what it knows; how that is posted is the same for all.

pub(crate) mod kubernetes;
pub(crate) mod prometheus;

use std::time::Duration;

use kube::Client;
use serde::Deserialize;

use self::{kubernetes::Kubernetes, prometheus::Prometheus};
use crate::statement::Statement;

/// One source, as `SOURCES` lists it: a name, and exactly one kind.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Name of the source; that of its kind if it is missing.
    name: Option<String>,
    /// Nodes and pods of a cluster.
    kubernetes: Option<kubernetes::Options>,
    /// Queries of a Prometheus server.
    prometheus: Option<prometheus::Options>,
}

/// What a source is made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nodes and pods of a cluster.
    Kubernetes(kubernetes::Options),
    /// Queries of a Prometheus server.
    Prometheus(prometheus::Options),
}

impl SourceConfig {
    /// Its name and kind, or what is wrong.
    pub(crate) fn resolve(&self) -> Result<(String, Kind), String> {
        let of_kubernetes = self.kubernetes.clone().map(Kind::Kubernetes);
        let of_prometheus = self.prometheus.clone().map(Kind::Prometheus);
        let mut kinds = of_kubernetes.into_iter().chain(of_prometheus);
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let name = self.name.as_deref().unwrap_or("without a name");
            return Err(format!(
                "the source {name} has not exactly one kind; write kubernetes or prometheus, such as \
                 \"kubernetes\": {{}}"
            ));
        };
        kind.validate()?;
        let name = self.name.clone().unwrap_or_else(|| kind.word().to_owned());
        if is_name(&name) {
            Ok((name, kind))
        } else {
            Err(format!("the name {name:?} is not 1 to 63 characters of a-z, 0-9 and -"))
        }
    }
}

/// Whether the operator would accept it: the name of a file with a token is made of it.
fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl Kind {
    /// Its word in the resource.
    fn word(&self) -> &'static str {
        match self {
            Self::Kubernetes(_) => "kubernetes",
            Self::Prometheus(_) => "prometheus",
        }
    }

    fn validate(&self) -> Result<(), String> {
        match self {
            Self::Kubernetes(options) => options.validate(),
            Self::Prometheus(options) => options.validate(),
        }
    }

    /// Begins to follow what the source `name` is about.
    pub(crate) async fn open(&self, name: &str) -> Result<OpenSource, String> {
        match self {
            Self::Kubernetes(options) => {
                let client = Client::try_default().await.map_err(|error| {
                    format!(
                        "failed to find the API server: {error}; run in a pod with a service account, or set \
                         KUBECONFIG"
                    )
                })?;
                Kubernetes::follow(client, options).map(Box::new).map(OpenSource::Kubernetes)
            }
            Self::Prometheus(options) => {
                Prometheus::new(name, options).map(Box::new).map(OpenSource::Prometheus)
            }
        }
    }
}

/// Why a source says nothing now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    /// It has not seen everything yet.
    #[error("it is still listing what there is")]
    Starting,
    /// What it knows could not be confirmed.
    #[error("{0}")]
    Unconfirmed(String),
}

/// What knows of hardware.
pub(crate) trait Source: Send {
    /// How often it speaks even if nothing changed.
    fn interval(&self) -> Duration;

    /// What is true now, confirmed now. Takes half a minute at most.
    fn look(&mut self) -> impl Future<Output = Result<Statement, Silence>> + Send;

    /// Waits until it has something else to say. May be dropped at any time.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// A source of any kind that is being followed.
pub(crate) enum OpenSource {
    /// Nodes and pods of a cluster.
    Kubernetes(Box<Kubernetes>),
    /// Queries of a Prometheus server.
    Prometheus(Box<Prometheus>),
}

impl Source for OpenSource {
    fn interval(&self) -> Duration {
        match self {
            Self::Kubernetes(source) => source.interval(),
            Self::Prometheus(source) => source.interval(),
        }
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        match self {
            Self::Kubernetes(source) => source.look().await,
            Self::Prometheus(source) => source.look().await,
        }
    }

    async fn changed(&mut self) {
        match self {
            Self::Kubernetes(source) => source.changed().await,
            Self::Prometheus(source) => source.changed().await,
        }
    }
}

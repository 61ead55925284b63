//! The kinds of sources. Each says what it knows; how that is posted is the same for all.

mod api_server;
mod complaints;
pub(crate) mod ec2;
pub(crate) mod karpenter;
pub(crate) mod kubernetes;
pub(crate) mod ovh;
mod places;
pub(crate) mod prometheus;
mod service;
mod watch;

use std::time::Duration;

use hardware_api::Attempt;
use serde::Deserialize;
use service_kit::Clock;

use self::{
    ec2::Ec2, karpenter::Karpenter, kubernetes::Kubernetes, ovh::Ovh, prometheus::Prometheus,
};
use crate::statement::Statement;

/// One source, as `SOURCES` lists it: a name, and exactly one kind.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Name of the source; that of its kind if it is missing.
    name: Option<String>,
    /// Nodes and pods of a cluster.
    kubernetes: Option<kubernetes::Options>,
    /// Requests of Karpenter.
    karpenter: Option<karpenter::Options>,
    /// A region of Amazon EC2.
    ec2: Option<ec2::Options>,
    /// Dedicated servers of OVHcloud.
    ovh: Option<ovh::Options>,
    /// Queries of a Prometheus server.
    prometheus: Option<prometheus::Options>,
}

/// What a source is made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nodes and pods of a cluster.
    Kubernetes(kubernetes::Options),
    /// Requests of Karpenter.
    Karpenter(karpenter::Options),
    /// A region of Amazon EC2.
    Ec2(ec2::Options),
    /// Dedicated servers of OVHcloud.
    Ovh(ovh::Options),
    /// Queries of a Prometheus server.
    Prometheus(prometheus::Options),
}

impl SourceConfig {
    /// Its name and kind, or what is wrong.
    pub(crate) fn resolve(&self) -> Result<(String, Kind), String> {
        let kinds = [
            self.kubernetes.clone().map(Kind::Kubernetes),
            self.karpenter.clone().map(Kind::Karpenter),
            self.ec2.clone().map(Kind::Ec2),
            self.ovh.clone().map(Kind::Ovh),
            self.prometheus.clone().map(Kind::Prometheus),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let name = self.name.as_deref().unwrap_or("without a name");
            return Err(format!(
                "the source {name} has not exactly one kind; write one of {}, such as \"kubernetes\": {{}}",
                WORDS.join(", ")
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

/// The words of all kinds.
const WORDS: [&str; 5] = ["kubernetes", "karpenter", "ec2", "ovh", "prometheus"];

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
            Self::Karpenter(_) => "karpenter",
            Self::Ec2(_) => "ec2",
            Self::Ovh(_) => "ovh",
            Self::Prometheus(_) => "prometheus",
        }
    }

    fn validate(&self) -> Result<(), String> {
        match self {
            Self::Kubernetes(options) => options.validate(),
            Self::Karpenter(options) => options.validate(),
            Self::Ec2(options) => options.validate(),
            Self::Ovh(options) => options.validate(),
            Self::Prometheus(options) => options.validate(),
        }
    }

    /// Begins to follow what the source `name` is about.
    pub(crate) async fn open(&self, name: &str, clock: &Clock) -> Result<OpenSource, String> {
        match self {
            Self::Kubernetes(options) => {
                let client = api_server::connect().await?;
                Kubernetes::follow(client, options).map(Box::new).map(OpenSource::Kubernetes)
            }
            Self::Karpenter(options) => {
                let client = api_server::connect().await?;
                let source = Karpenter::follow(name, client, options, clock);
                source.map(Box::new).map(OpenSource::Karpenter)
            }
            Self::Ec2(options) => Ec2::new(name, options, clock).map(Box::new).map(OpenSource::Ec2),
            Self::Ovh(options) => Ovh::new(name, options).map(Box::new).map(OpenSource::Ovh),
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

    /// What came of requests for hardware, each once. Whoever takes it keeps it until it has arrived.
    fn take_attempts(&mut self) -> Vec<Attempt> {
        Vec::new()
    }
}

/// A source of any kind that is being followed.
pub(crate) enum OpenSource {
    /// Nodes and pods of a cluster.
    Kubernetes(Box<Kubernetes>),
    /// Requests of Karpenter.
    Karpenter(Box<Karpenter>),
    /// A region of Amazon EC2.
    Ec2(Box<Ec2>),
    /// Dedicated servers of OVHcloud.
    Ovh(Box<Ovh>),
    /// Queries of a Prometheus server.
    Prometheus(Box<Prometheus>),
}

/// The same of whatever kind `$open` is.
macro_rules! of_any_kind {
    ($open:expr, $source:ident => $what:expr) => {
        match $open {
            OpenSource::Kubernetes($source) => $what,
            OpenSource::Karpenter($source) => $what,
            OpenSource::Ec2($source) => $what,
            OpenSource::Ovh($source) => $what,
            OpenSource::Prometheus($source) => $what,
        }
    };
}

impl Source for OpenSource {
    fn interval(&self) -> Duration {
        of_any_kind!(self, source => source.interval())
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        of_any_kind!(self, source => source.look().await)
    }

    async fn changed(&mut self) {
        of_any_kind!(self, source => source.changed().await);
    }

    fn take_attempts(&mut self) -> Vec<Attempt> {
        of_any_kind!(self, source => source.take_attempts())
    }
}

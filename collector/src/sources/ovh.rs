//! Which dedicated servers OVHcloud delivers within the hour, as its public API says.

mod availabilities;

use std::time::Duration;

use http::{Request, Uri, header};
use kube::client::Body;
use serde::Deserialize;

use super::{
    Silence, Source,
    complaints::Complaints,
    service::{self, Service},
};
use crate::statement::{Pools, Statement};

/// OVHcloud's API for Europe, which knows the datacenters of the others too.
const DEFAULT_URL: &str = "https://eu.api.ovh.com/v1/dedicated/server/datacenter/availabilities";
/// How often it is asked. What a datacenter can deliver changes by the hour.
const INTERVAL: Duration = Duration::from_mins(5);
/// Time for the answer, of a few megabytes.
const DEADLINE: Duration = Duration::from_secs(20);
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Options {
    /// Address of the list instead of the one for Europe.
    url: Option<String>,
    /// Datacenters that are reported, such as `gra`; all if there are none.
    datacenters: Vec<String>,
    /// Servers that are reported, such as `24rise01`; all if there are none.
    servers: Vec<String>,
}

impl Options {
    /// What is wrong, if anything.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.address().map(drop)
    }

    fn address(&self) -> Result<Uri, String> {
        service::parse_address("ovh.url", self.url.as_deref().unwrap_or(DEFAULT_URL))
    }
}

/// A list that is asked for again and again.
pub(crate) struct Ovh {
    name: String,
    options: Options,
    service: Service,
    path: String,
    complaints: Complaints,
}

impl Ovh {
    /// Will ask for the source `name`.
    pub(crate) fn new(name: &str, options: &Options) -> Result<Self, String> {
        let (address, path) = service::split_path(options.address()?);
        Ok(Self {
            name: name.to_owned(),
            options: options.clone(),
            service: Service::new(address, DEADLINE, MAX_BYTES)?,
            path,
            complaints: Complaints::default(),
        })
    }

    async fn ask(&mut self) -> Result<Pools, String> {
        let request = Request::get(&self.path)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .expect("a path of an address, and a constant header");
        let answered = self.service.ask(request).await;
        let (status, body) = answered.map_err(|reason| format!("OVHcloud {reason}"))?;
        if !status.is_success() {
            return Err(format!("OVHcloud answers {status}; check ovh.url"));
        }
        let Options { datacenters, servers, .. } = &self.options;
        let (pools, complaints) = availabilities::read(&body, datacenters, servers)?;
        self.complaints.say(&self.name, complaints);
        Ok(pools)
    }
}

impl Source for Ovh {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        self.ask().await.map(Statement::Pools).map_err(Silence::Unconfirmed)
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }
}

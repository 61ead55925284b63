//! What the passes of one scope work with.

use std::sync::Arc;

use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{apply::Applier, source_reports::SourceReports, status::publisher::StatusPublisher};
use crate::{
    cluster::{
        cache::Cache,
        events::Events,
        retry::Retries,
        secrets::{OwnSecrets, SecretContents},
    },
    rotation::{executor::Executor, source::Sources},
    settings::Settings,
    watch::context::WatchContext,
};

/// What a pass works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The administrator's decisions.
    pub settings: Settings,
    /// The children as they are.
    pub cache: Cache,
    /// What the operator's own Secrets hold.
    pub contents: SecretContents,
    /// Where root credentials come from.
    pub sources: Sources,
    /// Asks the portals' APIs for who reports.
    pub source_reports: SourceReports,
    /// The watches that refer to portals.
    pub watches: Arc<WatchContext>,
    /// Changes the pods' credentials.
    pub executor: Arc<Executor>,
    /// Bounds the passes of the whole process, however many namespaces it watches.
    pub passes: Arc<Semaphore>,
    /// Writes children.
    pub applier: Applier,
    /// Writes statuses.
    pub publisher: StatusPublisher,
    /// Writes events.
    pub events: Events,
    /// Delays after failures.
    pub retries: Retries,
    /// Told to stop: what has not begun does not begin.
    pub closing: CancellationToken,
}

impl Context {
    /// The operator's own Secrets of one portal.
    #[must_use]
    pub fn own_secrets<'a>(&'a self, namespace: &'a str, portal: &'a str) -> OwnSecrets<'a> {
        OwnSecrets {
            api: Api::namespaced(self.client.clone(), namespace),
            namespace,
            portal,
            cache: &self.cache,
            contents: &self.contents,
        }
    }
}

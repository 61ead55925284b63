//! What the passes over the watches of one scope work with, and the passes over their portals.

use kube::Client;
use kube_runtime::reflector::Store;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    index::WatchIndex, publisher::WatchPublisher, renditions::Renditions, reports::WatchReports,
    secrets::ReceiverSecrets,
};
use crate::cluster::{Guarded, events::Events, retry::Retries};

/// What a pass works with.
pub struct WatchContext {
    /// The API server.
    pub client: Client,
    /// Which watches there are.
    pub index: WatchIndex,
    /// The portals of the scope.
    pub portals: Store<Guarded>,
    /// The Secrets that watches name.
    pub secrets: ReceiverSecrets,
    /// What became of each watch in the last pass over its portal.
    pub renditions: Renditions,
    /// Asks the portals' pods what they watch for.
    pub reports: WatchReports,
    /// Writes statuses.
    pub publisher: WatchPublisher,
    /// Writes events.
    pub events: Events,
    /// Delays after failures.
    pub retries: Retries,
    /// When the passes of this scope began.
    pub started: Instant,
    /// Told to stop: what has not begun does not begin.
    pub closing: CancellationToken,
}

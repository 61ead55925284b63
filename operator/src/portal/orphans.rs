//! Accounts of portals that no longer exist. A portal whose deletion policy is Retain has no finalizer; its
//! accounts are locked once it is gone, with what is stored of it in the operator's own namespace.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crds::HardwarePortal;
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    cluster::scope::Scope,
    rotation::{executor::Executor, request::PortalKey, retirement, store::Record},
    settings::Settings,
};

/// Time between two comparisons of what is stored with what exists.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time between two tries to lock the accounts of a portal that is gone, doubled from the first on.
const FIRST_RETRY: Duration = Duration::from_secs(20);
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// Time after which accounts are left as they are, if no root login to their server works until then.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// The portals that exist, by scope. Clones share it.
#[derive(Clone, Debug)]
pub struct KnownPortals {
    scopes: usize,
    uids: Arc<Mutex<HashMap<Scope, HashSet<String>>>>,
}

impl KnownPortals {
    /// Nothing is known yet of any of this many scopes.
    #[must_use]
    pub fn new(scopes: usize) -> Self {
        Self { scopes, uids: Arc::default() }
    }

    /// Records the portals of one scope.
    pub fn record(&self, scope: &Scope, uids: HashSet<String>) {
        let mut scopes = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.insert(scope.clone(), uids);
    }

    /// The uids of all scopes; none as long as one of them was not recorded.
    fn all(&self) -> Option<HashSet<String>> {
        let scopes = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        (scopes.len() == self.scopes).then(|| scopes.values().flatten().cloned().collect())
    }
}

/// A try that failed.
struct Failed {
    since: Instant,
    next: Instant,
    delay: Duration,
}

/// Locks or drops the accounts of portals that no longer exist, until shutdown.
pub async fn retire_orphans(
    client: Client,
    executor: Arc<Executor>,
    known: KnownPortals,
    settings: Settings,
    closing: CancellationToken,
) {
    let mut ticks = interval(INTERVAL);
    let mut is_listed = false;
    let mut failures: HashMap<String, Failed> = HashMap::new();
    while closing.run_until_cancelled(ticks.tick()).await.is_some() {
        if !is_listed {
            match executor.store().list().await {
                Ok(()) => is_listed = true,
                Err(error) => {
                    warn!(%error, "the stored states are not known yet");
                    continue;
                }
            }
        }
        let Some(alive) = known.all() else { continue };
        executor.retain(|uid| alive.contains(uid));
        let records = executor.store().records();
        failures.retain(|uid, _| !alive.contains(uid));
        for record in records.into_iter().filter(|record| !alive.contains(&record.portal.uid)) {
            let uid = record.portal.uid.clone();
            let now = Instant::now();
            if failures.get(&uid).is_some_and(|failed| now < failed.next) {
                continue;
            }
            let why = match retire(&record, &client, &executor, &settings).await {
                Retired::Done => {
                    failures.remove(&uid);
                    continue;
                }
                Retired::Exists => {
                    // It is asked for again when this process starts anew, or the portal is watched.
                    let next = now + LONGEST_RETRY;
                    failures.insert(uid, Failed { since: now, next, delay: LONGEST_RETRY });
                    continue;
                }
                Retired::Unknown(why) => {
                    debug!(uid, why, "whether a portal exists is not known");
                    let next = now + FIRST_RETRY;
                    failures.insert(uid, Failed { since: now, next, delay: FIRST_RETRY });
                    continue;
                }
                Retired::Failed(why) => why,
            };
            let failed =
                failures.entry(uid).or_insert(Failed { since: now, next: now, delay: FIRST_RETRY });
            failed.next = now + failed.delay;
            failed.delay = (failed.delay * 2).min(LONGEST_RETRY);
            let PortalKey { namespace, name, uid } = &record.portal;
            warn!(namespace, name, why, "the accounts of a deleted portal are not locked yet");
            if now.duration_since(failed.since) >= GIVE_UP_AFTER {
                let accounts = retirement::accounts_of(uid).join(", ");
                warn!(namespace, name, accounts, "the accounts of a deleted portal are given up");
                if let Err(error) = executor.store().delete(uid).await {
                    warn!(namespace, name, %error, "failed to delete a stored state");
                }
            }
        }
    }
}

/// What came of the accounts of a portal that none of the watches shows.
enum Retired {
    /// They are locked or dropped.
    Done,
    /// The portal exists, in a namespace that is not watched, or it is new.
    Exists,
    /// The API server does not say whether it exists.
    Unknown(String),
    /// The database server is in the way.
    Failed(String),
}

async fn retire(
    record: &Record,
    client: &Client,
    executor: &Executor,
    settings: &Settings,
) -> Retired {
    let PortalKey { namespace, name, uid } = &record.portal;
    let portals: Api<HardwarePortal> = Api::namespaced(client.clone(), namespace);
    let found: Option<PartialObjectMeta<HardwarePortal>> =
        match portals.get_metadata_opt(name).await {
            Ok(found) => found,
            Err(error) => return Retired::Unknown(error.to_string()),
        };
    if found.is_some_and(|found| found.uid().as_deref() == Some(uid)) {
        return Retired::Exists;
    }
    let record = match executor.store().read_again(uid).await {
        Ok(Some(record)) => record,
        Ok(None) => return Retired::Done,
        Err(error) => return Retired::Unknown(error.to_string()),
    };
    match executor.retire_stored(&record, &settings.rds_authorities).await {
        Ok(()) => {
            let policy = record.deletion_policy;
            info!(namespace, name, ?policy, "the accounts of a deleted portal are retired");
            Retired::Done
        }
        Err(trouble) => Retired::Failed(trouble.message),
    }
}

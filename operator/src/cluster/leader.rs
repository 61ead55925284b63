//! Leader election: of several replicas, the one that holds a Lease reconciles. The protocol is
//! client-go's.
//!
//! Time is measured on this process's own monotonic clock, never by the Lease's timestamps: a claim
//! has expired once it was *observed* unchanged for its duration. Each write names the resourceVersion
//! that it is based on, so of two replicas that claim at once the API server refuses one (409). The
//! leader's own [`Fence`] closes before another replica may claim.

mod claim;

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use kube_runtime::{WatchStreamExt, watcher};
use metrics::gauge;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use self::claim::Observed;
use super::client::Fence;

/// Name of the Lease, in the operator's own namespace.
pub const LEASE: &str = "gill-hicks-operator";

/// The times of the election. By default `claim` and `period` are client-go's `LeaseDuration` and
/// `RetryPeriod`; `fence` is shorter than its `RenewDeadline` of 10 s, to leave a request its deadline.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a claim lasts without renewal.
    pub claim: Duration,
    /// How long the leader writes without having renewed the claim. Shorter than `claim` by more than a
    /// request may take, so that no write is under way when the claim expires.
    pub fence: Duration,
    /// Time between two renewals, and between two attempts to claim.
    pub period: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            claim: Duration::from_secs(15),
            fence: Duration::from_secs(9),
            period: Duration::from_secs(2),
        }
    }
}

/// A replica that may become the leader.
pub struct LeaderElector {
    leases: Api<Lease>,
    identity: String,
    fence: Fence,
    times: Times,
}

/// The leader's claim, as it was last written.
pub struct Claim {
    lease: Lease,
    /// When the request that wrote it was sent.
    sent: Instant,
}

impl LeaderElector {
    /// A replica called `identity`, which must differ from that of every other replica, and of an earlier
    /// process in the same pod. `leases` must not pass the fence, which is open only after a write of the
    /// Lease.
    #[must_use]
    pub fn new(leases: Api<Lease>, identity: String, fence: Fence, times: Times) -> Self {
        gauge!("leader").set(0.0);
        Self { leases, identity, fence, times }
    }

    /// Waits until the Lease may be claimed, and claims it. The only request while it waits is a watch.
    pub async fn become_leader(&self) -> Claim {
        let mut changes = self.watch();
        let mut observed: Option<Observed> = None;
        loop {
            let claimable = observed.as_ref().map(Observed::claimable_at);
            let wait = async {
                match claimable {
                    Some(instant) => sleep_until(instant).await,
                    // Not observed yet.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A change is read before the timer: a claim that was renewed must not be replaced.
                biased;
                Some(change) = changes.next() => {
                    let now = Instant::now();
                    match change {
                        Ok(lease) => observed = Some(Observed::update(observed, lease, now)),
                        Err(error) => debug!(%error, "the watch of the Lease starts again"),
                    }
                }
                () = wait => {
                    let seen = observed.as_ref().and_then(|observed| observed.lease.as_ref());
                    match self.claim(seen).await {
                        Ok(claim) => {
                            gauge!("leader").set(1.0);
                            info!(identity = self.identity, "leading");
                            return claim;
                        }
                        Err(error) => {
                            info!(%error, "failed to claim the Lease; trying again");
                            sleep(self.times.period).await;
                        }
                    }
                }
            }
        }
    }

    /// Renews the claim until another replica holds the Lease or the renewal fails for longer than
    /// [`Times::fence`], and then closes the fence.
    pub async fn stay_leader(&self, claim: &mut Claim) {
        loop {
            sleep(self.times.period).await;
            let end = claim.sent + self.times.fence;
            match timeout_at(end, self.renew(claim)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(Lost::ToAnother(holder))) => {
                    warn!(holder, "another replica holds the Lease");
                    break;
                }
                Ok(Err(Lost::Unwritten(error))) => {
                    warn!(%error, "failed to renew the Lease; trying again");
                }
            }
            if Instant::now() >= claim.sent + self.times.fence {
                warn!("the Lease could not be renewed in time");
                break;
            }
        }
        self.fence.close();
        gauge!("leader").set(0.0);
    }

    /// Releases the Lease, so that another replica claims it at once. Every write must have ended before.
    pub async fn resign(&self, claim: Claim) {
        self.fence.close();
        gauge!("leader").set(0.0);
        let spec = claim::release(&claim.lease);
        match self.replace(claim.lease, spec).await {
            Ok(_) => info!("the Lease is released"),
            Err(error) => {
                warn!(%error, "failed to release the Lease; it expires");
            }
        }
    }

    fn watch(&self) -> BoxStream<'static, Result<Option<Lease>, watcher::Error>> {
        watcher::watch_object(self.leases.clone(), LEASE).default_backoff().boxed()
    }

    async fn claim(&self, seen: Option<&Lease>) -> Result<Claim, kube::Error> {
        let sent = Instant::now();
        let spec = claim::claim(seen, &self.identity, self.times.claim, jiff::Timestamp::now());
        let written = if let Some(seen) = seen {
            self.replace(seen.clone(), spec).await?
        } else {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec) };
            self.leases.create(&PostParams::default(), &lease).await?
        };
        self.fence.open_until(sent + self.times.fence);
        Ok(Claim { lease: written, sent })
    }

    async fn renew(&self, claim: &mut Claim) -> Result<(), Lost> {
        let sent = Instant::now();
        let spec = claim::renew(&claim.lease, jiff::Timestamp::now());
        match self.replace(claim.lease.clone(), spec).await {
            Ok(lease) => {
                *claim = Claim { lease, sent };
                self.fence.open_until(sent + self.times.fence);
                Ok(())
            }
            // It was changed meanwhile: its present holder decides.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let lease = self.leases.get(LEASE).await.map_err(Lost::Unwritten)?;
                let holder = claim::holder(&lease).unwrap_or_default().to_owned();
                if holder != self.identity {
                    return Err(Lost::ToAnother(holder));
                }
                claim.lease = lease;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(Lost::ToAnother("nobody: it was deleted".to_owned()))
            }
            Err(error) => Err(Lost::Unwritten(error)),
        }
    }

    async fn replace(&self, mut lease: Lease, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        debug!(version = lease.resource_version(), "writing the Lease");
        lease.spec = Some(spec);
        lease.metadata.managed_fields = None;
        self.leases.replace(LEASE, &PostParams::default(), &lease).await
    }
}

/// Why a claim was not renewed.
enum Lost {
    /// Another replica holds the Lease, or it was deleted.
    ToAnother(String),
    /// The write failed, and may succeed later.
    Unwritten(kube::Error),
}

#[cfg(test)]
mod tests;

//! One of several replicas works at a time: the one that holds a Lease, by client-go's protocol.
//!
//! Time is measured on this process's own monotonic clock, never by the Lease's timestamps: a claim
//! has expired once it was *seen* unchanged for its duration. Each write names the version that it
//! was decided from, so of two replicas that claim at once one is refused (409). The holder's own
//! [`Fence`] closes well before anybody else may claim.

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

/// The times of client-go's own defaults.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a claim lasts that is not renewed.
    pub claim: Duration,
    /// How long the holder goes on without having renewed it. Shorter than `claim` by more than a
    /// request may take, so that no write is under way when the claim ends.
    pub fence: Duration,
    /// Time between two renewals, and between two tries.
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
    /// A replica called `identity`, which must differ from that of every other replica, and also from
    /// that of its own predecessor. `leases` must not pass the fence.
    #[must_use]
    pub fn new(leases: Api<Lease>, identity: String, fence: Fence, times: Times) -> Self {
        gauge!("leader").set(0.0);
        Self { leases, identity, fence, times }
    }

    /// Waits, without a request but one watch, until the Lease is free, and takes it.
    pub async fn become_leader(&self) -> Claim {
        let mut changes = self.watch();
        let mut observed: Option<Observed> = None;
        loop {
            let claimable = observed.as_ref().map(Observed::claimable_at);
            let wait = async {
                match claimable {
                    Some(instant) => sleep_until(instant).await,
                    // Not seen yet.
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What has changed comes first: a claim that was renewed is not to be taken.
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
                            info!(%error, "the Lease was not to be had; trying again");
                            sleep(self.times.period).await;
                        }
                    }
                }
            }
        }
    }

    /// Renews the claim until that fails for too long or somebody else has it. Then nothing may be
    /// written any more.
    pub async fn stay_leader(&self, claim: &mut Claim) {
        loop {
            sleep(self.times.period).await;
            let end = claim.sent + self.times.fence;
            match timeout_at(end, self.renew(claim)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(Lost::ToAnother(holder))) => {
                    warn!(holder, "somebody else has taken the Lease");
                    break;
                }
                Ok(Err(Lost::Unwritten(error))) => {
                    warn!(%error, "the Lease is not renewed yet");
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

    /// Gives the Lease up, so that another replica takes it at once. Everything that writes must have
    /// ended.
    pub async fn resign(&self, claim: Claim) {
        self.fence.close();
        gauge!("leader").set(0.0);
        let spec = claim::release(&claim.lease);
        match self.replace(claim.lease, spec).await {
            Ok(_) => info!("the Lease is released"),
            Err(error) => {
                warn!(%error, "the Lease was not released; it ends by itself");
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
            // Whoever it was: by what it says now.
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
    /// For good.
    ToAnother(String),
    /// For now.
    Unwritten(kube::Error),
}

#[cfg(test)]
mod tests;

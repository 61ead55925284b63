//! The content of a Lease, and when it may be claimed: pure, with the clock as an argument.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::ResourceExt;
use tokio::time::Instant;

/// A Lease as it was last observed; none if it does not exist.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) lease: Option<Lease>,
    /// When this version of it was first observed.
    since: Instant,
}

impl Observed {
    /// Records what was observed. A version that was observed before keeps the time of its first
    /// observation.
    pub(super) fn update(before: Option<Self>, lease: Option<Lease>, now: Instant) -> Self {
        let version =
            |lease: &Option<Lease>| lease.as_ref().and_then(ResourceExt::resource_version);
        match before {
            Some(before) if version(&before.lease) == version(&lease) => before,
            _ => Self { lease, since: now },
        }
    }

    /// When a replica may claim it: at once if it has no holder.
    pub(super) fn claimable_at(&self) -> Instant {
        match &self.lease {
            Some(lease) if holder(lease).is_some() => self.since + duration(lease),
            _ => self.since,
        }
    }
}

/// Who holds a Lease.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    holder.filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|seconds| seconds.try_into().ok()).unwrap_or_default())
}

/// A new claim on a Lease. The times are for people to read; nothing is decided by them.
pub(super) fn claim(
    seen: Option<&Lease>,
    identity: &str,
    duration: Duration,
    now: Timestamp,
) -> LeaseSpec {
    let before = seen.and_then(|lease| lease.spec.as_ref());
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(duration.as_secs().try_into().unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions + i32::from(seen.is_some())),
        ..LeaseSpec::default()
    }
}

/// The same claim, renewed.
pub(super) fn renew(held: &Lease, now: Timestamp) -> LeaseSpec {
    let spec = held.spec.clone().unwrap_or_default();
    LeaseSpec { renew_time: Some(MicroTime(now)), ..spec }
}

/// A claim that is given up, as client-go writes it.
pub(super) fn release(held: &Lease) -> LeaseSpec {
    let spec = held.spec.clone().unwrap_or_default();
    LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..spec }
}

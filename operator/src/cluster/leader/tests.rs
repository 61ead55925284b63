use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use serde_json::json;
use tokio::time::Instant;

use super::claim::{self, Observed};

/// A Lease of this version, held by `holder` for 15 seconds at a time.
fn lease(version: &str, holder: &str) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"name": "operator", "resourceVersion": version},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15,
            // Far in the past: no decision may depend on it.
            "renewTime": "2001-01-01T00:00:00.000000Z", "leaseTransitions": 4,
        },
    }))
    .expect("a Lease")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_claim_expires_once_it_was_seen_unchanged_for_its_duration() {
    let start = Instant::now();
    let seen = Observed::update(None, Some(lease("1", "other")), start);
    assert_eq!(seen.claimable_at(), start + seconds(15));
    let again = Observed::update(Some(seen), Some(lease("1", "other")), start + seconds(10));
    assert_eq!(again.claimable_at(), start + seconds(15), "seeing it again renews nothing");
    let renewed = Observed::update(Some(again), Some(lease("2", "other")), start + seconds(14));
    assert_eq!(renewed.claimable_at(), start + seconds(29));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_missing_or_released_is_claimable_at_once() {
    let start = Instant::now();
    assert_eq!(Observed::update(None, None, start).claimable_at(), start);
    let held = Observed::update(None, Some(lease("1", "other")), start);
    let released = Observed::update(Some(held), Some(lease("2", "")), start + seconds(3));
    assert_eq!(released.claimable_at(), start + seconds(3));
    let deleted = Observed::update(Some(released), None, start + seconds(4));
    assert_eq!(deleted.claimable_at(), start + seconds(4));
}

#[test]
fn lease_transitions_count_claims_and_not_renewals() {
    let now = jiff::Timestamp::now();
    let LeaseSpec { holder_identity, lease_transitions, lease_duration_seconds, .. } =
        claim::claim(Some(&lease("1", "")), "me", seconds(15), now);
    assert_eq!(holder_identity.as_deref(), Some("me"));
    assert_eq!((lease_transitions, lease_duration_seconds), (Some(5), Some(15)));
    assert_eq!(claim::claim(None, "me", seconds(15), now).lease_transitions, Some(0));
    let renewed = claim::renew(&lease("1", "me"), now);
    assert_eq!(renewed.lease_transitions, Some(4));
    assert_eq!(renewed.renew_time.map(|time| time.0), Some(now));
}

mod replicas;

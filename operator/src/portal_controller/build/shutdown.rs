//! How long each phase of a pod's end takes, so that no request is sent to a pod that is gone.
//!
//! Kubernetes and a load balancer take a pod out of their lists while it is being ended, not before:
//! for some seconds it still gets requests. Therefore it first goes on serving (`preStop`), then
//! reports itself not ready and drains, and is killed only well after its own deadline.

use std::time::Duration;

/// How long a load balancer goes on sending to a target that was taken out.
pub const DEREGISTRATION_DELAY: Duration = Duration::from_secs(8);
/// How long a pod goes on serving as if nothing had happened.
pub const PRE_STOP: Duration = Duration::from_secs(10);
/// `DRAIN_DELAY` of the services: not ready, but still serving.
pub const DRAIN_DELAY: Duration = Duration::from_secs(1);
/// `SHUTDOWN_DEADLINE` of the services: what requests in flight get.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// What a busy node may add.
const MARGIN: Duration = Duration::from_secs(4);

/// `terminationGracePeriodSeconds` of a pod.
#[must_use]
pub fn grace_period() -> i64 {
    let total = PRE_STOP + DRAIN_DELAY + DEADLINE + MARGIN;
    i64::try_from(total.as_secs()).expect("a small constant")
}

#[cfg(test)]
mod tests {
    use super::{DEREGISTRATION_DELAY, PRE_STOP, grace_period};

    #[test]
    fn a_pod_serves_until_nobody_sends_and_ends_before_a_spot_node_is_taken() {
        assert!(DEREGISTRATION_DELAY < PRE_STOP);
        // AWS announces the end of a spot node 120 s ahead; some of that goes on noticing it.
        assert!(grace_period() <= 90, "{}", grace_period());
    }
}

//! From NodeClaims and events to attempts: each request for a machine is told once, whatever announces its
//! outcome. Pure.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::{Attempt, AttemptOutcome};
use k8s_openapi::api::core::v1;
use kube::ResourceExt;

use super::node_claim::{INSUFFICIENT_CAPACITY, NodeClaim};
use crate::statement::Pool;

/// Requests that are remembered after their NodeClaim is gone: the event that says why may come later than
/// that, and a list of all NodeClaims tells them anew.
const MOST_GONE: usize = 10_000;
/// Events of NodeClaims that have not been seen.
const MOST_UNMATCHED: usize = 1_000;

/// What is known of requests for machines.
#[derive(Debug)]
pub(crate) struct Requests {
    /// By the uid of the NodeClaim.
    known: HashMap<String, Request>,
    /// Those whose NodeClaim is gone, in the order in which that was noticed.
    gone: VecDeque<String>,
    /// Failures of NodeClaims that have not been seen: the two watches are not in step.
    unmatched: VecDeque<(String, Failure)>,
    /// What ended before this was told by whoever ran then.
    oldest: DateTime<Utc>,
    attempts: Vec<Attempt>,
    /// Failures that are of no single pool.
    ambiguous: u64,
}

/// A request for one machine.
#[derive(Debug, Default)]
struct Request {
    asked_for: Option<Pool>,
    is_gone: bool,
    has_failed: bool,
    has_succeeded: bool,
}

/// A cloud had too little.
#[derive(Clone, Debug)]
struct Failure {
    at: DateTime<Utc>,
    code: String,
}

impl Requests {
    /// Will tell what ended at `oldest` or later.
    pub(super) fn since(oldest: DateTime<Utc>) -> Self {
        Self {
            known: HashMap::new(),
            gone: VecDeque::new(),
            unmatched: VecDeque::new(),
            oldest,
            attempts: Vec::new(),
            ambiguous: 0,
        }
    }

    /// The attempts that have not been taken yet.
    pub(super) fn take_attempts(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.attempts)
    }

    /// How many failures were of no single pool since this was last asked.
    pub(super) fn take_ambiguous(&mut self) -> u64 {
        std::mem::take(&mut self.ambiguous)
    }

    /// How many NodeClaims there are.
    pub(super) fn len(&self) -> usize {
        self.known.values().filter(|request| !request.is_gone).count()
    }

    /// Takes a NodeClaim as it is now. Says whether there is something to tell.
    pub(super) fn apply(&mut self, claim: &NodeClaim) -> bool {
        let Some(uid) = claim.uid() else { return false };
        let before = self.told();
        let request = self.known.entry(uid.clone()).or_default();
        request.is_gone = false;
        request.asked_for = claim.asked_for();
        if let Some((at, code)) = claim.refused() {
            self.fail(&uid, &Failure { at, code: code.to_owned() });
        }
        if let Some(place) = self.unmatched.iter().position(|(known, _)| *known == uid)
            && let Some((_, failure)) = self.unmatched.remove(place)
        {
            self.fail(&uid, &failure);
        }
        if let Some((at, pool)) = claim.launched() {
            self.succeed(&uid, at, &pool);
        }
        self.told() != before
    }

    /// Takes the event of a NodeClaim. Says whether there is something to tell.
    pub(super) fn apply_event(&mut self, event: &v1::Event) -> bool {
        let is_failure =
            event.reason.as_deref().is_some_and(|it| it.starts_with(INSUFFICIENT_CAPACITY));
        let (Some(uid), Some(at), true) = (&event.involved_object.uid, time(event), is_failure)
        else {
            return false;
        };
        let code = event.reason.clone().unwrap_or_default();
        let before = self.told();
        let failure = Failure { at, code };
        if self.known.contains_key(uid) {
            self.fail(uid, &failure);
        } else if self.unmatched.iter().all(|(known, _)| known != uid) {
            self.unmatched.push_back((uid.clone(), failure));
            let surplus = self.unmatched.len().saturating_sub(MOST_UNMATCHED);
            self.unmatched.drain(..surplus);
        }
        self.told() != before
    }

    /// Remembers that a NodeClaim is gone.
    pub(super) fn remove(&mut self, claim: &NodeClaim) {
        if let Some(uid) = claim.uid() {
            self.mark_gone(uid);
        }
    }

    /// Takes all NodeClaims for gone until they are listed anew.
    pub(super) fn remove_all(&mut self) {
        let present = self.known.iter().filter(|(_, request)| !request.is_gone);
        let present: Vec<String> = present.map(|(uid, _)| uid.clone()).collect();
        for uid in present {
            self.mark_gone(uid);
        }
    }

    fn mark_gone(&mut self, uid: String) {
        let Some(request) = self.known.get_mut(&uid) else { return };
        request.is_gone = true;
        self.gone.push_back(uid);
        while self.gone.len() > MOST_GONE {
            let Some(uid) = self.gone.pop_front() else { break };
            // It may have been listed anew since.
            if self.known.get(&uid).is_some_and(|request| request.is_gone) {
                self.known.remove(&uid);
            }
        }
    }

    fn fail(&mut self, uid: &str, failure: &Failure) {
        let Some(request) = self.known.get_mut(uid) else { return };
        if std::mem::replace(&mut request.has_failed, true) || failure.at < self.oldest {
            return;
        }
        match &request.asked_for {
            Some(pool) => {
                let at = told_apart(failure.at, uid);
                self.attempts.push(pool.attempt(AttemptOutcome::Failed, at, Some(&failure.code)));
            }
            None => self.ambiguous += 1,
        }
    }

    fn succeed(&mut self, uid: &str, at: DateTime<Utc>, pool: &Pool) {
        let Some(request) = self.known.get_mut(uid) else { return };
        if !std::mem::replace(&mut request.has_succeeded, true) && at >= self.oldest {
            let at = told_apart(at, uid);
            self.attempts.push(pool.attempt(AttemptOutcome::Succeeded, at, None));
        }
    }

    fn told(&self) -> (usize, u64) {
        (self.attempts.len(), self.ambiguous)
    }
}

/// The times of Kubernetes are whole seconds, and an attempt is known by its pool and time: without this, two
/// machines that were given in one second would be one. The same NodeClaim gets the same time again.
fn told_apart(at: DateTime<Utc>, uid: &str) -> DateTime<Utc> {
    let number =
        uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    at + TimeDelta::milliseconds(i64::from(number % 1000))
}

/// When it happened first.
fn time(event: &v1::Event) -> Option<DateTime<Utc>> {
    let first = event.first_timestamp.as_ref().map(|time| time.0.as_millisecond());
    let first = first.or_else(|| event.event_time.as_ref().map(|time| time.0.as_millisecond()));
    let created = event.metadata.creation_timestamp.as_ref();
    DateTime::from_timestamp_millis(first.or_else(|| created.map(|it| it.0.as_millisecond()))?)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use k8s_openapi::api::core::v1;
    use serde_json::{Value, json};

    use super::{MOST_GONE, NodeClaim, Requests};

    fn time(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("a time").to_utc()
    }

    fn requests() -> Requests {
        Requests::since(time("2026-01-01T00:00:00Z"))
    }

    /// As Karpenter 1.x writes one for the AWS provider; `asked` are the values of each requirement.
    fn claim(uid: &str, asked: [&[&str]; 3], labels: &Value, conditions: &Value) -> NodeClaim {
        let requirement =
            |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
        serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": {"name": format!("gpu-{uid}"), "uid": uid, "labels": labels},
            "spec": {
                "expireAfter": "720h",
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [
                    {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]},
                    {"key": "karpenter.k8s.aws/instance-cpu", "operator": "Gt", "values": ["4"]},
                    requirement("node.kubernetes.io/instance-type", asked[0]),
                    requirement("topology.kubernetes.io/zone", asked[1]),
                    requirement("karpenter.sh/capacity-type", asked[2]),
                ],
                "resources": {"requests": {"cpu": "4150m"}},
            },
            "status": {"conditions": conditions},
        }))
        .expect("a NodeClaim")
    }

    const ONE: [&[&str]; 3] = [&["p5.48xlarge"], &["us-east-1a"], &["spot"]];
    const SEVERAL: [&[&str]; 3] = [&["m5.large", "m5.xlarge"], &["us-east-1a"], &["spot"]];

    fn condition(kind: &str, status: &str, reason: &str, at: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": at, "observedGeneration": 1})
    }

    fn pending(uid: &str, asked: [&[&str]; 3]) -> NodeClaim {
        let launched =
            condition("Launched", "Unknown", "AwaitingReconciliation", "2026-01-01T10:00:00Z");
        claim(uid, asked, &json!({"karpenter.sh/nodepool": "gpu"}), &json!([launched]))
    }

    fn launched(uid: &str, at: &str) -> NodeClaim {
        let labels = json!({
            "karpenter.sh/nodepool": "gpu", "karpenter.sh/capacity-type": "on-demand",
            "node.kubernetes.io/instance-type": "m5.large", "topology.kubernetes.io/zone": "us-east-1b",
            "topology.kubernetes.io/region": "us-east-1",
        });
        let conditions = json!([
            condition("Launched", "True", "Launched", at),
            condition("Registered", "Unknown", "NodeNotFound", at),
        ]);
        claim(uid, SEVERAL, &labels, &conditions)
    }

    fn event(uid: &str) -> v1::Event {
        serde_json::from_value(json!({
            "metadata": {"name": "gpu-x.18a", "namespace": "default"},
            "involvedObject": {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "name": "gpu-x", "uid": uid},
            "reason": "InsufficientCapacityError", "type": "Warning", "count": 1,
            "message": "NodeClaim gpu-x event: creating instance, insufficient capacity, with fleet error(s), \
                        InsufficientInstanceCapacity",
            "firstTimestamp": "2026-01-01T10:00:02Z", "lastTimestamp": "2026-01-01T10:00:02Z",
        }))
        .expect("an event")
    }

    /// What was told: names, outcome and second of each attempt.
    fn told(requests: &mut Requests) -> Vec<String> {
        let line = |it: hardware_api::Attempt| {
            format!(
                "{} {} {} {} {} {:?} {} {}",
                it.provider,
                it.name,
                it.region.unwrap_or_default(),
                it.zone.unwrap_or_default(),
                it.tier.unwrap_or_default(),
                it.outcome,
                it.at.format("%H:%M:%S"),
                it.code.unwrap_or_default(),
            )
        };
        requests.take_attempts().into_iter().map(line).collect()
    }

    const FAILED: &str =
        "Amazon p5.48xlarge us-east-1 us-east-1a spot Failed 10:00:02 InsufficientCapacityError";

    #[test]
    fn a_launch_is_a_success_of_what_was_given_and_is_told_once() {
        let mut requests = requests();
        assert!(!requests.apply(&pending("a", SEVERAL)), "nothing came of it yet");
        assert!(requests.apply(&launched("a", "2026-01-01T10:00:05Z")));
        assert!(!requests.apply(&launched("a", "2026-01-01T10:00:05Z")));
        let expected = "Amazon m5.large us-east-1 us-east-1b on-demand Succeeded 10:00:05 ";
        assert_eq!(told(&mut requests), [expected]);
        // A list of all, as after a lost watch, tells nothing anew.
        requests.remove_all();
        assert_eq!(requests.len(), 0);
        assert!(!requests.apply(&launched("a", "2026-01-01T10:00:05Z")));
        assert_eq!((told(&mut requests).len(), requests.len()), (0, 1));
    }

    #[test]
    fn too_little_capacity_is_a_failure_of_what_was_asked_for_whichever_watch_is_first() {
        // The event comes while the NodeClaim is there, after it is gone, or before it was seen.
        let mut requests = requests();
        requests.apply(&pending("a", ONE));
        assert!(requests.apply_event(&event("a")));
        assert!(!requests.apply_event(&event("a")), "it is told once");
        assert_eq!(told(&mut requests), [FAILED]);
        requests.apply(&pending("b", ONE));
        requests.remove(&pending("b", ONE));
        assert!(requests.apply_event(&event("b")));
        assert_eq!(told(&mut requests), [FAILED]);
        assert!(!requests.apply_event(&event("c")));
        assert!(requests.apply(&pending("c", ONE)));
        assert_eq!(told(&mut requests), [FAILED]);
    }

    #[test]
    fn a_condition_that_says_so_is_a_failure_too() {
        let mut requests = requests();
        let failed =
            condition("Launched", "False", "InsufficientCapacityError", "2026-01-01T10:00:02Z");
        let failed = claim("a", ONE, &json!({}), &json!([failed]));
        assert!(requests.apply(&failed));
        assert!(!requests.apply_event(&event("a")), "the event says the same");
        assert_eq!(told(&mut requests), [FAILED]);
        let other = condition("Launched", "Unknown", "NodeClassNotReady", "2026-01-01T10:00:02Z");
        assert!(!requests.apply(&claim("b", ONE, &json!({}), &json!([other]))));
    }

    #[test]
    fn a_failure_of_several_pools_says_nothing_of_any_and_is_counted() {
        let mut requests = requests();
        requests.apply(&pending("a", SEVERAL));
        assert!(requests.apply_event(&event("a")), "it is to be counted");
        assert_eq!(told(&mut requests).len(), 0);
        assert_eq!((requests.take_ambiguous(), requests.take_ambiguous()), (1, 0));
    }

    #[test]
    fn what_ended_long_ago_is_not_told() {
        let mut requests = requests();
        assert!(!requests.apply(&launched("a", "2025-12-31T23:59:59Z")));
        assert!(requests.apply(&launched("b", "2026-01-01T00:00:00Z")));
    }

    #[test]
    fn two_launches_of_one_second_are_two_attempts() {
        let mut requests = requests();
        for uid in ["0b5e9c7e-1", "0b5e9c7e-2"] {
            requests.apply(&launched(uid, "2026-01-01T10:00:05Z"));
        }
        let attempts = requests.take_attempts();
        assert_ne!(attempts[0].at, attempts[1].at);
        let mut again = self::requests();
        again.apply(&launched("0b5e9c7e-1", "2026-01-01T10:00:05Z"));
        assert_eq!(again.take_attempts()[0], attempts[0], "a restart tells the same");
    }

    #[test]
    fn what_is_gone_is_forgotten_in_the_end() {
        let mut requests = requests();
        for number in 0..MOST_GONE + 5 {
            let claim = pending(&number.to_string(), ONE);
            requests.apply(&claim);
            requests.remove(&claim);
        }
        assert_eq!((requests.known.len(), requests.len()), (MOST_GONE, 0));
    }
}

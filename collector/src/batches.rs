//! From what a source says to the batches that are posted: only what changed, and everything now and then.
//! Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hardware_api::{Observation, ObservationBatch, Unlisted};

use crate::statement::{Pools, Statement};

/// Observations in one batch; the API takes no more.
const MOST_OBSERVATIONS: usize = 10_000;

/// How often everything is said, whether it changed or not: what a database forgot is there again, and what
/// somebody else said under this source's name is set right.
const EVERYTHING_AFTER: Duration = Duration::from_mins(10);

/// What is known to have arrived.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    pools: Option<Pools>,
    everything_at: Option<DateTime<Utc>>,
}

impl Delivered {
    /// The batches by which `statement`, true at `now`, is said. They have to arrive in this order.
    pub(crate) fn batches(
        &self,
        source: &str,
        interval: Duration,
        statement: &Statement,
        now: DateTime<Utc>,
    ) -> Vec<ObservationBatch> {
        let batch = |unlisted, observations| ObservationBatch {
            source: source.to_owned(),
            expected_interval_s: Some(u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)),
            observed_at: Some(now),
            unlisted,
            observations,
            problem: None,
        };
        let pools = match statement {
            Statement::Pools(pools) => pools,
            Statement::Problem(problem) => {
                let problem = Some(hardware_api::ReportedProblem {
                    code: problem.code.to_owned(),
                    detail: problem.detail.clone(),
                });
                return vec![ObservationBatch { problem, ..batch(None, Vec::new()) }];
            }
        };
        if let Some(changed) = self.changed(pools, now) {
            return vec![batch(Some(Unlisted::Unchanged), changed)];
        }
        let all: Vec<Observation> =
            pools.iter().map(|(pool, seen)| pool.observation(*seen)).collect();
        if all.len() <= MOST_OBSERVATIONS {
            return vec![batch(Some(Unlisted::Gone), all)];
        }
        // More than one batch may list: that others are gone cannot be said, so they fall silent.
        all.chunks(MOST_OBSERVATIONS).map(|chunk| batch(None, chunk.to_vec())).collect()
    }

    /// What changed since, if that alone says everything.
    fn changed(&self, pools: &Pools, now: DateTime<Utc>) -> Option<Vec<Observation>> {
        let (before, at) = (self.pools.as_ref()?, self.everything_at?);
        let age = (now - at).to_std().ok()?;
        // What is no longer there can only be said together with all that is.
        if age >= EVERYTHING_AFTER || before.keys().any(|pool| !pools.contains_key(pool)) {
            return None;
        }
        let others = pools.iter().filter(|(pool, seen)| before.get(pool) != Some(seen));
        let changed: Vec<_> = others.map(|(pool, seen)| pool.observation(*seen)).collect();
        (changed.len() <= MOST_OBSERVATIONS).then_some(changed)
    }

    /// Remembers that the batches of `statement`, true at `now`, arrived.
    pub(crate) fn arrived(&mut self, statement: Statement, now: DateTime<Utc>) {
        let was_everything = match &statement {
            Statement::Pools(pools) => self.changed(pools, now).is_none(),
            Statement::Problem(_) => false,
        };
        match statement {
            Statement::Pools(pools) => self.pools = Some(pools),
            // After a problem everything is said anew.
            Statement::Problem(_) => *self = Self::default(),
        }
        if was_everything {
            self.everything_at = Some(now);
        }
    }

    /// Remembers that it is not known what arrived.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta, Utc};
    use hardware_api::{ObservationBatch, Unlisted};

    use super::{Delivered, EVERYTHING_AFTER, MOST_OBSERVATIONS};
    use crate::statement::{Pool, Pools, Problem, Seen, Statement};

    const INTERVAL: Duration = Duration::from_secs(30);

    fn start() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").expect("a time").to_utc()
    }

    fn pool(name: &str) -> Pool {
        Pool {
            provider: "cluster".to_owned(),
            name: name.to_owned(),
            region: None,
            zone: None,
            tier: "owned".to_owned(),
            unit: "slot".to_owned(),
        }
    }

    fn pools(list: &[(&str, u32, u32)]) -> Pools {
        let seen = |total, in_use| Seen::Counts { total, in_use };
        list.iter().map(|(name, total, in_use)| (pool(name), seen(*total, *in_use))).collect()
    }

    /// A source whose batches all arrive.
    #[derive(Default)]
    struct Told {
        delivered: Delivered,
    }

    impl Told {
        fn tell(&mut self, statement: Statement, second: i64) -> Vec<ObservationBatch> {
            let now = start() + TimeDelta::seconds(second);
            let batches = self.delivered.batches("kubernetes", INTERVAL, &statement, now);
            self.delivered.arrived(statement, now);
            batches
        }

        /// The one batch: whether it speaks of all, and names and counts of what it lists.
        fn tell_pools(&mut self, list: &[(&str, u32, u32)], second: i64) -> (bool, Vec<String>) {
            let batches = self.tell(Statement::Pools(pools(list)), second);
            let [batch] = batches.as_slice() else { panic!("{batches:?}") };
            assert_eq!(batch.observed_at, Some(start() + TimeDelta::seconds(second)));
            assert_eq!((batch.expected_interval_s, &batch.problem), (Some(30), &None));
            let line = |it: &hardware_api::Observation| {
                format!("{} {}/{}", it.name, it.in_use.expect("counts"), it.total.expect("counts"))
            };
            let listed = batch.observations.iter().map(line).collect();
            match batch.unlisted {
                Some(Unlisted::Gone) => (true, listed),
                Some(Unlisted::Unchanged) => (false, listed),
                None => panic!("{batch:?}"),
            }
        }
    }

    #[test]
    fn all_is_said_at_first_then_what_changed_and_all_again_when_something_is_gone() {
        let mut told = Told::default();
        let all = |lines: &[&str]| (true, lines.iter().map(ToString::to_string).collect());
        let some = |lines: &[&str]| (false, lines.iter().map(ToString::to_string).collect());
        let (a, b) = (("a", 8, 2), ("b", 4, 4));
        assert_eq!(told.tell_pools(&[a, b], 0), all(&["a 2/8", "b 4/4"]));
        assert_eq!(told.tell_pools(&[a, b], 30), some(&[]));
        assert_eq!(told.tell_pools(&[("a", 8, 3), b], 31), some(&["a 3/8"]));
        assert_eq!(told.tell_pools(&[("a", 8, 3), b, ("c", 1, 0)], 60), some(&["c 0/1"]));
        assert_eq!(told.tell_pools(&[b, ("c", 1, 0)], 90), all(&["b 4/4", "c 0/1"]));
        assert_eq!(told.tell_pools(&[], 91), all(&[]), "an empty cluster has nothing");
        assert_eq!(told.tell_pools(&[], 92), some(&[]));
    }

    #[test]
    fn all_is_said_again_after_a_while_after_a_failure_and_after_a_problem() {
        let mut told = Told::default();
        let list = [("a", 8, 2)];
        assert!(told.tell_pools(&list, 0).0);
        let late = i64::try_from(EVERYTHING_AFTER.as_secs()).expect("minutes");
        assert!(!told.tell_pools(&list, late - 1).0);
        assert!(told.tell_pools(&list, late).0);
        assert!(!told.tell_pools(&list, late + 30).0);
        told.delivered.forget();
        assert!(told.tell_pools(&list, late + 60).0);
        let problem = Problem { code: "pods_forbidden", detail: "grant it".to_owned() };
        let batches = told.tell(Statement::Problem(problem), late + 90);
        let [batch] = batches.as_slice() else { panic!("{batches:?}") };
        let said = batch.problem.as_ref().expect("a problem");
        assert_eq!((said.code.as_str(), said.detail.as_str()), ("pods_forbidden", "grant it"));
        assert_eq!((batch.unlisted, batch.observations.len()), (None, 0));
        assert!(told.tell_pools(&list, late + 120).0);
        // A clock that was set back says nothing of how long ago that was.
        assert!(told.tell_pools(&list, 0).0);
    }

    #[test]
    fn what_one_batch_cannot_list_is_said_in_several() {
        let names: Vec<String> =
            (0..=MOST_OBSERVATIONS).map(|number| format!("n{number:05}")).collect();
        let list: Vec<_> = names.iter().map(|name| (name.as_str(), 1, 0)).collect();
        let mut told = Told::default();
        let batches = told.tell(Statement::Pools(pools(&list)), 0);
        let lengths: Vec<usize> = batches.iter().map(|batch| batch.observations.len()).collect();
        assert_eq!(lengths, [MOST_OBSERVATIONS, 1]);
        assert!(batches.iter().all(|batch| batch.unlisted.is_none()), "nothing is called gone");
        assert!(!told.tell_pools(&list, 30).0, "a quiet time is one batch all the same");
    }
}

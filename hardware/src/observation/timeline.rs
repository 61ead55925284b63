//! A pool's observations as runs of unchanged counts: pure, and the same for both databases.

use chrono::{NaiveDateTime, TimeDelta};

use super::{Observation, Supply};

/// A run of unchanged counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first observation.
    pub started_at: NaiveDateTime,
    /// The last observation, which may be the first.
    pub last_seen_at: NaiveDateTime,
    /// What all of them said.
    pub supply: Supply,
}

impl Run {
    fn begin(observation: &Observation) -> Self {
        Self {
            started_at: observation.observed_at,
            last_seen_at: observation.observed_at,
            supply: observation.supply,
        }
    }

    /// Whether this run already holds what the observation says. At its two ends observations are
    /// known to have been made, and the first report of a time stands.
    fn holds(&self, observation: &Observation) -> bool {
        let at = observation.observed_at;
        let is_known = at == self.started_at || at == self.last_seen_at;
        self.lasted_at(at) && (is_known || self.supply == observation.supply)
    }

    fn lasted_at(&self, at: NaiveDateTime) -> bool {
        self.started_at <= at && at <= self.last_seen_at
    }
}

/// What became of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It began a new run.
    Accepted,
    /// It confirmed the run that goes on.
    Unchanged,
    /// It was known.
    Duplicate,
    /// It is older than the last observation of its pool and says what is not known.
    Contradicts {
        /// The run that lasted at that time, if there is one.
        known: Option<Run>,
        /// The last observation of the pool.
        last_seen_at: NaiveDateTime,
    },
}

/// The runs of one pool: the one that goes on, and those that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    current: Option<Run>,
    past: Vec<Run>,
    closed: Vec<Run>,
    has_changed: bool,
    has_gap: bool,
}

impl Timeline {
    /// A pool with a run that goes on.
    #[must_use]
    pub fn new(current: Run) -> Self {
        Self { current: Some(current), ..Self::default() }
    }

    /// Adds finished runs, which late observations are compared with.
    pub fn remember(&mut self, past: Vec<Run>) {
        self.past.extend(past);
    }

    /// Takes in one observation. Counts that are the same after more than `max_gap` begin a new run.
    pub fn apply(&mut self, observation: &Observation, max_gap: TimeDelta) -> Outcome {
        let Some(current) = &mut self.current else {
            self.current = Some(Run::begin(observation));
            self.has_changed = true;
            return Outcome::Accepted;
        };
        let silence = observation.observed_at - current.last_seen_at;
        if silence <= TimeDelta::zero() {
            let last_seen_at = current.last_seen_at;
            let runs = || self.past.iter().chain(&self.closed).chain(&self.current);
            if runs().any(|run| run.holds(observation)) {
                return Outcome::Duplicate;
            }
            let known = runs().find(|run| run.lasted_at(observation.observed_at)).cloned();
            return Outcome::Contradicts { known, last_seen_at };
        }
        self.has_changed = true;
        self.has_gap |= silence > max_gap;
        if current.supply == observation.supply && silence <= max_gap {
            current.last_seen_at = observation.observed_at;
            return Outcome::Unchanged;
        }
        self.closed.push(std::mem::replace(current, Run::begin(observation)));
        Outcome::Accepted
    }

    /// Whether an observation came after more than `max_gap`.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// What has to be written: the run that goes on, and the runs that ended; nothing if nothing
    /// changed.
    #[must_use]
    pub fn into_changes(self) -> Option<(Run, Vec<Run>)> {
        let current = self.current.filter(|_| self.has_changed)?;
        Some((current, self.closed))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDateTime, TimeDelta};
    use proptest::prelude::*;

    use super::{Outcome, Run, Timeline};
    use crate::observation::{Observation, PoolName, Supply};

    const MAX_GAP: TimeDelta = TimeDelta::minutes(2);

    fn at(second: i64) -> NaiveDateTime {
        DateTime::from_timestamp(second, 0).expect("in range").naive_utc()
    }

    fn seen(second: i64, free: i32) -> Observation {
        let pool = PoolName {
            provider: "Amazon".to_owned(),
            name: "c5".to_owned(),
            region: String::new(),
            zone: String::new(),
            tier: "on-demand".to_owned(),
            unit: "unit".to_owned(),
        };
        Observation {
            index: 0,
            pool,
            observed_at: at(second),
            supply: Supply::Counts { total: 8, free },
        }
    }

    fn outcomes(timeline: &mut Timeline, seen: &[Observation]) -> Vec<Outcome> {
        seen.iter().map(|observation| timeline.apply(observation, MAX_GAP)).collect()
    }

    #[test]
    fn only_changes_and_gaps_begin_a_run() {
        use Outcome::{Accepted, Unchanged};
        let mut timeline = Timeline::default();
        let seen = [seen(0, 2), seen(60, 2), seen(120, 1), seen(240, 1), seen(361, 1)];
        assert_eq!(
            outcomes(&mut timeline, &seen),
            [Accepted, Unchanged, Accepted, Unchanged, Accepted]
        );
        let (current, closed) = timeline.into_changes().expect("changed");
        assert_eq!((current.started_at, current.last_seen_at), (at(361), at(361)));
        let ends: Vec<_> = closed.iter().map(|run| (run.started_at, run.last_seen_at)).collect();
        assert_eq!(ends, [(at(0), at(60)), (at(120), at(240))]);
    }

    #[test]
    fn what_contradicts_the_past_is_told_with_what_is_known() {
        let mut timeline = Timeline::default();
        outcomes(&mut timeline, &[seen(0, 2), seen(60, 2), seen(120, 1)]);
        let known = Run {
            started_at: at(0),
            last_seen_at: at(60),
            supply: Supply::Counts { total: 8, free: 2 },
        };
        let last_seen_at = at(120);
        let nothing = Outcome::Contradicts { known: None, last_seen_at };
        let late = [seen(30, 2), seen(30, 1), seen(60, 7), seen(90, 2), seen(-1, 2)];
        assert_eq!(
            outcomes(&mut timeline, &late),
            [
                Outcome::Duplicate,
                Outcome::Contradicts { known: Some(known), last_seen_at },
                Outcome::Duplicate,
                nothing.clone(),
                nothing,
            ]
        );
    }

    #[test]
    fn a_gap_is_longer_than_an_observation_speaks_for() {
        let mut timeline = Timeline::default();
        outcomes(&mut timeline, &[seen(0, 2), seen(120, 2), seen(240, 1), seen(100, 1)]);
        assert!(!timeline.has_gap());
        outcomes(&mut timeline, &[seen(361, 1)]);
        assert!(timeline.has_gap());
    }

    proptest! {
        #[test]
        fn sending_a_batch_again_changes_nothing(
            reports in proptest::collection::btree_map(0_i64..2000, 0_i32..3, 1..40)
        ) {
            let reports: Vec<_> = reports.iter().map(|(at, free)| seen(*at, *free)).collect();
            let mut timeline = Timeline::default();
            outcomes(&mut timeline, &reports);
            let before = timeline.clone();
            for outcome in outcomes(&mut timeline, &reports) {
                prop_assert_eq!(outcome, Outcome::Duplicate);
            }
            prop_assert_eq!(timeline, before);
        }

        #[test]
        fn runs_never_overlap(
            reports in proptest::collection::vec((0_i64..2000, 0_i32..3), 1..40)
        ) {
            let mut timeline = Timeline::default();
            for (at, free) in reports {
                timeline.apply(&seen(at, free), MAX_GAP);
            }
            let (current, mut runs) = timeline.into_changes().expect("at least one report");
            runs.push(current);
            prop_assert!(runs.iter().all(|run| run.started_at <= run.last_seen_at));
            prop_assert!(runs.is_sorted_by(|one, next| one.last_seen_at < next.started_at));
        }
    }
}

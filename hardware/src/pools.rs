//! What is known of each pool, and the level of a row of the list.

use std::collections::BTreeMap;

use availability::{
    Assessment, CorrectionTable, ExpectedInterval, Level, Observation, PoolState, Reading, Segment,
    SourceKind, Timestamp, Wanted, canonical_name, canonical_provider, canonical_text,
    canonical_tier, combine_sources, family_contains, summarize_family,
};
use chrono::NaiveDateTime;
use hardware_api::Availability;
use tracing::error;

use crate::{
    observation::{Run, Supply},
    store::{HardwareRow, PoolRow, SourceRow},
};

/// The pools of all sources.
#[derive(Default)]
pub struct Pools {
    by_id: BTreeMap<i32, Pool>,
    matches: Matches,
    correction: CorrectionTable,
}

struct Pool {
    identity: Identity,
    kind: SourceKind,
    source: String,
    state: PoolState,
}

/// Pools that agree in this are the same supply, seen by different sources. All are canonical.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    provider: String,
    name: String,
    region: String,
    zone: String,
    tier: String,
    unit: String,
}

/// Which pools each row of the list stands for; only rows or pools that are new change it.
#[derive(Default)]
struct Matches {
    rows: Vec<HardwareRow>,
    pools_of_row: Vec<Vec<i32>>,
    is_outdated: bool,
}

impl Pools {
    /// Whether a pool's closed segments have to be read: it is new, or another segment has begun.
    #[must_use]
    pub fn needs_history(&self, row: &PoolRow) -> bool {
        let known = self.by_id.get(&row.id);
        known.is_none_or(|pool| pool.state.open_segment().started != timestamp(row.started_at))
    }

    /// Takes in a pool of `source` as it is now, with its closed segments if [`Pools::needs_history`].
    pub fn update(&mut self, row: &PoolRow, history: Option<Vec<Run>>, source: &SourceRow) {
        let open = segment(&Run::from(row));
        let interval = expected_interval(source);
        let known = self.by_id.remove(&row.id);
        self.matches.is_outdated |= known.is_none();
        let state = match (history, known) {
            (None, Some(Pool { mut state, .. })) => {
                state.set_interval(interval);
                state.extend(open.last_seen);
                state
            }
            (history, _) => {
                // The segments are read after the pools: another process may have closed the open one
                // since.
                let closed = history.unwrap_or_default();
                let closed = closed.iter().filter(|run| run.started_at < row.started_at);
                let segments = closed.map(segment).chain([open]);
                PoolState::fold(segments, interval).expect("there is an open segment")
            }
        };
        let kind = match open.observation {
            Observation::Counts { .. } => SourceKind::Counts,
            Observation::Available(_) => SourceKind::Boolean,
        };
        let identity = Identity {
            provider: canonical_provider(&row.provider).into_owned(),
            name: canonical_name(&row.provider, &row.name),
            region: canonical_text(&row.region),
            zone: canonical_text(&row.zone),
            tier: canonical_tier(&row.tier),
            unit: canonical_text(&row.unit),
        };
        self.by_id.insert(row.id, Pool { identity, kind, source: source.name.clone(), state });
    }

    /// The level of each row at `now`: that of the best pool that it stands for, itself or a member
    /// of its family.
    pub fn levels(&mut self, rows: &[HardwareRow], now: Timestamp) -> Vec<Availability> {
        if self.matches.is_outdated || self.matches.rows != rows {
            self.matches = Matches {
                rows: rows.to_vec(),
                pools_of_row: rows.iter().map(|row| self.pools_of(row)).collect(),
                is_outdated: false,
            };
        }
        self.matches.pools_of_row.iter().map(|pools| self.level(pools, now)).collect()
    }

    fn pools_of(&self, row: &HardwareRow) -> Vec<i32> {
        let provider = canonical_provider(&row.provider);
        let pools = self.by_id.iter().filter(|(_, pool)| {
            pool.identity.provider == provider
                && family_contains(&provider, &row.name, &pool.identity.name)
        });
        pools.map(|(id, _)| *id).collect()
    }

    fn level(&self, pools: &[i32], now: Timestamp) -> Availability {
        let mut supplies: BTreeMap<&Identity, Vec<Reading<'_>>> = BTreeMap::new();
        for pool in pools.iter().filter_map(|id| self.by_id.get(id)) {
            let reading = Reading {
                kind: pool.kind,
                interval: pool.state.interval(),
                source: &pool.source,
                assessment: pool.state.assess(Wanted::ONE, now, &self.correction),
            };
            supplies.entry(&pool.identity).or_default().push(reading);
        }
        let combined = supplies.iter().filter_map(|(identity, readings)| {
            let combined = combine_sources(readings)?;
            Some((identity.name.as_str(), combined.assessment))
        });
        summarize_family(combined).map_or(Availability::Unknown, |family| word(&family.best))
    }
}

fn expected_interval(source: &SourceRow) -> ExpectedInterval {
    let seconds = source.expected_interval_s.unsigned_abs().into();
    ExpectedInterval::new(std::time::Duration::from_secs(seconds)).unwrap_or_else(|error| {
        // Somebody wrote to the table by hand: what is posted is checked.
        error!(source = source.name, %error, "using the default interval for a source");
        ExpectedInterval::default()
    })
}

fn segment(run: &Run) -> Segment {
    let (started, last_seen) = (timestamp(run.started_at), timestamp(run.last_seen_at));
    let units = |count: i32| u32::try_from(count).unwrap_or(0);
    let observation = match run.supply {
        Supply::Counts { total, free } => {
            Observation::counts(units(total), units(total.saturating_sub(free)))
        }
        Supply::Available(is_available) => Observation::Available(is_available),
    };
    Segment { started, last_seen, observation }
}

fn timestamp(at: NaiveDateTime) -> Timestamp {
    Timestamp::from_millis(at.and_utc().timestamp_millis())
}

fn word(assessment: &Assessment) -> Availability {
    match assessment.level {
        Level::Unknown => Availability::Unknown,
        Level::Low => Availability::Low,
        Level::Medium => Availability::Medium,
        Level::High => Availability::High,
    }
}

#[cfg(test)]
mod tests {
    use availability::Timestamp;
    use chrono::DateTime;
    use hardware_api::Availability::{self, High, Low, Unknown};

    use super::Pools;
    use crate::{
        observation::{Run, Supply},
        store::{HardwareRow, PoolRow, SourceRow},
    };

    /// A pool that has shown the same for eight hours, up to minute 0.
    fn pool(id: i32, name: &str, supply: Supply) -> PoolRow {
        let (total, free) = supply.columns();
        let at = |minute: i64| DateTime::from_timestamp(minute * 60, 0).expect("in range");
        PoolRow {
            id,
            provider: "aws".to_owned(),
            name: name.to_owned(),
            region: String::new(),
            zone: String::new(),
            tier: "on-demand".to_owned(),
            unit: "unit".to_owned(),
            started_at: at(-480).naive_utc(),
            last_seen_at: at(0).naive_utc(),
            total,
            free,
        }
    }

    fn source() -> SourceRow {
        SourceRow { id: 1, name: "lab".to_owned(), expected_interval_s: 60, revision: 1 }
    }

    fn counts(free: i32) -> Supply {
        Supply::Counts { total: 8, free }
    }

    fn levels_of(row: &str, pools: Vec<PoolRow>, minute: i64) -> Availability {
        let mut known = Pools::default();
        for pool in pools {
            known.update(&pool, Some(Vec::<Run>::new()), &source());
        }
        level(&mut known, row, minute)
    }

    fn level(known: &mut Pools, row: &str, minute: i64) -> Availability {
        let row =
            HardwareRow { id: "1".to_owned(), provider: "Amazon".to_owned(), name: row.to_owned() };
        known.levels(&[row], Timestamp::from_millis(minute * 60_000))[0]
    }

    #[test]
    fn a_run_that_ends_between_two_reads_is_not_counted_twice() {
        let row = pool(1, "c5", counts(3));
        let ended = Run::from(&row);
        let mut known = Pools::default();
        known.update(&row, Some(vec![ended]), &source());
        assert_eq!(level(&mut known, "c5", 0), High);
    }

    #[test]
    fn a_family_has_the_level_of_its_best_member() {
        let members = || vec![pool(1, "c5.large", counts(0)), pool(2, "c5.xlarge", counts(3))];
        assert_eq!(levels_of("c5", members(), 0), High);
        assert_eq!(levels_of("c5.large", members(), 0), Low);
        assert_eq!(levels_of("c5n", members(), 0), Unknown, "another family");
    }

    #[test]
    fn a_source_that_counts_outweighs_one_that_says_yes() {
        let yes = Supply::Available(true);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes)], 0), High);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), pool(2, "c5", counts(0))], 0), Low);
    }

    #[test]
    fn other_spellings_of_one_supply_are_one_supply() {
        let other = PoolRow {
            name: " C5".to_owned(),
            tier: "On Demand".to_owned(),
            ..pool(2, "c5", counts(0))
        };
        let yes = Supply::Available(true);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), other], 0), Low, "counts go first");
        let gpus = PoolRow { unit: "gpu".to_owned(), ..pool(2, "c5", counts(0)) };
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), gpus], 0), High, "another supply");
    }

    #[test]
    fn levels_age_without_new_data() {
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 4), High);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 20), Availability::Medium);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 61), Unknown);
    }

    #[test]
    fn only_a_new_run_needs_history() {
        let mut known = Pools::default();
        let row = pool(1, "c5", counts(3));
        assert!(known.needs_history(&row));
        known.update(&row, Some(Vec::new()), &source());
        let heartbeat = PoolRow {
            last_seen_at: row.last_seen_at + chrono::TimeDelta::minutes(1),
            ..row.clone()
        };
        assert!(!known.needs_history(&heartbeat));
        let change = PoolRow { started_at: heartbeat.last_seen_at, ..heartbeat };
        assert!(known.needs_history(&change));
    }
}

//! What is known of each pool, and the level of a row of the list.

use std::collections::{BTreeMap, HashMap};

use availability::{
    Assessment, Fit, History, Level, Model, ParametersBuilder, PoolKey, Reading, Segment,
    SourceKind, Timestamp, Wanted, canonical_provider, combine_sources, family_contains,
    summarize_family,
};
use chrono::NaiveDateTime;
use hardware_api::Availability;
use tracing::error;

use crate::{
    observation::{Run, Supply},
    store::{HardwareRow, PoolRow},
};

/// The pools of all sources, fitted for one unit.
#[derive(Default)]
pub struct Pools {
    by_id: BTreeMap<i32, Pool>,
    /// Building a model costs as much as a fit, and few intervals differ.
    models: HashMap<i32, Model>,
    matches: Matches,
}

struct Pool {
    identity: Identity,
    kind: SourceKind,
    past: Vec<Segment>,
    current: Segment,
    fit: Fit,
}

/// Pools that agree in this are the same supply, seen by different sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    provider: String,
    name: String,
    region: String,
    zone: String,
    tier: String,
}

/// Which pools each row of the list stands for; only rows or pools that are new change it.
#[derive(Default)]
struct Matches {
    rows: Vec<HardwareRow>,
    pools_of_row: Vec<Vec<i32>>,
    is_outdated: bool,
}

impl Pools {
    /// Whether a pool's finished runs have to be read: it is new, or another run has begun.
    #[must_use]
    pub fn needs_history(&self, row: &PoolRow) -> bool {
        let known = self.by_id.get(&row.id);
        known.is_none_or(|pool| pool.current.start != timestamp(row.started_at))
    }

    /// Takes in a pool as it is now, with its finished runs if [`Pools::needs_history`], and fits it.
    pub fn update(&mut self, row: PoolRow, history: Option<Vec<Run>>, expected_interval_s: i32) {
        let run = Run::from(&row);
        let current = segment(&run);
        let known = self.by_id.remove(&row.id);
        self.matches.is_outdated |= known.is_none();
        let past = match (history, known) {
            // The runs are read after the pools: another process may have ended the current one since.
            (Some(runs), _) => {
                runs.iter().filter(|run| run.started_at < row.started_at).map(segment).collect()
            }
            (None, Some(pool)) => pool.past,
            (None, None) => Vec::new(),
        };
        let model =
            self.models.entry(expected_interval_s).or_insert_with(|| model(expected_interval_s));
        let mut segments = past;
        segments.push(current);
        let history = History::new(&segments).unwrap_or_else(|error| {
            // Somebody wrote to the tables by hand: what is posted is checked.
            error!(pool = row.id, %error, "leaving this pool unknown");
            History::new(&[]).expect("no segments are a history")
        });
        let fit = model.fit(history, Wanted::ONE, PoolKey::new(row.id.unsigned_abs().into()));
        segments.pop();
        let kind = match run.supply {
            Supply::Counts { .. } => SourceKind::Counts,
            Supply::Available(_) => SourceKind::Boolean,
        };
        let identity = Identity {
            provider: canonical_provider(&row.provider).into_owned(),
            name: row.name,
            region: row.region,
            zone: row.zone,
            tier: row.tier,
        };
        self.by_id.insert(row.id, Pool { identity, kind, past: segments, current, fit });
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
        let mut supplies: BTreeMap<&Identity, Vec<Reading>> = BTreeMap::new();
        for pool in pools.iter().filter_map(|id| self.by_id.get(id)) {
            let reading = Reading { kind: pool.kind, assessment: pool.fit.assess(now) };
            supplies.entry(&pool.identity).or_default().push(reading);
        }
        let combined = supplies.iter().filter_map(|(identity, readings)| {
            let combined = combine_sources(readings)?;
            Some((identity.name.as_str(), combined.assessment))
        });
        summarize_family(combined).map_or(Availability::Unknown, |family| word(&family.best))
    }
}

fn model(expected_interval_s: i32) -> Model {
    let seconds = expected_interval_s.unsigned_abs().into();
    let parameters = ParametersBuilder {
        expected_interval: std::time::Duration::from_secs(seconds),
        ..ParametersBuilder::default()
    };
    let parameters = parameters.build().unwrap_or_else(|error| {
        // Somebody wrote to the table by hand: what is posted is checked.
        error!(%error, "using the default interval for a source");
        availability::Parameters::default()
    });
    Model::new(parameters)
}

fn segment(run: &Run) -> Segment {
    let (start, last_seen) = (timestamp(run.started_at), timestamp(run.last_seen_at));
    let units = |count: i32| u32::try_from(count).unwrap_or(0);
    match run.supply {
        Supply::Counts { total, free } => {
            Segment::counts(start, last_seen, units(total), units(total.saturating_sub(free)))
        }
        Supply::Available(is_available) => Segment::available(start, last_seen, is_available),
    }
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
        store::{HardwareRow, PoolRow},
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
            started_at: at(-480).naive_utc(),
            last_seen_at: at(0).naive_utc(),
            total,
            free,
        }
    }

    fn counts(free: i32) -> Supply {
        Supply::Counts { total: 8, free }
    }

    fn levels_of(row: &str, pools: Vec<PoolRow>, minute: i64) -> Availability {
        let mut known = Pools::default();
        for pool in pools {
            known.update(pool, Some(Vec::<Run>::new()), 60);
        }
        level(&mut known, row, minute)
    }

    fn level(known: &mut Pools, row: &str, minute: i64) -> Availability {
        let row = HardwareRow { id: 1, provider: "Amazon".to_owned(), name: row.to_owned() };
        known.levels(&[row], Timestamp::from_millis(minute * 60_000))[0]
    }

    #[test]
    fn a_run_that_ends_between_two_reads_is_not_counted_twice() {
        let row = pool(1, "c5", counts(3));
        let ended = Run::from(&row);
        let mut known = Pools::default();
        known.update(row, Some(vec![ended]), 60);
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
    fn levels_age_without_new_data() {
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 4), High);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 20), Availability::Medium);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 31), Unknown);
    }

    #[test]
    fn only_a_new_run_needs_history() {
        let mut known = Pools::default();
        let row = pool(1, "c5", counts(3));
        assert!(known.needs_history(&row));
        known.update(row.clone(), Some(Vec::new()), 60);
        let heartbeat = PoolRow {
            last_seen_at: row.last_seen_at + chrono::TimeDelta::minutes(1),
            ..row.clone()
        };
        assert!(!known.needs_history(&heartbeat));
        let change = PoolRow { started_at: heartbeat.last_seen_at, ..heartbeat };
        assert!(known.needs_history(&change));
    }
}

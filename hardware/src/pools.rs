//! What is known of each pool, and the level of a row of the list.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use availability::{
    CorrectionTable, Level, Observation, PoolState, Reading, SourceKind, Timestamp, Wanted,
    combine_sources,
};
use hardware_api::Availability;
use tracing::error;

use crate::{
    listed::Listed,
    observation::PoolName,
    quality::{Corrections, Forecast},
    store::{CoverageRow, HardwareRow, PoolIdentity, PoolRow, Presence, SourceRow},
};

/// The pools of all sources: about 100 bytes for each, and 24 for each number of units that it is asked for.
#[derive(Default)]
pub struct Pools {
    all: Vec<Pool>,
    /// Where the pool with an id is among them.
    places: HashMap<i32, usize>,
    matches: Matches,
    corrections: Corrections,
    /// For kinds of sources of which nothing was learned yet.
    no_correction: CorrectionTable,
    texts: Texts,
}

/// The pools, for the refresh and for whoever looks at them. Nobody holds them for longer than it takes to
/// go through them.
#[derive(Clone, Default)]
pub struct SharedPools(Arc<Mutex<Pools>>);

impl SharedPools {
    /// The pools, while the guard is held.
    pub fn lock(&self) -> MutexGuard<'_, Pools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pool {
    id: i32,
    supply: Supply,
    source: Text,
    source_id: i32,
    presence: Presence,
    kind: SourceKind,
    state: PoolState,
}

/// Pools that agree in this are the same supply, seen by different sources: provider, name, region, zone,
/// tier and unit, in canonical form.
type Supply = [Text; 6];

/// Stands for a text that is kept once, however many pools have it.
type Text = u32;

#[derive(Default)]
struct Texts {
    known: HashMap<Arc<str>, Text>,
    by_number: Vec<Arc<str>>,
}

impl Texts {
    fn share(&mut self, text: &str) -> Text {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let number = Text::try_from(self.by_number.len()).expect("fewer texts than pools");
        let text = Arc::<str>::from(text);
        self.by_number.push(Arc::clone(&text));
        self.known.insert(text, number);
        number
    }

    fn get(&self, text: Text) -> &str {
        usize::try_from(text).ok().and_then(|place| self.by_number.get(place)).map_or("", |it| it)
    }
}

/// Which pools each row of the list stands for; only rows or pools that are new change it.
#[derive(Default)]
struct Matches {
    rows: Vec<HardwareRow>,
    /// The places of the pools of each row; those of one supply stand together.
    pools_of_row: Vec<Vec<usize>>,
    is_outdated: bool,
}

impl Pools {
    /// Takes in a pool of `source` as it is stored now. `coverage` has every span of the source that may
    /// be later.
    pub fn update(&mut self, row: &PoolRow, source: &SourceRow, coverage: &[CoverageRow]) {
        let id = row.pool.id;
        if row.pool.retired.is_some() {
            self.remove(id);
            return;
        }
        let mut state = match row.state.decode() {
            Ok(state) => state,
            Err(error) => {
                let source = &source.name;
                error!(pool = id, source, %error, "a pool is not shown; run \"hardware rebuild\"");
                self.remove(id);
                return;
            }
        };
        let presence = row.pool.presence();
        for span in presence.within(coverage) {
            state.cover(&span);
        }
        let kind = match state.open_segment().observation {
            Observation::Counts { .. } => SourceKind::Counts,
            Observation::Available(_) => SourceKind::Boolean,
        };
        if let Some(place) = self.places.get(&id) {
            let known = &mut self.all[*place];
            (known.presence, known.kind, known.state) = (presence, kind, state);
            return;
        }
        let supply = self.supply(&row.pool);
        let source_name = self.texts.share(&source.name);
        self.places.insert(id, self.all.len());
        self.all.push(Pool {
            id,
            supply,
            source: source_name,
            source_id: source.id,
            presence,
            kind,
            state,
        });
        self.matches.is_outdated = true;
    }

    fn remove(&mut self, id: i32) {
        let Some(place) = self.places.remove(&id) else { return };
        self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(moved.id, place);
        }
        self.matches.is_outdated = true;
    }

    /// Takes in that a source has said of all its pools that they are as they were.
    pub fn cover(&mut self, source_id: i32, coverage: &[CoverageRow]) {
        if coverage.is_empty() {
            return;
        }
        for pool in self.all.iter_mut().filter(|pool| pool.source_id == source_id) {
            for span in pool.presence.within(coverage) {
                pool.state.cover(&span);
            }
        }
    }

    /// Forgets the pools of all sources but these, and of those whose tables somebody replaced.
    pub fn keep_sources(&mut self, is_kept: impl Fn(i32) -> bool) {
        let gone: Vec<i32> =
            self.all.iter().filter(|pool| !is_kept(pool.source_id)).map(|pool| pool.id).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Corrects levels with what was learned from now on.
    pub fn set_corrections(&mut self, corrections: Corrections) {
        self.corrections = corrections;
    }

    fn correction(&self, kind: SourceKind) -> &CorrectionTable {
        self.corrections.get(&kind).unwrap_or(&self.no_correction)
    }

    /// What is said at `now` of at most `most` pools, drawn by chance, each for a number of units that is
    /// drawn too. Of pools of which nothing is known nothing is said.
    #[must_use]
    pub fn sample(&self, most: usize, now: Timestamp) -> Vec<Forecast> {
        let drawn = fastrand::choose_multiple(&self.all, most);
        let forecasts = drawn.into_iter().filter_map(|pool| {
            let index = fastrand::usize(..pool.state.threshold_count());
            let wanted = availability::threshold(index);
            let said = pool.state.assess(wanted, now, self.correction(pool.kind));
            let estimate = said.estimate?;
            Some(Forecast {
                pool_id: pool.id,
                kind: pool.kind,
                wanted,
                cell: estimate.cell,
                uncorrected: estimate.uncorrected,
                corrected: estimate.probability,
                level: said.level,
            })
        });
        forecasts.collect()
    }

    fn supply(&mut self, pool: &PoolIdentity) -> Supply {
        let PoolIdentity { provider, name, region, zone, tier, unit, .. } = pool.clone();
        let canonical = PoolName { provider, name, region, zone, tier, unit }.canonical();
        let PoolName { provider, name, region, zone, tier, unit } = &canonical;
        [provider, name, region, zone, tier, unit].map(|text| self.texts.share(text))
    }

    /// The level of each row at `now`: that of the best pool that it stands for, itself or a member
    /// of its family.
    pub fn levels(&mut self, rows: &[HardwareRow], now: Timestamp) -> Vec<Availability> {
        if self.matches.is_outdated || self.matches.rows != rows {
            self.matches = Matches {
                rows: rows.to_vec(),
                pools_of_row: self.match_rows(rows),
                is_outdated: false,
            };
        }
        self.matches.pools_of_row.iter().map(|places| self.level(places, now)).collect()
    }

    fn match_rows(&self, rows: &[HardwareRow]) -> Vec<Vec<usize>> {
        let listed = Listed::new(rows.iter().map(|row| (&*row.provider, &*row.name)));
        let mut pools_of_row = vec![Vec::new(); rows.len()];
        for (place, pool) in self.all.iter().enumerate() {
            let [provider, name, ..] = pool.supply;
            for row in listed.places(self.texts.get(provider), self.texts.get(name)) {
                pools_of_row[row].push(place);
            }
        }
        for places in &mut pools_of_row {
            places.sort_unstable_by_key(|place| (self.all[*place].supply, *place));
        }
        pools_of_row
    }

    /// The best of some supplies: by level, then by P.
    fn level(&self, places: &[usize], now: Timestamp) -> Availability {
        let supplies =
            places.chunk_by(|one, other| self.all[*one].supply == self.all[*other].supply);
        let said = supplies.filter_map(|supply| self.level_of_supply(supply, now));
        let best = said.max_by(|(level, p), (other, q)| {
            level.cmp(other).then_with(|| p.unwrap_or(-1.0).total_cmp(&q.unwrap_or(-1.0)))
        });
        best.map_or(Availability::Unknown, |(level, _)| word(level))
    }

    /// Level and P of one supply, as its best source says.
    fn level_of_supply(&self, places: &[usize], now: Timestamp) -> Option<(Level, Option<f64>)> {
        if let [place] = places {
            let pool = &self.all[*place];
            return Some(pool.state.level(Wanted::ONE, now, self.correction(pool.kind)));
        }
        let readings: Vec<Reading<'_>> = places
            .iter()
            .map(|place| {
                let pool = &self.all[*place];
                Reading {
                    kind: pool.kind,
                    interval: pool.state.interval(),
                    source: self.texts.get(pool.source),
                    assessment: pool.state.assess(Wanted::ONE, now, self.correction(pool.kind)),
                }
            })
            .collect();
        let said = combine_sources(&readings)?.assessment;
        Some((said.level, said.estimate.map(|estimate| estimate.probability)))
    }
}

fn word(level: Level) -> Availability {
    match level {
        Level::Unknown => Availability::Unknown,
        Level::Low => Availability::Low,
        Level::Medium => Availability::Medium,
        Level::High => Availability::High,
    }
}

#[cfg(test)]
mod tests {
    use availability::{ExpectedInterval, Observation, PoolState, Segment, Timestamp};
    use hardware_api::Availability::{self, High, Low, Unknown};

    use super::Pools;
    use crate::store::{CoverageRow, HardwareRow, PoolIdentity, PoolRow, SourceRow, StateRow};

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    /// A pool that has shown the same for eight hours, up to minute 0.
    fn pool(id: i32, name: &str, observation: Observation) -> PoolRow {
        let segment = Segment { started: minute(-480), last_seen: minute(0), observation };
        let state = PoolState::fold([segment], ExpectedInterval::default()).expect("one segment");
        let (total, free) = match observation {
            Observation::Counts { total, free } => (Some(total.get().into()), free.get().into()),
            Observation::Available(is_available) => (None, is_available.into()),
        };
        PoolRow {
            pool: PoolIdentity {
                id,
                provider: "aws".to_owned(),
                name: name.to_owned(),
                region: String::new(),
                zone: String::new(),
                tier: "on-demand".to_owned(),
                unit: "unit".to_owned(),
                listed: Some(0),
                retired: None,
            },
            state: StateRow {
                pool_id: id,
                interval_s: 60,
                started: segment.started.as_millis(),
                last_seen: segment.last_seen.as_millis(),
                total,
                free,
                states: state.encode_states(),
            },
        }
    }

    fn source() -> SourceRow {
        SourceRow {
            id: 1,
            name: "lab".to_owned(),
            expected_interval_s: 60,
            revision: 1,
            covered: None,
        }
    }

    fn counts(free: u32) -> Observation {
        Observation::counts(8, 8 - free)
    }

    fn known(pools: Vec<PoolRow>) -> Pools {
        let mut known = Pools::default();
        for pool in pools {
            known.update(&pool, &source(), &[]);
        }
        known
    }

    fn levels_of(row: &str, pools: Vec<PoolRow>, minute: i64) -> Availability {
        level(&mut known(pools), row, minute)
    }

    fn level(known: &mut Pools, row: &str, at: i64) -> Availability {
        let row =
            HardwareRow { id: "1".to_owned(), provider: "Amazon".to_owned(), name: row.to_owned() };
        known.levels(&[row], minute(at))[0]
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
        let yes = Observation::Available(true);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes)], 0), High);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), pool(2, "c5", counts(0))], 0), Low);
    }

    #[test]
    fn other_spellings_of_one_supply_are_one_supply() {
        let yes = Observation::Available(true);
        let mut other = pool(2, " C5", counts(0));
        "On Demand".clone_into(&mut other.pool.tier);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), other], 0), Low, "counts go first");
        let mut gpus = pool(2, "c5", counts(0));
        "gpu".clone_into(&mut gpus.pool.unit);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", yes), gpus], 0), High, "another supply");
    }

    #[test]
    fn levels_age_without_new_data() {
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 4), High);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 20), Availability::Medium);
        assert_eq!(levels_of("c5", vec![pool(1, "c5", counts(3))], 61), Unknown);
    }

    #[test]
    fn a_source_that_says_that_nothing_changed_keeps_its_pools_known() {
        let span = |last_seen: i64| CoverageRow {
            source_id: 1,
            started: minute(1).as_millis(),
            last_seen: minute(last_seen).as_millis(),
            interval_s: 60,
        };
        let mut pools = known(vec![pool(1, "c5", counts(3))]);
        assert_eq!(level(&mut pools, "c5", 200), Unknown);
        pools.cover(2, &[span(200)]);
        assert_eq!(level(&mut pools, "c5", 200), Unknown, "another source");
        pools.cover(1, &[span(200)]);
        assert_eq!(level(&mut pools, "c5", 200), High);
        let mut after_restart = Pools::default();
        after_restart.update(&pool(1, "c5", counts(3)), &source(), &[span(200)]);
        assert_eq!(level(&mut after_restart, "c5", 200), High);
    }

    #[test]
    fn imported_history_is_not_kept_known_by_a_source_that_never_listed_the_pool() {
        let span =
            CoverageRow { source_id: 1, started: 60_000, last_seen: 12_000_000, interval_s: 60 };
        let mut imported = pool(1, "c5", counts(3));
        imported.pool.listed = None;
        let mut pools = Pools::default();
        pools.update(&imported, &source(), &[span]);
        assert_eq!(level(&mut pools, "c5", 200), Unknown);
        pools.cover(1, &[span]);
        assert_eq!(level(&mut pools, "c5", 200), Unknown);
        pools.update(&pool(1, "c5", counts(3)), &source(), &[span]);
        assert_eq!(level(&mut pools, "c5", 200), High, "now it is listed");
    }

    #[test]
    fn pools_of_sources_that_are_gone_are_forgotten() {
        let mut pools = known(vec![pool(1, "c5", counts(3)), pool(2, "m5", counts(3))]);
        pools.keep_sources(|id| id == 1);
        assert_eq!(level(&mut pools, "m5", 0), High);
        pools.keep_sources(|id| id == 2);
        assert_eq!(level(&mut pools, "m5", 0), Unknown);
    }

    #[test]
    fn what_is_gone_or_unreadable_is_not_shown() {
        let mut pools = known(vec![pool(1, "c5", counts(3)), pool(2, "m5", counts(3))]);
        let mut gone = pool(1, "c5", counts(3));
        gone.pool.retired = Some(5);
        pools.update(&gone, &source(), &[]);
        assert_eq!(level(&mut pools, "c5", 0), Unknown);
        pools.update(&pool(1, "c5", counts(3)), &source(), &[]);
        assert_eq!(level(&mut pools, "c5", 0), High, "it is back");
        let mut broken = pool(2, "m5", counts(3));
        broken.state.states = vec![9];
        pools.update(&broken, &source(), &[]);
        assert_eq!(level(&mut pools, "m5", 0), Unknown);
        assert_eq!(level(&mut pools, "c5", 0), High);
    }
}

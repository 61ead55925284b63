//! What is known of each pool, for any number of units.
//!
//! [`Pools`] has the states, and one task writes to them. On each tick a [`View`] is made for each number of
//! units that is asked for: the level and P of every supply, in order. Requests look views up, and read the
//! states of the few supplies that they answer with.

mod answer;
mod attempts;
mod chances;
mod changes;
mod directory;
mod search;
mod shared;
mod supplies;
mod view;
mod wanted_level;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use availability::{
    Assessment, CorrectionTable, Level, Observation, PoolState, Reading, Reason, SourceKind,
    Timestamp, Wanted, combine_sources,
};
use hardware_api::Availability;
use tracing::error;

pub(crate) use self::answer::{reason, round, time};
pub use self::{
    answer::{Found, Wish},
    chances::Chance,
    changes::{Feed, FoundChange},
    search::{CursorError, Page, Search, Sort},
    shared::SharedPools,
    view::View,
    wanted_level::LevelSearch,
};
use self::{
    attempts::Attempts,
    changes::Changes,
    directory::Directory,
    supplies::{Supplies, Text},
};
use crate::{
    listed::Listed,
    quality::{Corrections, Forecast},
    store::{CoverageRow, HardwareRow, PoolRow, Presence, SourceProblem, SourceRow},
};

/// The pools of all sources: about 100 bytes for each, 24 for each threshold, and its names.
#[derive(Default)]
pub struct Pools {
    /// What was removed leaves its place free, so that places stay what they are while a view is used.
    all: Vec<Option<Pool>>,
    /// Where the pool with an id is among them.
    places: HashMap<i32, u32>,
    free_places: Vec<u32>,
    supplies: Supplies,
    directory: Arc<Directory>,
    /// Whether there are pools that the directory does not have, or the other way round.
    is_outdated: bool,
    sources: BTreeMap<i32, SourceRow>,
    corrections: Corrections,
    attempts: Attempts,
    changes: Changes,
    /// For kinds of sources of which nothing was learned yet.
    no_correction: CorrectionTable,
}

/// A pool as one source reports it. What the API calls a pool is a supply here.
struct Pool {
    id: i32,
    /// Its number among the supplies.
    supply: u32,
    source: Text,
    source_id: i32,
    /// When its source first listed it; see [`Presence`].
    listed: Option<i64>,
    kind: SourceKind,
    state: PoolState,
}

impl Pool {
    fn presence(&self) -> Presence {
        Presence { listed: self.listed, retired: None }
    }
}

/// The place of a pool as it is kept.
fn place_of(place: usize) -> u32 {
    u32::try_from(place).expect("fewer pools than 2³²")
}

fn index(place: u32) -> usize {
    usize::try_from(place).expect("an address has 32 bits at least")
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
        let known = self.places.get(&id).and_then(|place| self.all[index(*place)].as_mut());
        if let Some(known) = known {
            (known.listed, known.kind, known.state) = (presence.listed, kind, state);
            return;
        }
        let supply = self.supplies.find_or_add(&row.pool.pool_name());
        let source_name = self.supplies.texts.share(&source.name);
        let pool = Pool {
            id,
            supply,
            source: source_name,
            source_id: source.id,
            listed: presence.listed,
            kind,
            state,
        };
        let place = self.free_places.pop().unwrap_or_else(|| {
            self.all.push(None);
            place_of(self.all.len() - 1)
        });
        self.all[index(place)] = Some(pool);
        self.places.insert(id, place);
        self.is_outdated = true;
    }

    fn remove(&mut self, id: i32) {
        let Some(place) = self.places.remove(&id) else { return };
        self.all[index(place)] = None;
        self.free_places.push(place);
        self.is_outdated = true;
    }

    /// Takes in that a source has said of all its pools that they are as they were.
    pub fn cover(&mut self, source_id: i32, coverage: &[CoverageRow]) {
        if coverage.is_empty() {
            return;
        }
        for pool in self.all.iter_mut().flatten().filter(|pool| pool.source_id == source_id) {
            for span in pool.presence().within(coverage) {
                pool.state.cover(&span);
            }
        }
    }

    /// Forgets the pools of all sources that `is_kept` does not keep.
    pub fn keep_sources(&mut self, is_kept: impl Fn(i32) -> bool) {
        let all = self.all.iter().flatten();
        let gone: Vec<i32> =
            all.filter(|pool| !is_kept(pool.source_id)).map(|pool| pool.id).collect();
        for id in gone {
            self.remove(id);
        }
        self.attempts.keep_sources(is_kept);
    }

    /// Forgets everything but the names of supplies, by which views that are still used find them.
    pub fn clear(&mut self) {
        self.keep_sources(|_| false);
        self.sources.clear();
        self.corrections.clear();
        self.changes = Changes::default();
    }

    /// Takes in who reports.
    pub fn set_sources(&mut self, sources: Vec<SourceRow>) {
        self.sources = sources.into_iter().map(|source| (source.id, source)).collect();
    }

    /// Corrects levels with what was learned from now on.
    pub fn set_corrections(&mut self, corrections: Corrections) {
        self.corrections = corrections;
    }

    fn correction(&self, kind: SourceKind) -> &CorrectionTable {
        self.corrections.get(&kind).unwrap_or(&self.no_correction)
    }

    /// What is said at `now` of at most `most` pools, drawn by chance, each for a number of units that is
    /// drawn too. Of pools of which nothing is known, or whose source has a problem, nothing is said.
    #[must_use]
    pub fn sample(&self, most: usize, now: Timestamp) -> Vec<Forecast> {
        let said_of = self.all.iter().flatten().filter(|pool| self.problem_of(pool).is_none());
        let drawn = fastrand::choose_multiple(said_of, most);
        let forecasts = drawn.into_iter().filter_map(|pool| {
            let index = fastrand::usize(..pool.state.threshold_count());
            let wanted = availability::threshold(index);
            let said = self.assess(pool, wanted, now);
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

    /// The pools of a row of `directory` that are still there.
    fn members<'a>(&'a self, directory: &'a Directory, row: u32) -> impl Iterator<Item = &'a Pool> {
        let supply = directory.supply(row);
        let pools = directory.places(row).iter().filter_map(|place| self.pool_at(*place));
        pools.filter(move |pool| pool.supply == supply)
    }

    fn pool_at(&self, place: u32) -> Option<&Pool> {
        self.all.get(index(place))?.as_ref()
    }

    /// What keeps the source of a pool from seeing it as it is.
    fn problem_of(&self, pool: &Pool) -> Option<&SourceProblem> {
        self.sources.get(&pool.source_id)?.problem.as_ref()
    }

    /// What the source of a pool says of it: nothing while it has a problem.
    fn assess(&self, pool: &Pool, wanted: Wanted, now: Timestamp) -> Assessment {
        let said = pool.state.assess(wanted, now, self.correction(pool.kind));
        if self.problem_of(pool).is_some() {
            said.withheld()
        } else if self.has_failed(pool, wanted, now) {
            said.limited_to(Level::Medium, Reason::RecentFailure)
        } else {
            said
        }
    }

    /// Whether an attempt to get so many units of a pool, or fewer, has failed a short time ago.
    fn has_failed(&self, pool: &Pool, wanted: Wanted, now: Timestamp) -> bool {
        self.attempts.smallest_failure(pool.supply, now).is_some_and(|units| units <= wanted)
    }

    /// What the sources of some pools say, each alone.
    fn readings(&self, pools: &[&Pool], wanted: Wanted, now: Timestamp) -> Vec<Reading<'_>> {
        let readings = pools.iter().map(|pool| Reading {
            kind: pool.kind,
            interval: pool.state.interval(),
            source: self.supplies.texts.get(pool.source),
            assessment: self.assess(pool, wanted, now),
        });
        readings.collect()
    }

    /// The pool of a row whose source speaks for it.
    fn speaking<'a>(
        &'a self,
        directory: &'a Directory,
        row: u32,
        wanted: Wanted,
        now: Timestamp,
    ) -> Option<&'a Pool> {
        let mut members = self.members(directory, row);
        let (first, second) = (members.next()?, members.next());
        if second.is_none() {
            return Some(first);
        }
        let members: Vec<&Pool> = self.members(directory, row).collect();
        let readings = self.readings(&members, wanted, now);
        Some(members[combine_sources(&readings)?.chosen])
    }

    /// Level and P of a row, as its best source says.
    fn level_of_row(
        &self,
        directory: &Directory,
        row: u32,
        wanted: Wanted,
        now: Timestamp,
    ) -> (Level, Option<f64>) {
        let speaking = self.speaking(directory, row, wanted, now);
        let speaking = speaking.filter(|pool| self.problem_of(pool).is_none());
        speaking.map_or((Level::Unknown, None), |pool| {
            let (level, probability) = pool.state.level(wanted, now, self.correction(pool.kind));
            let is_limited = level == Level::High && self.has_failed(pool, wanted, now);
            (if is_limited { Level::Medium } else { level }, probability)
        })
    }
}

/// Which rows of a directory each row of the list stands for; only rows or pools that are new change it.
#[derive(Default)]
struct RowMatches {
    rows: Vec<HardwareRow>,
    directory: Arc<Directory>,
    matching: Vec<Vec<u32>>,
}

impl RowMatches {
    fn new(pools: &Pools, directory: &Arc<Directory>, rows: &[HardwareRow]) -> Self {
        let listed = Listed::new(rows.iter().map(|row| (&*row.provider, &*row.name)));
        let mut matching = vec![Vec::new(); rows.len()];
        for names in directory.names(&pools.supplies) {
            let [provider, name] = names.texts.map(|text| pools.supplies.texts.get(text));
            for row in listed.places(provider, name) {
                matching[row].extend(names.rows.clone());
            }
        }
        Self { rows: rows.to_vec(), directory: Arc::clone(directory), matching }
    }

    fn is_of(&self, directory: &Arc<Directory>, rows: &[HardwareRow]) -> bool {
        self.is_of_directory(directory) && self.rows == rows
    }

    fn is_of_directory(&self, directory: &Arc<Directory>) -> bool {
        Arc::ptr_eq(&self.directory, directory)
    }

    /// All rows of the directory that a row of the list stands for; some may be there twice.
    fn rows_in_order(&self) -> impl Iterator<Item = u32> {
        self.matching.iter().flatten().copied()
    }

    fn levels(&self, view: &View) -> Vec<Availability> {
        let best = self.matching.iter().map(|rows| {
            let best = rows.iter().max_by_key(|row| view.rank(**row));
            best.map_or(Availability::Unknown, |row| word(view.level(*row)))
        });
        best.collect()
    }
}

/// The word of the API.
pub(crate) fn word(level: Level) -> Availability {
    match level {
        Level::Unknown => Availability::Unknown,
        Level::Low => Availability::Low,
        Level::Medium => Availability::Medium,
        Level::High => Availability::High,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use availability::{ExpectedInterval, Observation, PoolState, Segment, Timestamp, Wanted};
    use hardware_api::{
        Availability::{self, High, Low, Unknown},
        Want,
        filter::Filter,
    };
    use proptest::prelude::*;

    use super::{Pools, Search, SharedPools, Sort, Wish};
    use crate::store::{
        CoverageRow, HardwareRow, PoolIdentity, PoolRow, SourceProblem, SourceRow, StateRow,
    };

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
            last_seen: 0,
            problem: None,
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
        let shared = SharedPools::default();
        std::mem::swap(&mut *shared.write(), known);
        let levels = shared.tick(&[row], minute(at));
        std::mem::swap(&mut *shared.write(), known);
        levels[0]
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

    fn source_with_problem(id: i32, name: &str, code: &str) -> SourceRow {
        let problem =
            SourceProblem { code: code.to_owned(), detail: format!("{code} of {name}."), since: 0 };
        SourceRow { id, name: name.to_owned(), problem: Some(problem), ..source() }
    }

    fn reasons_of(known: Pools, name: &str) -> Vec<String> {
        let shared = SharedPools::default();
        *shared.write() = known;
        drop(shared.tick(&[], minute(0)));
        let view = shared.view(Wanted::ONE).expect("there was a tick");
        let want = Want { provider: "aws".to_owned(), name: name.to_owned(), ..Want::default() };
        let found = shared.read().find(&view, &Wish::from(&want), Wanted::ONE);
        let reasons = found.best.expect("it is there").reasons;
        reasons.into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn no_level_follows_from_a_source_with_a_problem() {
        let mut pools = known(vec![pool(1, "c5", counts(3))]);
        assert_eq!(pools.sample(10, minute(0)).len(), 1);
        pools.set_sources(vec![source_with_problem(1, "lab", "pods_forbidden")]);
        assert_eq!(level(&mut pools, "c5", 0), Unknown);
        assert_eq!(pools.sample(10, minute(0)), [], "nothing is said of it");
        pools.set_sources(vec![source()]);
        assert_eq!(level(&mut pools, "c5", 0), High, "its next batch has no problem");
    }

    #[test]
    fn another_source_speaks_for_what_a_source_with_a_problem_has() {
        let yes = Observation::Available(true);
        let mut pools = known(vec![pool(1, "c5", counts(0))]);
        let asker = SourceRow { id: 2, name: "asker".to_owned(), ..source() };
        pools.update(&pool(2, "c5", yes), &asker, &[]);
        assert_eq!(level(&mut pools, "c5", 0), Low, "counts go first");
        pools.set_sources(vec![source_with_problem(1, "lab", "pods_forbidden"), asker]);
        assert_eq!(level(&mut pools, "c5", 0), High);
        assert!(!reasons_of(pools, "c5").contains(&"pods_forbidden".to_owned()), "of another one");
    }

    #[test]
    fn all_problems_of_a_pool_for_which_nobody_speaks_are_reasons() {
        let mut pools = known(vec![pool(1, "c5", counts(3))]);
        let other = source_with_problem(2, "asker", "nodes_forbidden");
        pools.update(&pool(2, "c5", counts(3)), &other, &[]);
        pools.set_sources(vec![source_with_problem(1, "lab", "pods_forbidden"), other]);
        assert_eq!(reasons_of(pools, "c5"), ["nodes_forbidden", "pods_forbidden"], "by source");
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

    /// What happens to one pool between two pages.
    #[derive(Clone, Copy, Debug)]
    enum Change {
        Comes(i32),
        Goes(i32),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![(0..40).prop_map(Change::Comes), (0..40).prop_map(Change::Goes)]
    }

    /// Pools of which many are equal in each order but that of names.
    fn numbered_pool(id: i32) -> PoolRow {
        let free = u32::try_from(id % 3).expect("not negative");
        pool(id, &format!("c{}.{}x", id % 7, id), counts(free * 4))
    }

    proptest! {
        #[test]
        fn pages_have_what_was_there_throughout_exactly_once(
            first in prop::collection::btree_set(0..40, 0..20),
            changes in prop::collection::vec(prop::collection::vec(change(), 0..4), 0..20),
            word in prop::sample::select(&Sort::WORDS[..]),
            limit in 1_usize..5,
        ) {
            let shared = SharedPools::default();
            let mut there: BTreeSet<i32> = first.clone();
            let mut always = first.clone();
            for id in &first {
                shared.write().update(&numbered_pool(*id), &source(), &[]);
            }
            let mut changes = changes.into_iter();
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                drop(shared.tick(&[], minute(0)));
                let view = shared.view(Wanted::ONE).expect("there was a tick");
                let sort = Sort::from_word(word).expect("known");
                let search = Search::new(Filter::default(), sort, cursor.as_deref(), limit);
                let pools = shared.read();
                let page = search.expect("a cursor that was given").run(&pools, &view);
                prop_assert!(page.rows.len() <= limit);
                let answers = page.rows.iter().filter_map(|row| pools.answer(&view, *row, Wanted::ONE));
                seen.extend(answers.map(|answer| answer.name));
                drop(pools);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                for change in changes.next().into_iter().flatten() {
                    let (id, mut row) = match change {
                        Change::Comes(id) | Change::Goes(id) => (id, numbered_pool(id)),
                    };
                    if matches!(change, Change::Comes(_)) {
                        there.insert(id);
                    } else {
                        row.pool.retired = Some(5);
                        there.remove(&id);
                    }
                    always.retain(|id| there.contains(id));
                    shared.write().update(&row, &source(), &[]);
                }
            }
            for id in always {
                let name = numbered_pool(id).pool.name;
                prop_assert_eq!(seen.iter().filter(|seen| **seen == name).count(), 1, "{} in {:?}", name, seen);
            }
        }
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

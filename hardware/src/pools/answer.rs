//! What is said of a supply, as the API says it.

use std::collections::BTreeMap;

use availability::{
    Assessment, Combined, DEFAULT_HORIZON, Freshness, Level, Reading, Reason, State, Timestamp,
    Wanted, canonical_family_contains, canonical_name, canonical_provider, canonical_text,
    canonical_tier, combine_sources, threshold,
};
use chrono::{DateTime, Utc};
use hardware_api::{
    Explanation, PoolDetail, ProbabilityInterval, SourceReading, TrackRecord, UnitsPoint, Want,
};

use super::{Directory, Pool, Pools, View, view::rank_of, word};
use crate::store::SourceProblem;

/// Supplies that somebody would take, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    provider: String,
    /// Or a family.
    name: String,
    region: Option<String>,
    zone: Option<String>,
    tier: Option<String>,
    unit: Option<String>,
}

impl From<&Want> for Wish {
    fn from(want: &Want) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(canonical_text);
        Self {
            provider: canonical_provider(&want.provider).into_owned(),
            name: canonical_name(&want.provider, &want.name),
            region: text(&want.region),
            zone: text(&want.zone),
            tier: want.tier.as_deref().map(canonical_tier),
            unit: text(&want.unit),
        }
    }
}

/// What matches a wish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The best of it.
    pub best: Option<hardware_api::Pool>,
    /// How much there is.
    pub matching: u32,
    /// How much of it is HIGH.
    pub high: u32,
}

impl Pools {
    /// What matches a wish, at the time of `view`, which is of any number of units.
    #[must_use]
    pub fn find(&self, view: &View, wish: &Wish, wanted: Wanted) -> Found {
        let mut found = Found::default();
        let mut best: Option<(u32, u32)> = None;
        for row in self.rows_of(&view.directory, wish) {
            let (level, probability) = self.level_of_row(&view.directory, row, wanted, view.as_of);
            found.matching += 1;
            found.high += u32::from(level == Level::High);
            let rank = rank_of(level, probability);
            if best.is_none_or(|(best, _)| rank > best) {
                best = Some((rank, row));
            }
        }
        found.best = best.and_then(|(_, row)| self.answer(view, row, wanted));
        found
    }

    fn rows_of<'a>(
        &'a self,
        directory: &'a Directory,
        wish: &'a Wish,
    ) -> impl Iterator<Item = u32> + 'a {
        let texts = &self.supplies.texts;
        let provider = texts.find(&wish.provider);
        let rows = provider.map(|provider| directory.rows_of_provider(&self.supplies, provider));
        let (rows, name) = (rows.unwrap_or_default(), &wish.name);
        // The name itself, what goes on with a hyphen, and what goes on with a dot: in ASCII the dot follows the
        // hyphen, and the slash the dot.
        let bounds = [
            (name.clone(), format!("{name}\0")),
            (format!("{name}-"), format!("{name}.")),
            (format!("{name}."), format!("{name}/")),
        ];
        let ranges =
            bounds.map(|(first, end)| directory.rows_between(&self.supplies, &rows, &first, &end));
        ranges.into_iter().flatten().filter(move |row| {
            let [_, name, region, zone, tier, unit] =
                self.supplies.names(directory.supply(*row)).map(|text| texts.get(text));
            let is = |wanted: &Option<String>, found: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted == found)
            };
            canonical_family_contains(&wish.provider, &wish.name, name)
                && is(&wish.region, region)
                && is(&wish.zone, zone)
                && is(&wish.tier, tier)
                && is(&wish.unit, unit)
        })
    }

    /// What is said of a row at the time of `view`; none if its pools have gone since.
    #[must_use]
    pub fn answer(&self, view: &View, row: u32, wanted: Wanted) -> Option<hardware_api::Pool> {
        let members: Vec<&Pool> = self.members(&view.directory, row).collect();
        let readings = self.readings(&members, wanted, view.as_of);
        let said = combine_sources(&readings)?;
        Some(self.to_api(&members, &said, view.as_of))
    }

    /// What is said of a supply, of which these are the pools.
    fn to_api(&self, members: &[&Pool], said: &Combined, as_of: Timestamp) -> hardware_api::Pool {
        let Combined { chosen, assessment: said, .. } = said;
        let pool = members[*chosen];
        let correction = self.correction(pool.kind);
        let most_at_high = match self.problem_of(pool) {
            Some(_) => None,
            None => self.most_at_high(pool, as_of).map(Wanted::get),
        };
        let supplies = &self.supplies;
        let names = supplies.spelled(pool.supply).unwrap_or_else(|| supplies.names(pool.supply));
        let [provider, name, region, zone, tier, unit] =
            names.map(|text| supplies.texts.get(text).to_owned());
        let record = said.estimate.and_then(|estimate| {
            let record = correction.record(estimate.cell);
            let came_true = record.came_true()?;
            Some(TrackRecord {
                forecasts: rounded_up(record.forecasts),
                came_true: round(came_true),
            })
        });
        hardware_api::Pool {
            id: format!("{:016x}", self.supplies.id(pool.supply)),
            provider,
            name,
            region,
            zone,
            tier,
            unit,
            units: said.wanted.get(),
            level: word(said.level),
            probability: probability(said),
            interval: interval(said),
            interpolated: said.estimate.is_some_and(|estimate| estimate.is_interpolated),
            free: said.free.map(availability::Units::get),
            total: said.total.map(availability::Units::get),
            can_fulfil_now: said.can_fulfil_now,
            most_at_high,
            since: said.since.and_then(time),
            observed_at: said.observed_at.and_then(time),
            age_s: said.age.map(|age| age.as_secs()),
            freshness: freshness(said.freshness),
            source: supplies.texts.get(pool.source).to_owned(),
            reasons: self.reasons(members, said),
            record,
        }
    }

    /// The largest number of units that is HIGH: fewer than an attempt has failed to get a short time ago.
    fn most_at_high(&self, pool: &Pool, as_of: Timestamp) -> Option<Wanted> {
        let largest = pool.state.largest_high(as_of, self.correction(pool.kind))?;
        let failure = self.attempts.smallest_failure(pool.supply, as_of);
        let fewer = failure.map_or(Some(largest), |failure| Wanted::new(failure.get() - 1))?;
        Some(largest.min(fewer))
    }

    /// All that is known of the supply with an id, at the time of `view`.
    #[must_use]
    pub fn detail(&self, view: &View, id: u64, wanted: Wanted) -> Option<PoolDetail> {
        let row = self.row_with_id(view, id)?;
        let members: Vec<&Pool> = self.members(&view.directory, row).collect();
        let readings = self.readings(&members, wanted, view.as_of);
        let said = combine_sources(&readings)?;
        Some(PoolDetail {
            as_of: time(view.as_of)?,
            horizon_s: DEFAULT_HORIZON.as_secs(),
            pool: self.to_api(&members, &said, view.as_of),
            by_units: self.by_units(&members, members[said.chosen], view.as_of),
            sources: self.sources_of(&members, &readings, &said, view.as_of),
            attempts: self.attempts_of(members[said.chosen].supply),
        })
    }

    /// What each source says alone, the one that speaks first.
    fn sources_of(
        &self,
        members: &[&Pool],
        readings: &[Reading<'_>],
        said: &Combined,
        as_of: Timestamp,
    ) -> Vec<SourceReading> {
        let each = members.iter().zip(readings).enumerate();
        let mut sources: Vec<SourceReading> = each
            .map(|(place, (pool, reading))| {
                let alone = &reading.assessment;
                let reported = self.problem_of(pool);
                SourceReading {
                    source: reading.source.to_owned(),
                    kind: reading.kind.name().to_owned(),
                    expected_interval_s: reading.interval.get().as_secs(),
                    speaks: place == said.chosen && reported.is_none(),
                    disagrees: said.dissenting.contains(&place),
                    level: word(alone.level),
                    probability: probability(alone),
                    free: alone.free.map(availability::Units::get),
                    total: alone.total.map(availability::Units::get),
                    observed_at: alone.observed_at.and_then(time),
                    freshness: freshness(alone.freshness),
                    problem: reported.and_then(problem),
                    explanation: explain(pool, alone, as_of),
                }
            })
            .collect();
        sources.sort_by(|one, other| {
            other.speaks.cmp(&one.speaks).then_with(|| one.source.cmp(&other.source))
        });
        sources
    }

    /// Why a level is what it is. Where no source speaks, that begins with the problems that sources have.
    fn reasons(&self, members: &[&Pool], said: &Assessment) -> Vec<hardware_api::Reason> {
        let mut reasons = Vec::new();
        if said.level == Level::Unknown {
            let problems = members.iter().filter_map(|pool| {
                Some((self.supplies.texts.get(pool.source), self.problem_of(pool)?))
            });
            // Where pools are kept is something else in each process.
            let mut problems: Vec<(&str, &SourceProblem)> = problems.collect();
            problems.sort_unstable_by_key(|(source, _)| *source);
            for (_, SourceProblem { code, detail, .. }) in problems {
                let reason = hardware_api::Reason { code: code.clone(), sentence: detail.clone() };
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        reasons.extend(said.reasons.iter().map(reason));
        reasons
    }

    fn by_units(&self, members: &[&Pool], chosen: &Pool, as_of: Timestamp) -> Vec<UnitsPoint> {
        let numbers = (0..chosen.state.threshold_count()).map(threshold);
        let points = numbers.filter_map(|wanted| {
            let readings = self.readings(members, wanted, as_of);
            let said = combine_sources(&readings)?.assessment;
            Some(UnitsPoint {
                units: wanted.get(),
                level: word(said.level),
                probability: probability(&said),
                interval: interval(&said),
            })
        });
        points.collect()
    }

    fn row_with_id(&self, view: &View, id: u64) -> Option<u32> {
        let supply = self.supplies.find_id(id)?;
        view.directory.row_of(&self.supplies, supply)
    }

    /// The pools of the supply with an id: each one's id in the database and its source.
    #[must_use]
    pub fn pools_with_id(&self, view: &View, id: u64) -> Option<Vec<(i32, String)>> {
        let row = self.row_with_id(view, id)?;
        let texts = &self.supplies.texts;
        let members = self.members(&view.directory, row);
        Some(members.map(|pool| (pool.id, texts.get(pool.source).to_owned())).collect())
    }

    /// Who reports, by name.
    #[must_use]
    pub fn sources(&self, as_of: Timestamp) -> Vec<hardware_api::Source> {
        let mut counts = BTreeMap::new();
        for pool in self.all.iter().flatten() {
            let (pools, kinds): &mut (u64, Vec<_>) = counts.entry(pool.source_id).or_default();
            *pools += 1;
            if !kinds.contains(&pool.kind) {
                kinds.push(pool.kind);
            }
        }
        let sources = self.sources.values().filter_map(|source| {
            let (pools, mut kinds) = counts.remove(&source.id).unwrap_or_default();
            kinds.sort_unstable_by(|one, other| other.cmp(one));
            let last_seen = Timestamp::from_millis(source.last_seen);
            let silent = as_of.since(last_seen);
            Some(hardware_api::Source {
                name: source.name.clone(),
                kinds: kinds.into_iter().map(|kind| kind.name().to_owned()).collect(),
                pools,
                expected_interval_s: source.interval().get().as_secs(),
                last_seen: time(last_seen)?,
                silent_s: silent.as_secs(),
                freshness: freshness(Freshness::at_age(silent, source.interval())),
                problem: source.problem.as_ref().and_then(problem),
            })
        });
        let mut sources: Vec<_> = sources.collect();
        sources.sort_by(|one, other| one.name.cmp(&other.name));
        sources
    }
}

/// The numbers behind what a source says; none where it gives no probability.
fn explain(pool: &Pool, said: &Assessment, as_of: Timestamp) -> Option<Explanation> {
    let estimate = said.estimate?;
    let count = pool.state.threshold_count();
    let at_or_below = (0..count).rev().find(|index| threshold(*index) <= said.wanted)?;
    let state: State = pool.state.state(at_or_below);
    let rates = state.rates();
    Some(Explanation {
        units: threshold(at_or_below).get(),
        is_free: state.is_free,
        minutes_in_state: tenths(as_of.since(state.since).as_secs_f64() / 60.0),
        free_minutes: tenths(state.free),
        full_minutes: tenths(state.full),
        changes_to_full: round(state.down),
        changes_to_free: round(state.up),
        rate_to_full: millionths(rates.free),
        rate_to_free: millionths(rates.full),
        uncorrected: round(estimate.uncorrected),
        correction: round(estimate.probability - estimate.uncorrected),
    })
}

fn probability(said: &Assessment) -> Option<f64> {
    match said.estimate {
        Some(estimate) => Some(round(estimate.probability)),
        None => is_beyond_pool(said).then_some(0.0),
    }
}

fn interval(said: &Assessment) -> Option<ProbabilityInterval> {
    match said.estimate {
        Some(estimate) => Some(ProbabilityInterval {
            low: round(estimate.interval.low),
            high: round(estimate.interval.high),
        }),
        None => is_beyond_pool(said).then_some(ProbabilityInterval { low: 0.0, high: 0.0 }),
    }
}

/// Whether there are fewer units than wanted, which is known for sure.
fn is_beyond_pool(said: &Assessment) -> bool {
    said.level != Level::Unknown && said.reasons.contains(Reason::ExceedsPool)
}

/// A reason as the API says it.
pub(crate) fn reason(reason: Reason) -> hardware_api::Reason {
    hardware_api::Reason {
        code: reason.as_str().to_owned(),
        sentence: reason.sentence().to_owned(),
    }
}

/// A problem as the API says it; none if it began at a time that no calendar has.
fn problem(problem: &SourceProblem) -> Option<hardware_api::SourceProblem> {
    let SourceProblem { code, detail, since } = problem.clone();
    let since = time(Timestamp::from_millis(since))?;
    Some(hardware_api::SourceProblem { code, detail, since })
}

fn freshness(freshness: Freshness) -> hardware_api::Freshness {
    match freshness {
        Freshness::Unknown => hardware_api::Freshness::Unknown,
        Freshness::Stale => hardware_api::Freshness::Stale,
        Freshness::Fresh => hardware_api::Freshness::Fresh,
    }
}

/// None for a time that no calendar has.
pub(crate) fn time(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(at.as_millis())
}

/// To four digits after the point: more are noise, and would make every answer another one.
pub(crate) fn round(value: f64) -> f64 {
    // Not −0.
    (value * 1e4).round() / 1e4 + 0.0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn millionths(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of forecasts"
)]
fn rounded_up(forecasts: f64) -> u64 {
    forecasts.ceil() as u64
}

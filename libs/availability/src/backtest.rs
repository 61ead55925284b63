//! What the labels would have been worth on a recorded past.
//!
//! Each pool is read once in every half hour, at a random instant, from one hour of history on and as
//! long as the whole horizon was recorded. A read sees only what had been observed by then. Its outcome y
//! is the share of the observations within the horizon in which the wanted units were free.

use std::{collections::VecDeque, time::Duration};

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

use crate::{
    Cell, CorrectionTable, ExpectedInterval, Freshness, Level, PoolState, Segment, SourceKind,
    Timestamp, Wanted,
    level::{Evidence, decide_level},
};

const READ_EVERY: Duration = Duration::from_mins(30);
const HISTORY_BEFORE_FIRST_READ: Duration = Duration::from_hours(1);

/// How many bands of probability there are.
const DECILES: usize = 10;

/// The past of one pool as one source saw it.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What the source can know.
    pub kind: SourceKind,
    /// How often it reported.
    pub interval: ExpectedInterval,
    /// What it reported, oldest first and without overlap.
    pub segments: Vec<Segment>,
}

/// What to replay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Each N to read. A pool of a source that does not count is read for 1 only.
    pub units: Vec<Wanted>,
    /// How far ahead a read looks.
    pub horizon: Duration,
    /// Whether reads learn from the reads before them whose horizon had passed.
    pub is_corrected: bool,
    /// Where the random instants come from: the same seed gives the same report.
    pub seed: u64,
}

/// What the labels were worth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How many reads there were.
    pub reads: u64,
    /// Mean of y(1−P)² + (1−y)P², of G. W. Brier, *Monthly Weather Review* 78(1), 1950: 0 is best.
    pub brier: f64,
    /// Root of the mean of (y − P)².
    pub rmse: f64,
    /// Reads by their P: below .1, below .2, …
    pub deciles: [Decile; DECILES],
    /// Reads by their level, in the order of [`Level::ALL`].
    pub levels: [LevelShare; 4],
}

/// The reads with a P in one band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decile {
    /// How many.
    pub reads: u64,
    /// Mean P.
    pub predicted: f64,
    /// Mean y.
    pub observed: f64,
}

/// The reads with one level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LevelShare {
    /// Their share of all reads.
    pub share: f64,
    /// Mean y; 0 without reads.
    pub succeeds: f64,
}

/// Replays recordings and scores every read. Calls `progress` after each recording with how many are
/// done.
#[must_use]
pub fn replay(
    recordings: &[Recording],
    settings: &Settings,
    mut progress: impl FnMut(usize),
) -> Report {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut reads = Vec::new();
    for (index, recording) in recordings.iter().enumerate() {
        read_recording(recording, settings, &mut random, &mut reads);
        progress(index + 1);
    }
    reads.sort_by_key(|read| read.at);
    score(&reads, settings)
}

/// One read, before correction, and what came.
struct Read {
    at: Timestamp,
    kind: SourceKind,
    cell: Cell,
    probability: f64,
    /// More units than the pool has: nothing is learned from such a read.
    exceeds_pool: bool,
    freshness: Freshness,
    is_free: bool,
    observed_minutes: f64,
    outcome: f64,
}

fn read_recording(
    recording: &Recording,
    settings: &Settings,
    random: &mut Xoshiro256PlusPlus,
    reads: &mut Vec<Read>,
) {
    let segments = &recording.segments;
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return };
    let mut replayed = Replayed::begin(recording);
    let mut slot = later(first.started, HISTORY_BEFORE_FIRST_READ);
    loop {
        let at = later(slot, draw_within(READ_EVERY, random));
        if later(at, settings.horizon) > last.last_seen {
            break;
        }
        replayed.advance(at);
        for &wanted in &settings.units {
            reads.extend(replayed.read(wanted, at, settings.horizon));
        }
        slot = later(slot, READ_EVERY);
    }
}

/// A pool as it was known at some time of its recording.
struct Replayed<'a> {
    recording: &'a Recording,
    pool: Option<PoolState>,
    /// The segments up to this one have begun.
    begun: usize,
}

impl<'a> Replayed<'a> {
    fn begin(recording: &'a Recording) -> Self {
        Self { recording, pool: None, begun: 0 }
    }

    /// Takes in everything that was observed up to `at`.
    fn advance(&mut self, at: Timestamp) {
        let segments = &self.recording.segments;
        while let Some(segment) = segments.get(self.begun).filter(|next| next.started <= at) {
            if let Some(pool) = &mut self.pool {
                if let Some(before) = self.begun.checked_sub(1) {
                    pool.extend(segments[before].last_seen);
                }
                pool.observe(segment.started, segment.observation);
            } else {
                let Segment { started, observation, .. } = *segment;
                let pool = PoolState::begin(started, observation, self.recording.interval);
                self.pool = Some(pool);
            }
            self.begun += 1;
        }
        if let (Some(pool), Some(segment)) = (&mut self.pool, segments[..self.begun].last()) {
            pool.extend(last_observation(segment, at, self.recording.interval));
        }
    }

    fn read(&self, wanted: Wanted, at: Timestamp, horizon: Duration) -> Option<Read> {
        let pool = self.pool.as_ref()?;
        let segment = pool.open_segment();
        let probability = pool.probability(wanted, at, horizon)?;
        let outcome = self.outcome(wanted, at, horizon)?;
        let index =
            (0..pool.threshold_count()).rev().find(|index| crate::threshold(*index) <= wanted)?;
        let state = pool.state(index);
        Some(Read {
            at,
            kind: self.recording.kind,
            cell: Cell::of(&state, at),
            probability,
            exceeds_pool: segment.observation.total().is_some_and(|total| !wanted.fits_in(total)),
            freshness: Freshness::at_age(at.since(segment.last_seen), self.recording.interval),
            is_free: segment.observation.is_free(wanted)?,
            observed_minutes: state.observed(),
            outcome,
        })
    }

    /// y; `None` if nothing was observed within the horizon.
    fn outcome(&self, wanted: Wanted, at: Timestamp, horizon: Duration) -> Option<f64> {
        let end = later(at, horizon);
        let segments = &self.recording.segments[self.begun.saturating_sub(1)..];
        let (mut free, mut all) = (0, 0);
        for segment in segments.iter().take_while(|segment| segment.started <= end) {
            let observations = count_observations(segment, at, end, self.recording.interval);
            all += observations;
            if segment.observation.is_free(wanted)? {
                free += observations;
            }
        }
        (all > 0).then(|| as_f64(free) / as_f64(all))
    }
}

/// A segment was observed at its start, at every interval after it, and when it was last seen.
fn last_observation(segment: &Segment, at: Timestamp, interval: ExpectedInterval) -> Timestamp {
    if at >= segment.last_seen {
        return segment.last_seen;
    }
    let step = interval_millis(interval);
    let steps = (at.as_millis() - segment.started.as_millis()).max(0) / step;
    Timestamp::from_millis(segment.started.as_millis() + steps * step)
}

/// How many observations of a segment were made after `from` and up to `to`.
fn count_observations(
    segment: &Segment,
    from: Timestamp,
    to: Timestamp,
    interval: ExpectedInterval,
) -> u64 {
    let step = interval_millis(interval);
    // Observations up to a time, counted from the first.
    let until = |at: Timestamp| {
        if at < segment.started {
            return 0;
        }
        let steps = |end: Timestamp| (end.as_millis() - segment.started.as_millis()) / step;
        if at < segment.last_seen {
            return steps(at) + 1;
        }
        let whole = segment.started.as_millis() + steps(segment.last_seen) * step;
        steps(segment.last_seen) + 1 + i64::from(whole < segment.last_seen.as_millis())
    };
    u64::try_from(until(to) - until(from)).unwrap_or(0)
}

fn interval_millis(interval: ExpectedInterval) -> i64 {
    i64::try_from(interval.get().as_millis()).unwrap_or(i64::MAX)
}

/// Goes through the reads in order of time, with a table for each kind of source.
fn score(reads: &[Read], settings: &Settings) -> Report {
    let mut tables: [CorrectionTable; 4] = std::array::from_fn(|_| CorrectionTable::default());
    let mut unresolved: VecDeque<&Read> = VecDeque::new();
    let mut sums = Sums::default();
    for read in reads {
        if settings.is_corrected {
            while let Some(past) = unresolved.front() {
                let resolved_at = later(past.at, settings.horizon);
                if resolved_at > read.at {
                    break;
                }
                let table = &mut tables[past.kind as usize];
                table.learn(resolved_at, past.cell, past.probability, past.outcome);
                unresolved.pop_front();
            }
        }
        let probability = if read.exceeds_pool {
            0.0
        } else {
            unresolved.push_back(read);
            tables[read.kind as usize].correct(read.cell, read.probability)
        };
        let level = decide_level(&Evidence {
            freshness: read.freshness,
            is_free: read.is_free,
            probability,
            observed: read.observed_minutes,
        });
        sums.add(probability, read.outcome, level);
    }
    sums.finish()
}

#[derive(Default)]
struct Sums {
    brier: f64,
    squares: f64,
    deciles: [Decile; DECILES],
    levels: [(u64, f64); 4],
}

impl Sums {
    fn add(&mut self, probability: f64, outcome: f64, level: Level) {
        self.brier += outcome * (1.0 - probability).powi(2) + (1.0 - outcome) * probability.powi(2);
        self.squares += (outcome - probability).powi(2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a probability times ten"
        )]
        let decile = &mut self.deciles[((probability * 10.0) as usize).min(DECILES - 1)];
        decile.reads += 1;
        decile.predicted += probability;
        decile.observed += outcome;
        let position = Level::ALL.iter().position(|of| *of == level).unwrap_or_default();
        let (reads, succeeded) = &mut self.levels[position];
        *reads += 1;
        *succeeded += outcome;
    }

    fn finish(self) -> Report {
        let reads: u64 = self.deciles.iter().map(|decile| decile.reads).sum();
        let mean = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / as_f64(count) };
        Report {
            reads,
            brier: mean(self.brier, reads),
            rmse: mean(self.squares, reads).sqrt(),
            deciles: self.deciles.map(|decile| Decile {
                reads: decile.reads,
                predicted: mean(decile.predicted, decile.reads),
                observed: mean(decile.observed, decile.reads),
            }),
            levels: self.levels.map(|(count, succeeded)| LevelShare {
                share: mean(as_f64(count), reads),
                succeeds: mean(succeeded, count),
            }),
        }
    }
}

fn draw_within(span: Duration, random: &mut Xoshiro256PlusPlus) -> Duration {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.next_u64() % millis)
}

fn later(at: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2⁵²")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

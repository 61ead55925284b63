//! A pool as one source sees it: the open segment, and the past folded into a state per threshold.

use std::time::Duration;

use thiserror::Error;

use crate::{
    Coverage, ExpectedInterval, MAX_THRESHOLDS, Observation, Segment, State, Timestamp, Units,
    Wanted, threshold, threshold_count,
    thresholds::{Place, place},
};

/// The first byte of a stored pool.
const VERSION: u8 = 1;

/// What is kept of a pool's past; it does not grow with it.
///
/// The states are those at the *start* of the open segment, so an observation that confirms the segment
/// moves [`PoolState::last_seen`] and nothing else. Sums are rounded to `f32` whenever a segment closes,
/// as they are stored, so that folding the same segments again gives the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolState {
    open: Segment,
    interval: ExpectedInterval,
    /// Boxed: their number rarely changes, and room for more would cost memory in each pool.
    states: Box<[StoredState]>,
}

/// A state as it is stored, at the start of the open segment, which says the rest: 24 bytes for each
/// threshold of each pool.
#[derive(Clone, Copy, Debug, PartialEq)]
struct StoredState {
    since: Timestamp,
    /// free, full, down and up.
    sums: [f32; 4],
}

impl StoredState {
    fn pack(state: &State) -> Self {
        let State { since, free, full, down, up, .. } = *state;
        Self { since, sums: [free, full, down, up].map(to_f32) }
    }

    /// The state at the start of `open`, for `wanted` units.
    fn unpack(&self, wanted: Wanted, open: &Segment) -> State {
        let [free, full, down, up] = self.sums.map(f64::from);
        // There is a state only for as many units as the source can tell of.
        let is_free = open.observation.is_free(wanted).unwrap_or(false);
        State { observed_at: open.started, is_free, since: self.since, free, full, down, up }
    }
}

/// What an observation did to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The open segment goes on.
    Confirmed,
    /// It closed, as given here, and another began.
    Closed(Segment),
    /// The observation is not later than the last one. Nothing changed.
    Late,
}

/// Stored states that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A later version of this crate wrote them.
    #[error("failed to read the states of a pool: version {0} is not known, expected {VERSION}")]
    Version(u8),
    /// They end too early, go on too long, or hold what no state holds.
    #[error("failed to read the states of a pool: {0}")]
    Malformed(&'static str),
}

/// Which states the values of some N are read from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lookup {
    /// A sum over one or two thresholds.
    States(Weights),
    /// N is more than the pool has.
    ExceedsPool,
    /// The source does not say how many.
    UnitsUnknown,
}

/// The value of N is that of a threshold, weighed, plus that of the next one, weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) lower: usize,
    pub(crate) of_lower: f64,
    pub(crate) of_next: f64,
}

impl Weights {
    /// Whether N is a threshold itself.
    pub(crate) fn is_exact(&self) -> bool {
        self.of_lower >= 1.0
    }
}

impl PoolState {
    /// A pool that is observed for the first time.
    #[must_use]
    pub fn begin(at: Timestamp, observation: Observation, interval: ExpectedInterval) -> Self {
        let mut pool =
            Self { open: Segment::once(at, observation), interval, states: Box::default() };
        pool.add_thresholds();
        pool
    }

    /// Folds segments, oldest first; `None` without any. Those that are not later than their
    /// predecessor are left out. Two that say the same and touch, as when a day ends between them, are one.
    #[must_use]
    pub fn fold(
        segments: impl IntoIterator<Item = Segment>,
        interval: ExpectedInterval,
    ) -> Option<Self> {
        let mut pool: Option<Self> = None;
        for segment in segments {
            match &mut pool {
                None => {
                    let mut first = Self::begin(segment.started, segment.observation, interval);
                    first.open.last_seen = segment.last_seen;
                    pool = Some(first);
                }
                Some(pool) => {
                    pool.append(segment);
                }
            }
        }
        pool
    }

    /// Takes in a segment that follows. One that says the same is another segment all the same, unless it
    /// starts where the open one was last seen, as after a cut at midnight.
    pub fn append(&mut self, segment: Segment) {
        let touches =
            segment.started == self.open.last_seen && segment.observation == self.open.observation;
        if segment.started > self.open.last_seen {
            self.close(segment.started, segment.observation);
        } else if !touches {
            return;
        }
        self.open.last_seen = self.open.last_seen.max(segment.last_seen);
    }

    /// Takes in the next observation.
    pub fn observe(&mut self, at: Timestamp, observation: Observation) -> Change {
        if at <= self.open.last_seen {
            return Change::Late;
        }
        let gap = at.since(self.open.last_seen);
        if observation == self.open.observation && gap <= self.interval.speaks_for() {
            self.open.last_seen = at;
            return Change::Confirmed;
        }
        Change::Closed(self.close(at, observation))
    }

    /// Begins another segment, and returns the one that was open.
    fn close(&mut self, at: Timestamp, observation: Observation) -> Segment {
        let closed = std::mem::replace(&mut self.open, Segment::once(at, observation));
        let interval = self.interval;
        let mut still_told = 0;
        for (index, stored) in self.states.iter_mut().enumerate() {
            let wanted = threshold(index);
            // A source that stops counting says nothing of more than one unit any longer.
            let Some(is_free) = observation.is_free(wanted) else { break };
            let mut state = stored.unpack(wanted, &closed);
            state.confirm(closed.last_seen);
            state.observe(at, is_free, interval);
            *stored = StoredState::pack(&state);
            still_told += 1;
        }
        if still_told < self.states.len() {
            self.states = self.states[..still_told].into();
        }
        self.add_thresholds();
        closed
    }

    /// Says that the source reports as often as this from now on.
    pub fn set_interval(&mut self, interval: ExpectedInterval) {
        self.interval = interval;
    }

    /// Takes in a span in which the source as a whole said that nothing had changed, as if it had listed
    /// the pool all the time. What is not later than the last observation changes nothing. Returns the
    /// segments that closed, as each is when the next report comes after a gap.
    pub fn cover(&mut self, span: &Coverage) -> Vec<Segment> {
        let ends: &[Timestamp] = if span.interval.speaks_for() > self.interval.speaks_for() {
            // Its reports are too far apart for this pool: its two ends are all that is known to be near.
            &[span.started, span.last_seen]
        } else {
            &[span.started]
        };
        let mut closed = Vec::new();
        for at in ends {
            if let Change::Closed(segment) = self.observe(*at, self.open.observation) {
                closed.push(segment);
            }
        }
        self.open.last_seen = self.open.last_seen.max(span.last_seen);
        closed
    }

    /// Says that the open segment went on up to `at`. An `at` before the last observation changes nothing.
    pub(crate) fn extend(&mut self, at: Timestamp) {
        self.open.last_seen = self.open.last_seen.max(at);
    }

    /// The segment that goes on.
    #[must_use]
    pub const fn open_segment(&self) -> Segment {
        self.open
    }

    /// How often the source reports.
    #[must_use]
    pub const fn interval(&self) -> ExpectedInterval {
        self.interval
    }

    /// How many thresholds have a state.
    #[must_use]
    pub fn threshold_count(&self) -> usize {
        self.states.len()
    }

    /// The state of a threshold at the last observation.
    ///
    /// # Panics
    /// If there is no such threshold.
    #[must_use]
    pub fn state(&self, index: usize) -> State {
        let mut state = self.states[index].unpack(threshold(index), &self.open);
        state.confirm(self.open.last_seen);
        state
    }

    /// P for N at `now` without a correction; `None` where the source does not say how many units there
    /// are. It is 0 for more units than there are.
    #[must_use]
    pub fn probability(&self, wanted: Wanted, now: Timestamp, horizon: Duration) -> Option<f64> {
        match self.look_up(wanted) {
            Lookup::States(weights) => {
                Some(self.weigh(&weights, |state| state.probability(now, horizon)))
            }
            Lookup::ExceedsPool => Some(0.0),
            Lookup::UnitsUnknown => None,
        }
    }

    pub(crate) fn weigh(&self, weights: &Weights, value: impl Fn(&State) -> f64) -> f64 {
        let lower = value(&self.state(weights.lower)) * weights.of_lower;
        if weights.of_next > 0.0 {
            lower + value(&self.state(weights.lower + 1)) * weights.of_next
        } else {
            lower
        }
    }

    /// P is linear in N between two thresholds, and from the last threshold to total + 1, of which it
    /// is 0.
    pub(crate) fn look_up(&self, wanted: Wanted) -> Lookup {
        let exactly = |lower| Lookup::States(Weights { lower, of_lower: 1.0, of_next: 0.0 });
        let Some(total) = self.open.observation.total() else {
            return if wanted == Wanted::ONE { exactly(0) } else { Lookup::UnitsUnknown };
        };
        if !wanted.fits_in(total) {
            return Lookup::ExceedsPool;
        }
        match place(wanted, self.states.len()) {
            Place::At(lower) => exactly(lower),
            Place::Between(lower, share) => {
                Lookup::States(Weights { lower, of_lower: 1.0 - share, of_next: share })
            }
            Place::Above(lower) => {
                let (from, to) = (threshold(lower).get(), total.get().saturating_add(1));
                let share = f64::from(wanted.get() - from) / f64::from(to - from);
                Lookup::States(Weights { lower, of_lower: 1.0 - share, of_next: 0.0 })
            }
        }
    }

    /// The states as they are stored: a version, how many, and for each four sums as `f32` and since
    /// when, in milliseconds before the start of the open segment, as a LEB128 number. About 18 bytes a
    /// threshold. The open segment and the interval are stored beside them.
    #[must_use]
    pub fn encode_states(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.states.len() * 20);
        bytes.push(VERSION);
        bytes.push(u8::try_from(self.states.len()).expect("at most 24 thresholds"));
        for state in &self.states {
            for sum in state.sums {
                bytes.extend(sum.to_le_bytes());
            }
            let before = self.open.started.as_millis() - state.since.as_millis();
            write_leb128(&mut bytes, u64::try_from(before).unwrap_or(0));
        }
        bytes
    }

    /// Puts a pool together from what is stored of it.
    pub fn decode(
        open: Segment,
        interval: ExpectedInterval,
        states: &[u8],
    ) -> Result<Self, DecodeError> {
        let mut rest = states;
        match take(&mut rest)? {
            [VERSION] => {}
            [other] => return Err(DecodeError::Version(other)),
        }
        let [count] = take(&mut rest)?;
        if count == 0 || usize::from(count) > MAX_THRESHOLDS {
            return Err(DecodeError::Malformed("expected 1 to 24 thresholds"));
        }
        let states = (0..usize::from(count)).map(|index| {
            let mut sums = [0.0; 4];
            for sum in &mut sums {
                *sum = f32::from_le_bytes(take(&mut rest)?);
                if !sum.is_finite() || *sum < 0.0 {
                    return Err(DecodeError::Malformed("a sum is negative or not a number"));
                }
            }
            let before = i64::try_from(read_leb128(&mut rest)?)
                .map_err(|_| DecodeError::Malformed("a state began before all time"))?;
            let is_free = open.observation.is_free(threshold(index));
            is_free.ok_or(DecodeError::Malformed("the source does not count"))?;
            let since = Timestamp::from_millis(open.started.as_millis().saturating_sub(before));
            Ok(StoredState { since, sums })
        });
        let states = states.collect::<Result<Box<[_]>, _>>()?;
        if rest.is_empty() {
            let mut pool = Self { open, interval, states };
            pool.add_thresholds();
            Ok(pool)
        } else {
            Err(DecodeError::Malformed("more bytes than states"))
        }
    }

    /// Begins the states of the thresholds that the pool can reach since this observation.
    fn add_thresholds(&mut self) {
        let Segment { started, observation, .. } = self.open;
        let wanted = threshold_count(observation.total().unwrap_or(Units::new(1)));
        let known = self.states.len();
        let told =
            (known..wanted).take_while(|index| observation.is_free(threshold(*index)).is_some());
        let more = told.count();
        if more == 0 {
            return;
        }
        let begun = StoredState { since: started, sums: [0.0; 4] };
        let states = self.states.iter().copied();
        self.states = states.chain(std::iter::repeat_n(begun, more)).collect();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "weighted minutes and counts are below 10⁵")]
fn to_f32(sum: f64) -> f32 {
    sum as f32
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (taken, rest) =
        bytes.split_first_chunk().ok_or(DecodeError::Malformed("fewer bytes than states"))?;
    *bytes = rest;
    Ok(*taken)
}

fn write_leb128(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lower seven bits are what is wanted"
        )]
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

fn read_leb128(bytes: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(DecodeError::Malformed("a number is too long"))
}

//! What resolved forecasts teach: the difference between what was said and what came, by kind of case.

use std::time::Duration;

use crate::{State, Timestamp, state::minutes};

/// Times in a state, in minutes, at which one cell ends and the next begins.
const TIME_BOUNDS: [f64; 8] = [10.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0];
/// Usual shares at which one cell ends and the next begins.
const SHARE_BOUNDS: [f64; 3] = [0.25, 0.5, 0.75];
const TIMES: usize = TIME_BOUNDS.len() + 1;
const SHARES: usize = SHARE_BOUNDS.len() + 1;

/// The age at which a resolved forecast counts half.
const HALF_LIFE: Duration = Duration::from_hours(30 * 24);
/// So many forecasts without an error are taken to have come before the first.
const PRIOR_FORECASTS: f64 = 20.0;

/// Cases alike enough to learn from each other: x, the time in that state and the usual share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(u8);

impl Cell {
    /// How many there are.
    pub const COUNT: usize = 2 * TIMES * SHARES;

    /// The cell of a state that is read at `now`.
    #[must_use]
    pub fn of(state: &State, now: Timestamp) -> Self {
        let time = minutes(now.max(state.observed_at).since(state.since));
        let time = TIME_BOUNDS.partition_point(|bound| *bound <= time);
        let share = SHARE_BOUNDS.partition_point(|bound| *bound <= state.usual_share());
        let index = (usize::from(state.is_free) * TIMES + time) * SHARES + share;
        Self(u8::try_from(index).expect("72 cells"))
    }

    /// Its number, from 0 to [`Cell::COUNT`] − 1, as it is stored.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The cell with this number; `None` if there is none.
    #[must_use]
    pub const fn from_index(index: u8) -> Option<Self> {
        if (index as usize) < Self::COUNT { Some(Self(index)) } else { None }
    }
}

/// The resolved forecasts of one cell, the older the less.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Record {
    /// n: weighted number of forecasts.
    pub forecasts: f64,
    /// Weighted sum of P before correction.
    pub predicted: f64,
    /// Weighted sum of y, the share of the horizon that was free.
    pub observed: f64,
}

impl Record {
    /// What to add to P: Σ(y − P) / (n + 20).
    #[must_use]
    pub fn correction(&self) -> f64 {
        (self.observed - self.predicted) / (self.forecasts + PRIOR_FORECASTS)
    }

    /// The share that came true; `None` before anything was resolved.
    #[must_use]
    pub fn came_true(&self) -> Option<f64> {
        (self.forecasts > 0.0).then(|| self.observed / self.forecasts)
    }
}

/// A record for each cell, for one kind of source.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionTable {
    records: Box<[Record; Cell::COUNT]>,
    /// The time at which the records have their weight.
    as_of: Option<Timestamp>,
}

impl Default for CorrectionTable {
    fn default() -> Self {
        Self { records: Box::new([Record::default(); Cell::COUNT]), as_of: None }
    }
}

impl CorrectionTable {
    /// A table as it was stored.
    #[must_use]
    pub fn from_records(
        as_of: Timestamp,
        records: impl IntoIterator<Item = (Cell, Record)>,
    ) -> Self {
        let mut table = Self { as_of: Some(as_of), ..Self::default() };
        for (cell, record) in records {
            table.records[usize::from(cell.0)] = record;
        }
        table
    }

    /// P with what was learned, within \[0, 1\].
    #[must_use]
    pub fn correct(&self, cell: Cell, probability: f64) -> f64 {
        (probability + self.record(cell).correction()).clamp(0.0, 1.0)
    }

    /// What is known of a cell.
    #[must_use]
    pub fn record(&self, cell: Cell) -> &Record {
        &self.records[usize::from(cell.0)]
    }

    /// Every cell with its record.
    pub fn records(&self) -> impl Iterator<Item = (Cell, &Record)> {
        (0..).map_while(Cell::from_index).zip(self.records.iter())
    }

    /// Takes in a forecast whose horizon has passed: at `now`, `probability` had been said before
    /// correction and the units were free for the share `observed` of the horizon.
    pub fn learn(&mut self, now: Timestamp, cell: Cell, probability: f64, observed: f64) {
        self.decay_to(now);
        let record = &mut self.records[usize::from(cell.0)];
        record.forecasts += 1.0;
        record.predicted += probability;
        record.observed += observed;
    }

    /// Lets the records age. A `now` before the last one changes nothing.
    pub fn decay_to(&mut self, now: Timestamp) {
        let as_of = *self.as_of.get_or_insert(now);
        if now <= as_of {
            return;
        }
        let kept = (-minutes(now.since(as_of)) / minutes(HALF_LIFE)).exp2();
        for record in self.records.iter_mut() {
            record.forecasts *= kept;
            record.predicted *= kept;
            record.observed *= kept;
        }
        self.as_of = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    fn after_hours(hours: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + hours * 3_600_000)
    }

    #[test]
    fn every_case_has_its_own_cell() {
        let mut seen = std::collections::BTreeSet::new();
        for is_free in [false, true] {
            for time in [0, 10, 30, 60, 120, 240, 480, 960, 1920] {
                for free in [0.0, 400.0, 600.0, 1000.0] {
                    let since = Timestamp::from_millis(NOW.as_millis() - time * 60_000);
                    let full = 1000.0 - free;
                    let state = State { since, free, full, ..State::begin(NOW, is_free) };
                    seen.insert(Cell::of(&state, NOW));
                }
            }
        }
        assert_eq!(seen.len(), Cell::COUNT);
        assert_eq!(seen.last().map(|cell| usize::from(cell.index())), Some(Cell::COUNT - 1));
        assert_eq!(Cell::from_index(72), None);
    }

    #[test]
    fn a_correction_approaches_the_error_and_ages() {
        let cell = Cell::from_index(40).unwrap();
        let mut table = CorrectionTable::default();
        assert!((table.correct(cell, 0.8) - 0.8).abs() < 1e-12);
        for _ in 0..20 {
            table.learn(NOW, cell, 0.8, 0.9);
        }
        assert!((table.correct(cell, 0.8) - 0.85).abs() < 1e-9, "20 of 20 + 20");
        assert_eq!(table.record(cell).came_true().map(|share| (share * 100.0).round()), Some(90.0));
        table.decay_to(after_hours(30 * 24));
        assert!((table.record(cell).forecasts - 10.0).abs() < 1e-9);
        table.decay_to(NOW);
        assert!((table.record(cell).forecasts - 10.0).abs() < 1e-9, "time does not go back");
    }

    #[test]
    fn a_corrected_probability_stays_one() {
        let cell = Cell::from_index(0).unwrap();
        let mut table = CorrectionTable::default();
        for _ in 0..1000 {
            table.learn(NOW, cell, 0.2, 1.0);
        }
        assert!((table.correct(cell, 0.9) - 1.0).abs() < 1e-12);
    }
}

//! Level and P of every supply at one time, for one number of units.

use std::{ops::Deref, sync::Arc};

use availability::{Level, Timestamp, Wanted};

use super::{Directory, Pools, index, place_of};

/// A rank is the level, above the 30 bits of P.
pub(super) const LEVEL_SHIFT: u32 = 30;

/// Rows that are assessed while the pools are held: about a millisecond.
const ROWS_AT_ONCE: usize = 4096;

/// What is said of every row of a directory, and the rows from the best to the worst.
#[derive(Debug)]
pub struct View {
    /// N.
    pub wanted: Wanted,
    /// The time that levels are of.
    pub as_of: Timestamp,
    pub(super) directory: Arc<Directory>,
    levels: Vec<Level>,
    probabilities: Vec<f32>,
    best_first: Vec<u32>,
}

impl View {
    /// `read` gives the pools; they are given back every few thousand rows, so that nobody waits long for
    /// them.
    pub(super) fn new<G: Deref<Target = Pools>>(
        read: impl Fn() -> G,
        directory: Arc<Directory>,
        wanted: Wanted,
        as_of: Timestamp,
    ) -> Self {
        let rows = directory.len();
        let (mut levels, mut probabilities) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for start in (0..rows).step_by(ROWS_AT_ONCE) {
            let pools = read();
            for row in place_of(start)..place_of(rows.min(start + ROWS_AT_ONCE)) {
                let (level, probability) = pools.level_of_row(&directory, row, wanted, as_of);
                levels.push(level);
                #[expect(clippy::cast_possible_truncation, reason = "to be compared, not shown")]
                probabilities.push(probability.unwrap_or(0.0) as f32);
            }
        }
        let mut view =
            Self { wanted, as_of, directory, levels, probabilities, best_first: Vec::new() };
        // What is equal is in the order of names, which is that of rows.
        let ranked =
            (0..place_of(rows)).map(|row| u64::from(!view.rank(row)) << 32 | u64::from(row));
        let mut ranked: Vec<u64> = ranked.collect();
        ranked.sort_unstable();
        let row = |ranked: u64| u32::try_from(ranked & 0xFFFF_FFFF).expect("32 bits");
        view.best_first = ranked.into_iter().map(row).collect();
        view
    }

    pub(super) fn level(&self, row: u32) -> Level {
        self.levels[index(row)]
    }

    /// Level, and P within it: the higher the better.
    pub(super) fn rank(&self, row: u32) -> u32 {
        let level = match self.level(row) {
            Level::Unknown => 0,
            Level::Low => 1,
            Level::Medium => 2,
            Level::High => 3,
        };
        // Floats from 0 to 1 are in the order of their bits, and 1.0 (0x3F80_0000) needs 30 of them.
        level << LEVEL_SHIFT | self.probabilities[index(row)].clamp(0.0, 1.0).to_bits()
    }

    pub(super) fn best_first(&self) -> &[u32] {
        &self.best_first
    }
}

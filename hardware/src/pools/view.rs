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
    ranks: Vec<u32>,
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
        let mut ranks = Vec::with_capacity(rows);
        for start in (0..rows).step_by(ROWS_AT_ONCE) {
            let pools = read();
            let some = place_of(start)..place_of(rows.min(start + ROWS_AT_ONCE));
            ranks.extend(some.map(|row| {
                let (level, probability) = pools.level_of_row(&directory, row, wanted, as_of);
                rank_of(level, probability)
            }));
        }
        // What is equal is in the order of names, which is that of rows.
        let ranked =
            (0_u32..).zip(&ranks).map(|(row, rank)| u64::from(!rank) << 32 | u64::from(row));
        let mut ranked: Vec<u64> = ranked.collect();
        ranked.sort_unstable();
        let row = |ranked: u64| u32::try_from(ranked & 0xFFFF_FFFF).expect("32 bits");
        let best_first = ranked.into_iter().map(row).collect();
        Self { wanted, as_of, directory, ranks, best_first }
    }

    pub(super) fn level(&self, row: u32) -> Level {
        match self.rank(row) >> LEVEL_SHIFT {
            0 => Level::Unknown,
            1 => Level::Low,
            2 => Level::Medium,
            _ => Level::High,
        }
    }

    /// P of a row; none where it is not known.
    pub(super) fn probability(&self, row: u32) -> Option<f64> {
        let probability = f32::from_bits(self.rank(row) & ((1 << LEVEL_SHIFT) - 1));
        (self.level(row) != Level::Unknown).then(|| probability.into())
    }

    /// See [`rank_of`].
    pub(super) fn rank(&self, row: u32) -> u32 {
        self.ranks[index(row)]
    }

    pub(super) fn best_first(&self) -> &[u32] {
        &self.best_first
    }
}

/// Level, and P within it, 0 where it is not known: the higher the better.
pub(super) fn rank_of(level: Level, probability: Option<f64>) -> u32 {
    let level = match level {
        Level::Unknown => 0,
        Level::Low => 1,
        Level::Medium => 2,
        Level::High => 3,
    };
    #[expect(clippy::cast_possible_truncation, reason = "to be compared, not shown")]
    let probability = probability.unwrap_or(0.0) as f32;
    // Floats from 0 to 1 are in the order of their bits, and 1.0 (0x3F80_0000) needs 30 of them.
    level << LEVEL_SHIFT | probability.clamp(0.0, 1.0).to_bits()
}

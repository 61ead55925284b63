//! The numbers of units for which a state is kept.

use crate::{Units, Wanted};

/// Every N up to 8, then in steps of ×1.5 and ×1.33. A pool keeps the first so many of them.
const THRESHOLDS: [u32; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536,
    2048,
];

/// How many thresholds there are at most.
pub const MAX_THRESHOLDS: usize = THRESHOLDS.len();

/// How many thresholds a pool of so many units has: those up to `total`, and 1 in any case.
#[must_use]
pub fn threshold_count(total: Units) -> usize {
    THRESHOLDS.partition_point(|threshold| *threshold <= total.get()).max(1)
}

/// The threshold at a position below [`MAX_THRESHOLDS`].
///
/// # Panics
/// Beyond the last one.
#[must_use]
pub fn threshold(index: usize) -> Wanted {
    Wanted::new(THRESHOLDS[index]).expect("no threshold is 0")
}

/// Where N lies among the first `count` thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// On one.
    At(usize),
    /// Above this one and below the next; `share` of the way.
    Between(usize, f64),
    /// Above the last one.
    Above(usize),
}

/// Finds N among the first `count` thresholds; there is at least one.
pub(crate) fn place(wanted: Wanted, count: usize) -> Place {
    let known = &THRESHOLDS[..count];
    match known.binary_search(&wanted.get()) {
        Ok(index) => Place::At(index),
        Err(above) if above == count => Place::Above(count - 1),
        Err(above) => {
            let (low, high) = (f64::from(known[above - 1]), f64::from(known[above]));
            Place::Between(above - 1, (f64::from(wanted.get()) - low) / (high - low))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_the_thresholds_that_it_can_reach() {
        for (total, expected) in [(0, 1), (1, 1), (8, 8), (11, 8), (12, 9), (5000, 24)] {
            assert_eq!(threshold_count(Units::new(total)), expected, "total {total}");
        }
    }

    #[test]
    fn a_number_is_on_between_or_above_thresholds() {
        let place = |wanted, count| place(Wanted::new(wanted).unwrap(), count);
        assert_eq!(place(8, 9), Place::At(7));
        assert_eq!(place(9, 9), Place::Between(7, 0.25));
        assert_eq!(place(9, 8), Place::Above(7));
        assert_eq!(place(2, 1), Place::Above(0));
    }
}

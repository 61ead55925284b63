//! How far P could be off: a weighted stationary bootstrap.

use rand_xoshiro::Xoshiro256PlusPlus;

use crate::{
    Nowcast, Parameters,
    alias::AliasTable,
    parameters::minutes,
    window::{BUCKET_MILLIS, Bucket, bucket_count},
};

/// B. The tenth percentile of 200 is its 20th smallest.
const REPLICATES: usize = 200;
const LOW_RANK: usize = REPLICATES / 10 - 1;
const HIGH_RANK: usize = REPLICATES - REPLICATES / 10 - 1;
/// Mean block length, the time over which neighbouring buckets hang together.
const MEAN_BLOCK_MINUTES: f64 = 60.0;
const BUCKET_MINUTES: f64 = 5.0;

/// What all replicates of all pools share; it depends on the parameters only.
///
/// Blocks start at a bucket drawn by its decay weight, have geometric lengths, run into the past
/// and wrap from the oldest bucket to the newest, as Politis and Romano wrap theirs. A replicate is
/// n = (Σw)²/Σw² buckets, Kish's effective number of what the weights leave, and its sums are scaled
/// by Σw/n: so it holds as many minutes as the weighted window and the priors keep their share.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    starts: AliasTable,
    lengths: AliasTable,
    draws: usize,
    minutes_per_milli: f64,
    changes_per_change: f64,
    horizon_minutes: f64,
}

impl Bootstrap {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        let ratio = (-parameters.decay_per_minute() * BUCKET_MINUTES).exp();
        let weights: Vec<f64> =
            std::iter::successors(Some(1.0_f64), |weight| Some((weight * ratio).max(1e-12)))
                .take(bucket_count(parameters))
                .collect();
        let sum: f64 = weights.iter().sum();
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        let effective = (sum * sum / squares).round().max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the number of buckets"
        )]
        let draws = (effective as usize).min(weights.len());

        Self {
            starts: AliasTable::new(&weights),
            lengths: AliasTable::new(&geometric(BUCKET_MINUTES / MEAN_BLOCK_MINUTES, draws)),
            draws,
            minutes_per_milli: sum / effective / 60_000.0,
            changes_per_change: sum / effective,
            horizon_minutes: minutes(parameters.horizon()),
        }
    }

    /// The 10 % and 90 % percentiles of P at age 0.
    pub(crate) fn draw_interval(
        &self,
        buckets: &[Bucket],
        free_at_anchor: bool,
        random: &mut Xoshiro256PlusPlus,
    ) -> (f64, f64) {
        let prefix = prefix_sums_twice(buckets);
        let mut probabilities = [0.0; REPLICATES];
        for probability in &mut probabilities {
            let [observed, free, up, down] = self.draw_replicate(&prefix, random).map(f64::from);
            *probability = Nowcast::from_parts(
                observed * self.minutes_per_milli,
                free * self.minutes_per_milli,
                up * self.changes_per_change,
                down * self.changes_per_change,
            )
            .probability_at_anchor(free_at_anchor, self.horizon_minutes);
        }
        let (_, low, above) = probabilities.select_nth_unstable_by(LOW_RANK, f64::total_cmp);
        let low = *low;
        let (_, high, _) = above.select_nth_unstable_by(HIGH_RANK - LOW_RANK - 1, f64::total_cmp);
        (low, *high)
    }

    #[inline]
    fn draw_replicate(&self, prefix: &[Bucket], random: &mut Xoshiro256PlusPlus) -> Bucket {
        let mut sums = Bucket::default();
        let mut left = self.draws;
        while left > 0 {
            let start = self.starts.draw(random);
            let length = (self.lengths.draw(random) + 1).min(left);
            left -= length;
            let (before, after) = (prefix[start], prefix[start + length]);
            for lane in 0..4 {
                let block = after[lane].wrapping_sub(before[lane]);
                sums[lane] = sums[lane].wrapping_add(block);
            }
        }
        sums
    }
}

/// Prefix sums over the buckets twice in a row, so that a wrapped block is one subtraction. They may
/// overflow; differences of up to 31 days of milliseconds come out right all the same.
fn prefix_sums_twice(buckets: &[Bucket]) -> Vec<Bucket> {
    let mut running = Bucket::default();
    let mut prefix = Vec::with_capacity(2 * buckets.len() + 1);
    prefix.push(running);
    prefix.extend(buckets.iter().chain(buckets).map(|bucket| {
        for lane in 0..4 {
            running[lane] = running[lane].wrapping_add(bucket[lane]);
        }
        running
    }));
    prefix
}

/// Weights of the lengths 1..=`longest`; the tail is with the longest.
fn geometric(stop: f64, longest: usize) -> Vec<f64> {
    let mut survival = 1.0;
    let mut weights = Vec::with_capacity(longest);
    for _ in 1..longest {
        weights.push((survival * stop).max(1e-12));
        survival *= 1.0 - stop;
    }
    weights.push(f64::max(survival, 1e-12));
    weights
}

const _: () = assert!(BUCKET_MILLIS == 300_000, "BUCKET_MINUTES is the same width");

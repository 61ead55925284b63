//! Prints what a fit and an assessment cost: the median of several batches, in nanoseconds.
#![expect(clippy::print_stdout, reason = "this is what the example is for")]

use std::{hint::black_box, time::Instant};

use availability::{History, HistoryError, Model, Parameters, PoolKey, Segment, Timestamp, Wanted};

const BATCHES: usize = 21;
const FITS_PER_BATCH: u64 = 500;
const ASSESSMENTS_PER_BATCH: u64 = 500_000;

fn main() -> Result<(), HistoryError> {
    let segments = day_of_segments();
    let history = History::new(&segments)?;
    let model = Model::new(Parameters::default());
    let fit = model.fit(history, Wanted::ONE, PoolKey::new(1));

    let per_fit = median_nanos(FITS_PER_BATCH, |pool| {
        black_box(model.fit(black_box(history), Wanted::ONE, PoolKey::new(pool)));
    });
    let per_assessment = median_nanos(ASSESSMENTS_PER_BATCH, |at| {
        let now = Timestamp::from_millis(86_400_000 + at.cast_signed() % 60_000);
        black_box(black_box(&fit).assess(now));
    });
    println!("fit_ns {per_fit:.0}");
    println!("assess_ns {per_assessment:.1}");
    Ok(())
}

fn median_nanos(runs: u64, mut run: impl FnMut(u64)) -> f64 {
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            (0..runs).for_each(&mut run);
            start.elapsed().as_secs_f64()
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let runs = runs as f64;
    batches[BATCHES / 2] / runs * 1e9
}

/// Forty runs of 36 minutes, every fifth of them full.
fn day_of_segments() -> Vec<Segment> {
    let run = 36 * 60_000;
    (0..40_u32)
        .map(|index| {
            let start = i64::from(index) * run;
            let in_use = if index % 5 == 2 { 8 } else { index % 7 };
            let last_seen = Timestamp::from_millis(start + run);
            Segment::counts(Timestamp::from_millis(start), last_seen, 8, in_use)
        })
        .collect()
}

//! Prints what an observation and an answer cost: the median of several batches, in nanoseconds.
#![expect(clippy::print_stdout, reason = "this is what the example is for")]

use std::{hint::black_box, time::Instant};

use availability::{CorrectionTable, ExpectedInterval, Observation, PoolState, Timestamp, Wanted};

const BATCHES: usize = 21;
const OBSERVATIONS_PER_BATCH: i64 = 20_000;
const ANSWERS_PER_BATCH: i64 = 200_000;

fn main() {
    let first = Observation::counts(8, 0);
    let mut pool = PoolState::begin(minute(0), first, ExpectedInterval::default());
    let mut at = 0;
    let per_observation = median_nanos(OBSERVATIONS_PER_BATCH, |_| {
        at += 1;
        // Eight thresholds, and a change in every minute.
        let in_use = u32::try_from(at % 9).expect("below 9");
        black_box(pool.observe(minute(at), black_box(Observation::counts(8, in_use))));
    });
    let correction = CorrectionTable::default();
    let wanted = Wanted::new(3).expect("not 0");
    let per_answer = median_nanos(ANSWERS_PER_BATCH, |run| {
        let now = minute(at + run % 5);
        black_box(black_box(&pool).level(black_box(wanted), now, &correction));
    });
    println!("observe_ns {per_observation:.0}");
    println!("assess_ns {per_answer:.1}");
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

fn median_nanos(runs: i64, mut run: impl FnMut(i64)) -> f64 {
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

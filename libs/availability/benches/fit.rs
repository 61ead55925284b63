//! `cargo bench -p availability`: one pool, and a sweep over 300.

use std::hint::black_box;

use availability::{History, Model, Parameters, PoolKey, Segment, Timestamp, Wanted};
use criterion::{Criterion, criterion_group, criterion_main};

fn fit_one_pool(criterion: &mut Criterion) {
    let segments = day_of_segments(0);
    let history = History::new(&segments).expect("segments are in order");
    let model = Model::new(Parameters::default());
    let fit = model.fit(history, Wanted::ONE, PoolKey::new(1));
    // A new key each time: the branch predictor learns the draws of a repeated one, and halves them.
    let mut keys = (0_u64..).map(PoolKey::new);
    let mut next_key = || keys.next().unwrap_or(PoolKey::new(0));
    let now = Timestamp::from_millis(86_401_000);

    criterion.bench_function("fit/day_of_40_segments", |bencher| {
        bencher.iter(|| model.fit(black_box(history), Wanted::ONE, next_key()));
    });
    criterion.bench_function("assess", |bencher| bencher.iter(|| black_box(&fit).assess(now)));
    criterion.bench_function("fit_largest_high", |bencher| {
        bencher.iter(|| model.fit_largest_high(black_box(history), next_key(), now));
    });
}

fn sweep_300_pools(criterion: &mut Criterion) {
    let pools: Vec<Vec<Segment>> = (0..300).map(day_of_segments).collect();
    let model = Model::new(Parameters::default());
    criterion.bench_function("sweep/300_pools", |bencher| {
        bencher.iter(|| {
            for (key, segments) in (0_u64..).zip(&pools) {
                let history = History::new(segments).expect("segments are in order");
                black_box(model.fit(history, Wanted::ONE, PoolKey::new(key)));
            }
        });
    });
}

/// Forty runs of 36 minutes; each pool is full at other times.
fn day_of_segments(pool: u32) -> Vec<Segment> {
    let run = 36 * 60_000;
    (0..40_u32)
        .map(|index| {
            let start = i64::from(index) * run;
            let in_use = if (index + pool) % 5 == 2 { 8 } else { (index + pool) % 7 };
            let last_seen = Timestamp::from_millis(start + run);
            Segment::counts(Timestamp::from_millis(start), last_seen, 8, in_use)
        })
        .collect()
}

criterion_group!(benches, fit_one_pool, sweep_300_pools);
criterion_main!(benches);

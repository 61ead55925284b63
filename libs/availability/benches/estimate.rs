//! What an observation costs, and what an answer costs.

use std::hint::black_box;

use availability::{CorrectionTable, ExpectedInterval, Observation, PoolState, Timestamp, Wanted};
use criterion::{Criterion, criterion_group, criterion_main};

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millis(minute * 60_000)
}

/// A pool of eight units that changes every half hour, over a day.
fn pool() -> PoolState {
    let mut pool =
        PoolState::begin(minute(0), Observation::counts(8, 6), ExpectedInterval::default());
    for at in 1..1440 {
        let in_use = if (at / 30) % 2 == 0 { 6 } else { 8 };
        pool.observe(minute(at), Observation::counts(8, in_use));
    }
    pool
}

fn observe(bench: &mut Criterion) {
    let mut pool = pool();
    let mut at = 1440;
    bench.bench_function("observe_change", |bench| {
        bench.iter(|| {
            at += 1;
            let in_use = u32::try_from(at % 9).expect("below 9");
            pool.observe(minute(at), black_box(Observation::counts(8, in_use)))
        });
    });
    let mut pool = self::pool();
    let mut at = 1440;
    bench.bench_function("observe_unchanged", |bench| {
        bench.iter(|| {
            at += 1;
            pool.observe(minute(at), black_box(Observation::counts(8, 8)))
        });
    });
}

fn assess(bench: &mut Criterion) {
    let pool = pool();
    let table = CorrectionTable::default();
    let wanted = Wanted::new(3).expect("not 0");
    bench.bench_function("assess", |bench| {
        bench.iter(|| pool.assess(black_box(wanted), minute(1441), &table));
    });
    bench.bench_function("level", |bench| {
        bench.iter(|| pool.level(black_box(wanted), minute(1441), &table));
    });
}

criterion_group!(benches, observe, assess);
criterion_main!(benches);

//! From segments to weighted sums, and to the buckets that the bootstrap draws from.

use std::time::Duration;

use crate::{History, Parameters, Timestamp, Wanted, parameters::minutes};

/// Width of a bootstrap bucket. Shorter than the states worth forecasting (an hour and more), long
/// enough that a day is a few hundred of them.
pub(crate) const BUCKET_MILLIS: i64 = 5 * 60 * 1000;

/// What the window before t₀ holds, each minute weighed with e^(−λ·age).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightedSums {
    /// O: weighted minutes observed.
    pub observed: f64,
    /// F: weighted minutes observed and free.
    pub free: f64,
    /// U: weighted number of changes from full to free that were seen, not across gaps.
    pub became_free: f64,
    /// D: weighted number of changes from free to full that were seen, not across gaps.
    pub became_full: f64,
    /// C in \[0, 1\]: O over the weight of a window without gaps.
    pub coverage: f64,
}

/// Unweighted content of one bucket: observed ms, free ms, changes to free, changes to full. Four
/// lanes of one width, so that a sum of buckets is one vector operation.
pub(crate) type Bucket = [u32; 4];

/// The window before t₀. Buckets are newest first; bucket i ends i·5 min before t₀.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) sums: WeightedSums,
    pub(crate) buckets: Vec<Bucket>,
}

/// Weighs the last W before `anchor`. Only the boundaries between free, full and missing matter: a
/// run may come in any number of pieces.
pub(crate) fn weigh_history(
    history: History<'_>,
    anchor: Timestamp,
    wanted: Wanted,
    parameters: &Parameters,
) -> Window {
    let mut scale = Scale::new(anchor, parameters);
    let speaks_for = whole_millis(parameters.speaks_for());
    let segments = history.segments();
    let first = segments.partition_point(|segment| {
        segment.last_seen.as_millis().saturating_add(speaks_for) <= scale.window_start
    });

    let mut open: Option<Run> = None;
    for (index, segment) in segments.iter().enumerate().skip(first) {
        let start = segment.start.as_millis();
        let next = segments.get(index + 1).map_or(anchor, |next| next.start);
        let end = segment.last_seen.as_millis().saturating_add(speaks_for).min(next.as_millis());
        let free = segment.observation.is_free(wanted);
        open = match open {
            Some(run) if run.end == start && run.free == free => Some(Run { end, ..run }),
            Some(run) => {
                scale.add_run(&run);
                if run.end == start {
                    scale.add_change(start, free);
                }
                Some(Run { start, end, free })
            }
            None => Some(Run { start, end, free }),
        };
    }
    if let Some(run) = open {
        scale.add_run(&run);
    }
    scale.finish(parameters)
}

/// An unbroken time in one state, in ms since the epoch.
struct Run {
    start: i64,
    end: i64,
    free: bool,
}

struct Scale {
    anchor: i64,
    window_start: i64,
    decay: f64,
    sums: WeightedSums,
    buckets: Vec<Bucket>,
}

impl Scale {
    fn new(anchor: Timestamp, parameters: &Parameters) -> Self {
        let anchor = anchor.as_millis();
        Self {
            anchor,
            window_start: anchor.saturating_sub(whole_millis(parameters.window())),
            decay: parameters.decay_per_minute(),
            sums: WeightedSums::default(),
            buckets: vec![Bucket::default(); bucket_count(parameters)],
        }
    }

    fn add_run(&mut self, run: &Run) {
        let start = run.start.max(self.window_start);
        if run.end <= start {
            return;
        }
        let weighted = (self.weight_at(run.end) - self.weight_at(start)) / self.decay;
        self.sums.observed += weighted;
        if run.free {
            self.sums.free += weighted;
        }

        let (youngest, oldest) = (self.anchor - run.end, self.anchor - start);
        let mut age = youngest;
        while age < oldest {
            let index = age / BUCKET_MILLIS;
            let bucket_end = ((index + 1) * BUCKET_MILLIS).min(oldest);
            let part = u32::try_from(bucket_end - age).unwrap_or(0);
            if let Some(bucket) = usize::try_from(index).ok().and_then(|i| self.buckets.get_mut(i))
            {
                bucket[0] += part;
                bucket[1] += if run.free { part } else { 0 };
            }
            age = bucket_end;
        }
    }

    fn add_change(&mut self, at: i64, to_free: bool) {
        if at <= self.window_start {
            return;
        }
        let weight = self.weight_at(at);
        let lane = if to_free {
            self.sums.became_free += weight;
            2
        } else {
            self.sums.became_full += weight;
            3
        };
        let index = usize::try_from((self.anchor - at) / BUCKET_MILLIS).ok();
        if let Some(bucket) = index.and_then(|i| self.buckets.get_mut(i)) {
            bucket[lane] += 1;
        }
    }

    /// e^(−λ·age) of an instant.
    fn weight_at(&self, millis: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an age is at most 31 days in ms")]
        let age = (self.anchor - millis) as f64 / 60_000.0;
        (-self.decay * age).exp()
    }

    fn finish(mut self, parameters: &Parameters) -> Window {
        let whole = -(-self.decay * minutes(parameters.window())).exp_m1() / self.decay;
        self.sums.coverage = (self.sums.observed / whole).min(1.0);
        Window { sums: self.sums, buckets: self.buckets }
    }
}

/// Buckets in a window; the oldest may be a partial one.
pub(crate) fn bucket_count(parameters: &Parameters) -> usize {
    let bucket = BUCKET_MILLIS.unsigned_abs();
    let count = parameters.window().as_millis().div_ceil(u128::from(bucket));
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn whole_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

//! The latest attempts to get each supply, and the levels that they limit.

use std::{cmp::Reverse, collections::HashMap};

use availability::{Attempt, Timestamp, Wanted, smallest_recent_failure};
use hardware_api::{AttemptOutcome, PoolAttempt};

use super::{Pools, supplies::Text, time};
use crate::{
    observation::KEPT_ATTEMPTS,
    store::{AttemptRow, SourceRow},
};

/// The latest attempts of all sources to get each supply, at most [`KEPT_ATTEMPTS`], the latest first.
#[derive(Default)]
pub(super) struct Attempts(HashMap<u32, Vec<KeptAttempt>>);

struct KeptAttempt {
    attempt: Attempt,
    source_id: i32,
    source: Text,
    code: Option<Text>,
}

impl KeptAttempt {
    /// What tells it from others of its supply, in the order in which they are kept.
    fn key(&self) -> (Reverse<Timestamp>, Wanted, i32) {
        (Reverse(self.attempt.at), self.attempt.units, self.source_id)
    }
}

impl Attempts {
    fn add(&mut self, supply: u32, new: KeptAttempt) {
        let kept = self.0.entry(supply).or_default();
        // What was written during the refresh before is read twice.
        if let Err(place) = kept.binary_search_by_key(&new.key(), KeptAttempt::key) {
            kept.insert(place, new);
            kept.truncate(KEPT_ATTEMPTS);
        }
    }

    /// Forgets the attempts of sources that `is_kept` does not keep.
    pub(super) fn keep_sources(&mut self, is_kept: impl Fn(i32) -> bool) {
        self.0.retain(|_, kept| {
            kept.retain(|it| is_kept(it.source_id));
            !kept.is_empty()
        });
    }

    /// The smallest number of units of a supply that somebody has failed to get a short time before `now`.
    pub(super) fn smallest_failure(&self, supply: u32, now: Timestamp) -> Option<Wanted> {
        if self.0.is_empty() {
            return None;
        }
        let kept = self.0.get(&supply)?;
        smallest_recent_failure(&kept.iter().map(|it| it.attempt), now)
    }
}

impl Pools {
    /// Takes in attempts that a source has reported.
    pub fn take_attempts(&mut self, source: &SourceRow, rows: Vec<AttemptRow>) {
        for AttemptRow { pool, attempt, code } in rows {
            let supply = self.supplies.find_or_add(&pool);
            let texts = &mut self.supplies.texts;
            let kept = KeptAttempt {
                attempt,
                source_id: source.id,
                source: texts.share(&source.name),
                code: code.map(|code| texts.share(&code)),
            };
            self.attempts.add(supply, kept);
        }
    }

    /// The latest attempts to get a supply, as the API says it.
    pub(super) fn attempts_of(&self, supply: u32) -> Vec<PoolAttempt> {
        let text = |text: Text| self.supplies.texts.get(text).to_owned();
        let kept = self.attempts.0.get(&supply).into_iter().flatten();
        let attempts = kept.filter_map(|kept| {
            let Attempt { at, units, succeeded } = kept.attempt;
            Some(PoolAttempt {
                source: text(kept.source),
                units: units.get(),
                outcome: if succeeded { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed },
                at: time(at)?,
                code: kept.code.map(text),
            })
        });
        attempts.collect()
    }
}

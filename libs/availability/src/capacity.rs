//! The other way round: how many units can be had at HIGH?

use crate::{
    Fit, History, Level, Model, PoolKey, Timestamp, Units, Wanted,
    level::{HIGH_FROM, THIN_BELOW},
};

impl Model {
    /// The fit of the largest N that is HIGH at `now`; `None` if not even one unit is.
    ///
    /// Only some N can be the answer: between two numbers of free units that the window has seen, all
    /// N have the same history, so the largest of them stands for all. The search runs downwards and
    /// is not a bisection, since P may rise with N among units that are free now (see the crate's
    /// documentation). N that cannot be HIGH are left before the bootstrap.
    #[must_use]
    pub fn fit_largest_high(
        &self,
        history: History<'_>,
        pool: PoolKey,
        now: Timestamp,
    ) -> Option<Fit> {
        let last = history.last()?;
        let free_now = match last.observation.free() {
            Some(free) => free,
            None if last.observation.is_free(Wanted::ONE) => Units::new(1),
            None => return None,
        };
        let mut candidates: Vec<u32> = history
            .segments()
            .iter()
            .filter_map(|segment| segment.observation.free())
            .filter(|free| *free < free_now)
            .map(Units::get)
            .collect();
        candidates.push(free_now.get());
        candidates.sort_unstable();
        candidates.dedup();

        let can_be_high =
            |coverage: f64, probability: f64| coverage >= THIN_BELOW && probability >= HIGH_FROM;
        candidates
            .into_iter()
            .rev()
            .filter_map(Wanted::new)
            .filter_map(|wanted| self.fit_if(history, wanted, pool, can_be_high))
            .find(|fit| fit.assess(now).level == Level::High)
    }
}

//! The pools that sources report, as `hardware` last gave them. Pure: time is a parameter.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hardware_api::Pool;

use crate::upstream::Failure;

/// Pools that are asked for at once. A page with more of them is not read from top to bottom.
pub(crate) const MOST_SHOWN: usize = 200;

/// The first pools in the order of the API.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolList {
    /// At most [`MOST_SHOWN`].
    pub(crate) items: Arc<[Pool]>,
    /// Whether `hardware` has others beside them.
    pub(crate) has_more: bool,
}

/// What a good answer says of the pools.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PoolsAnswer {
    /// This `hardware` has no such route: it is an earlier one, or the original.
    NotServed,
    /// They are as in the last answer.
    Unchanged,
    /// They are these.
    Listed(PoolList),
}

/// The pools as they were last given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConfirmedPools {
    /// The pools.
    pub(crate) list: PoolList,
    /// When `hardware` last answered with them.
    pub(crate) answered_at: DateTime<Utc>,
}

/// Everything that is known of the pools.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PoolsState {
    /// The last good answer; no failure takes it away.
    pub(crate) confirmed: Option<ConfirmedPools>,
    /// How the latest attempt failed, unless it succeeded.
    pub(crate) failure: Option<Failure>,
}

impl PoolsState {
    /// Takes an answer in.
    pub(crate) fn confirm(&mut self, answer: PoolsAnswer, now: DateTime<Utc>) {
        self.failure = None;
        let confirm = |list| ConfirmedPools { list, answered_at: now };
        self.confirmed = match answer {
            PoolsAnswer::NotServed => None,
            PoolsAnswer::Unchanged => self.confirmed.take().map(|known| confirm(known.list)),
            PoolsAnswer::Listed(list) => Some(confirm(list)),
        };
    }

    /// Notes that an attempt failed.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta};

    use super::{PoolList, PoolsAnswer, PoolsState};
    use crate::upstream::Failure;

    #[test]
    fn the_last_good_pools_stay_until_an_answer_has_others_or_none() {
        let (mut pools, start) = (PoolsState::default(), DateTime::UNIX_EPOCH);
        let later = start + TimeDelta::seconds(5);
        let list = PoolList { items: Arc::new([]), has_more: true };
        pools.confirm(PoolsAnswer::Listed(list.clone()), start);
        pools.fail(Failure::NotUnderstood);
        let kept = pools.confirmed.clone().expect("a failure takes nothing away");
        assert_eq!((kept.list, kept.answered_at), (list.clone(), start));
        pools.confirm(PoolsAnswer::Unchanged, later);
        let confirmed = pools.confirmed.clone().expect("confirmed");
        assert_eq!((confirmed.list, confirmed.answered_at), (list, later));
        assert_eq!(pools.failure, None);
        pools.confirm(PoolsAnswer::NotServed, later);
        assert_eq!(pools, PoolsState::default());
    }
}

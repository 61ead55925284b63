//! What the page says, as plain data: two equal views are the same page, so nothing is rendered
//! twice. That is why times are in whole minutes here; the page's script shows the seconds.

pub(crate) mod pools;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use hardware_api::Hardware;

use self::pools::PoolsView;
use crate::{
    moment::Moment,
    pools::PoolsState,
    upstream::{Confirmed, Failure, UpstreamState},
};

/// Something that the reader must know before the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// One short sentence without its full stop.
    pub(crate) title: String,
    /// What it means for the reader.
    pub(crate) text: String,
    /// Whether something is wrong, or just not there yet.
    pub(crate) is_warning: bool,
}

/// The changing part of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The list, unless there has been none yet.
    pub(crate) rows: Option<Arc<[Hardware]>>,
    /// What to know before reading it.
    pub(crate) notice: Option<Notice>,
    /// The pools that sources report, if there are any.
    pub(crate) pools: Option<PoolsView>,
    /// When the list was last confirmed.
    pub(crate) confirmed_at: Option<Moment>,
}

impl View {
    /// What to show at `now`. A list that nobody confirmed for `outage_after` gets a notice; a single
    /// failed attempt frightens nobody.
    pub(crate) fn of(
        upstream: &UpstreamState,
        pools: &PoolsState,
        outage_after: Duration,
        now: DateTime<Utc>,
    ) -> Self {
        let confirmed = upstream.confirmed.as_ref();
        let confirmed_pools = pools.confirmed.as_ref();
        Self {
            rows: confirmed.map(|confirmed| Arc::clone(&confirmed.rows)),
            notice: notice(upstream, outage_after, now),
            pools: confirmed_pools.and_then(|pools| PoolsView::of(pools, outage_after, now)),
            confirmed_at: confirmed.map(|confirmed| Moment::new(confirmed.at, now)),
        }
    }
}

fn notice(upstream: &UpstreamState, outage_after: Duration, now: DateTime<Utc>) -> Option<Notice> {
    let warning = |title: String, text: String| Notice { title, text, is_warning: true };
    match (&upstream.confirmed, upstream.failure) {
        (None, None) => Some(Notice {
            title: "Starting".to_owned(),
            text: "The hardware service is being asked for its list.".to_owned(),
            is_warning: false,
        }),
        (None, Some(failure)) => Some(warning(
            failure.to_string(),
            "There is no earlier list to show. This portal keeps asking.".to_owned(),
        )),
        (Some(confirmed), failure) => {
            let silence = (now - confirmed.answered_at).to_std().unwrap_or_default();
            let title = match failure {
                _ if silence > outage_after => failure.unwrap_or(Failure::TimedOut).to_string(),
                _ if confirmed.is_stale => {
                    "The hardware service cannot confirm its list".to_owned()
                }
                _ => return None,
            };
            Some(warning(title, last_confirmed(confirmed, now)))
        }
    }
}

fn last_confirmed(confirmed: &Confirmed, now: DateTime<Utc>) -> String {
    let (ago, at) = (time_ago(now - confirmed.at), Moment::new(confirmed.at, now).text);
    format!("These levels were last confirmed {ago}, at {at}, and may have changed since.")
}

/// How long ago, as roughly as a reader needs it.
fn time_ago(age: TimeDelta) -> String {
    match (age.num_minutes(), age.num_hours(), age.num_days()) {
        (..1, _, _) => "less than a minute ago".to_owned(),
        (minutes @ ..60, _, _) => format!("{minutes} min ago"),
        (_, hours @ ..48, _) => format!("{hours} h ago"),
        (_, _, days) => format!("{days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::{DateTime, TimeDelta, Utc};
    use proptest::prelude::*;

    use super::{View, time_ago};
    use crate::{
        pools::PoolsState,
        upstream::{Failure, Freshness, UpstreamState},
    };

    const OUTAGE_AFTER: Duration = Duration::from_secs(15);

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_315_200, 0).expect("a time")
    }

    fn known(is_stale: bool) -> UpstreamState {
        let mut upstream = UpstreamState::default();
        let freshness = Freshness { age: Duration::ZERO, is_stale };
        upstream.confirm(Some(Arc::new([])), freshness, noon());
        upstream
    }

    fn view_at(upstream: &UpstreamState, now: DateTime<Utc>) -> View {
        View::of(upstream, &PoolsState::default(), OUTAGE_AFTER, now)
    }

    fn notice_after(upstream: &UpstreamState, seconds: i64) -> Option<String> {
        let view = view_at(upstream, noon() + TimeDelta::seconds(seconds));
        view.notice.map(|notice| format!("{}. {}", notice.title, notice.text))
    }

    #[test]
    fn each_state_says_what_it_is() {
        let failed = |mut upstream: UpstreamState, failure| {
            upstream.fail(failure);
            upstream
        };
        let empty = UpstreamState::default;
        for (upstream, seconds, expected) in [
            (empty(), 0, Some("Starting. ")),
            (
                failed(empty(), Failure::Unreachable),
                0,
                Some("The hardware service cannot be reached. There is no earlier list"),
            ),
            (known(false), 5, None),
            (failed(known(false), Failure::TimedOut), 15, None),
            (
                failed(known(false), Failure::Status(500)),
                200,
                Some(
                    "The hardware service answers with error 500. \
                     These levels were last confirmed 3 min ago, at 12:00 UTC",
                ),
            ),
            (known(true), 0, Some("The hardware service cannot confirm its list. These levels")),
        ] {
            let notice = notice_after(&upstream, seconds);
            let is_expected = match (expected, &notice) {
                (None, None) => true,
                (Some(expected), Some(notice)) => notice.starts_with(expected),
                _ => false,
            };
            assert!(is_expected, "{upstream:?} after {seconds} s: {notice:?}");
        }
    }

    #[test]
    fn the_page_changes_once_a_minute_and_not_once_a_second() {
        let mut upstream = known(false);
        upstream.fail(Failure::Unreachable);
        let at = |seconds| view_at(&upstream, noon() + TimeDelta::seconds(seconds));
        assert_eq!(at(61), at(119));
        assert_ne!(at(119), at(120));
    }

    #[test]
    fn ages_are_rough() {
        for (seconds, expected) in [
            (-5, "less than a minute ago"),
            (59, "less than a minute ago"),
            (60, "1 min ago"),
            (3599, "59 min ago"),
            (3600, "1 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(time_ago(TimeDelta::seconds(seconds)), expected, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn no_clock_makes_the_view_panic(seconds in -1_000_000_000_i64..1_000_000_000) {
            let now = noon() + TimeDelta::seconds(seconds);
            drop(view_at(&known(false), now));
        }
    }
}

//! What the page says of the pools that sources report.

use std::time::Duration;

use chrono::{DateTime, Utc};
use hardware_api::{Availability, Freshness, Pool};

use crate::{moment::Moment, pools::ConfirmedPools};

/// The part of the page that shows pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolsView {
    /// The first of them.
    pub(crate) rows: Vec<PoolRow>,
    /// Whether there are others.
    pub(crate) has_more: bool,
    /// When they were last confirmed, if that is too long ago.
    pub(crate) outdated_since: Option<Moment>,
}

/// One pool, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolRow {
    /// Stays the same as long as the pool's names do.
    pub(crate) id: String,
    /// Who offers it.
    pub(crate) provider: String,
    /// What the provider calls it.
    pub(crate) name: String,
    /// Region, zone and tier, as far as it has them.
    pub(crate) place: String,
    /// How likely one unit can be had.
    pub(crate) level: Availability,
    /// How many units are free, such as "5 of 8 slots", or were when that was known; none if its source does
    /// not count.
    pub(crate) free: Option<String>,
    /// The probability in per cent; none where it is not known.
    pub(crate) chance: Option<String>,
    /// Why there is no level.
    pub(crate) reason: Option<String>,
    /// When it was last seen, unless its source is on time.
    pub(crate) last_seen: Option<Moment>,
}

impl PoolsView {
    /// What to show at `now`; nothing if no source reports a pool. Pools that were not confirmed for
    /// `outage_after` are said to be old.
    pub(crate) fn of(
        confirmed: &ConfirmedPools,
        outage_after: Duration,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let ConfirmedPools { list, answered_at } = confirmed;
        let silence = (now - answered_at).to_std().unwrap_or_default();
        let rows: Vec<PoolRow> = list.items.iter().map(|pool| PoolRow::of(pool, now)).collect();
        (!rows.is_empty()).then(|| Self {
            rows,
            has_more: list.has_more,
            outdated_since: (silence > outage_after).then(|| Moment::new(*answered_at, now)),
        })
    }
}

impl PoolRow {
    fn of(pool: &Pool, now: DateTime<Utc>) -> Self {
        let place = [&pool.region, &pool.zone, &pool.tier].map(String::as_str);
        let place: Vec<&str> = place.into_iter().filter(|part| !part.is_empty()).collect();
        let is_unknown = pool.level == Availability::Unknown;
        let reason = pool.reasons.first().filter(|_| is_unknown);
        let last_seen = pool.observed_at.filter(|_| pool.freshness != Freshness::Fresh);
        Self {
            id: pool.id.clone(),
            provider: pool.provider.clone(),
            name: pool.name.clone(),
            place: place.join(" · "),
            level: pool.level,
            free: pool.free.zip(pool.total).map(|(free, total)| {
                let counted = counted(free, total, &pool.unit);
                if is_unknown { format!("was {counted}") } else { counted }
            }),
            chance: pool.probability.map(per_cent),
            reason: reason.map(|reason| reason.sentence.clone()),
            last_seen: last_seen.map(|at| Moment::new(at, now)),
        }
    }
}

/// A source may count in anything: only what is a word gets the ending of a plural.
fn counted(free: u32, total: u32, unit: &str) -> String {
    let is_word = !unit.is_empty() && unit.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_singular = is_word && !unit.ends_with(['s', 'S']);
    let ending = if is_singular && total != 1 { "s" } else { "" };
    format!("{free} of {total} {unit}{ending}")
}

/// Whole per cent, rounded down: levels begin at whole per cents, and a figure must not stand on the other
/// side of such a threshold. The API gives four digits after the point; the product is not as exact.
fn per_cent(probability: f64) -> String {
    let hundredths = (probability * 1e4).round();
    match (hundredths / 100.0).floor() {
        0.0 if hundredths > 0.0 => "<\u{a0}1\u{a0}%".to_owned(),
        99.0 if hundredths > 9900.0 => ">\u{a0}99\u{a0}%".to_owned(),
        whole => format!("{whole:.0}\u{a0}%"),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::{DateTime, TimeDelta, Utc};
    use hardware_api::{Availability, Freshness, Pool, Reason};

    use super::{PoolRow, PoolsView, counted, per_cent};
    use crate::pools::{ConfirmedPools, PoolList};

    const OUTAGE_AFTER: Duration = Duration::from_secs(15);

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_315_200, 0).expect("a time")
    }

    fn pool() -> Pool {
        Pool {
            id: "5d41402abc4b2a76".to_owned(),
            provider: "lab".to_owned(),
            name: "r650".to_owned(),
            region: "eu".to_owned(),
            zone: "eu-1".to_owned(),
            tier: "owned".to_owned(),
            unit: "slot".to_owned(),
            units: 1,
            level: Availability::High,
            probability: Some(0.9132),
            interval: None,
            interpolated: false,
            free: Some(5),
            total: Some(8),
            can_fulfil_now: Some(true),
            most_at_high: Some(4),
            since: Some(noon()),
            observed_at: Some(noon()),
            age_s: Some(3),
            freshness: Freshness::Fresh,
            source: "kubernetes".to_owned(),
            reasons: vec![Reason {
                code: "usually_free".to_owned(),
                sentence: "The wanted units are free most of the time.".to_owned(),
            }],
            record: None,
        }
    }

    /// A pool whose source may not see it.
    fn forbidden() -> Pool {
        Pool {
            level: Availability::Unknown,
            probability: None,
            freshness: Freshness::Stale,
            reasons: vec![
                Reason {
                    code: "pods_forbidden".to_owned(),
                    sentence: "The source may not list pods.".to_owned(),
                },
                Reason { code: "other".to_owned(), sentence: "Another reason.".to_owned() },
            ],
            ..pool()
        }
    }

    fn confirmed(pools: &[Pool]) -> ConfirmedPools {
        let list = PoolList { items: Arc::from(pools), has_more: false };
        ConfirmedPools { list, answered_at: noon() }
    }

    fn after(pools: &[Pool], seconds: i64) -> Option<PoolsView> {
        PoolsView::of(&confirmed(pools), OUTAGE_AFTER, noon() + TimeDelta::seconds(seconds))
    }

    #[test]
    fn a_pool_with_a_level_needs_no_reason() {
        let row = PoolRow::of(&pool(), noon());
        assert_eq!(row.place, "eu · eu-1 · owned");
        assert_eq!(row.free.as_deref(), Some("5 of 8 slots"));
        assert_eq!(row.chance.as_deref(), Some("91\u{a0}%"));
        assert_eq!((row.reason, row.last_seen), (None, None));
    }

    #[test]
    fn an_unknown_level_says_its_first_reason_and_when_the_pool_was_last_seen() {
        let row = PoolRow::of(&forbidden(), noon());
        assert_eq!(row.reason.as_deref(), Some("The source may not list pods."));
        assert_eq!(row.last_seen.map(|at| at.text).as_deref(), Some("12:00 UTC"));
        assert_eq!(row.free.as_deref(), Some("was 5 of 8 slots"));
        assert_eq!(row.chance, None);
    }

    #[test]
    fn what_a_source_does_not_say_is_left_out() {
        let pool = Pool {
            region: String::new(),
            zone: String::new(),
            free: None,
            total: None,
            probability: None,
            ..pool()
        };
        let row = PoolRow::of(&pool, noon());
        assert_eq!((row.place.as_str(), row.free, row.chance), ("owned", None, None));
    }

    #[test]
    fn without_pools_there_is_nothing_to_show() {
        assert_eq!(after(&[], 0), None);
    }

    #[test]
    fn pools_that_nobody_confirms_any_more_say_since_when() {
        let outdated = |seconds| after(&[pool()], seconds).expect("a pool").outdated_since;
        assert_eq!(outdated(15), None);
        assert_eq!(outdated(16).map(|at| at.text).as_deref(), Some("12:00 UTC"));
    }

    #[test]
    fn neither_an_age_nor_the_time_changes_the_page_each_second() {
        let older = Pool { age_s: Some(59), observed_at: Some(noon()), ..forbidden() };
        assert_eq!(after(&[forbidden()], 1), after(&[older], 2));
        assert_eq!(after(&[pool()], 16), after(&[pool()], 3600));
    }

    #[test]
    fn units_are_counted_in_the_word_of_the_source() {
        for (free, total, unit, expected) in [
            (5, 8, "slot", "5 of 8 slots"),
            (0, 1, "slot", "0 of 1 slot"),
            (0, 0, "slot", "0 of 0 slots"),
            (5, 8, "slots", "5 of 8 slots"),
            (2, 4, "GPU", "2 of 4 GPUs"),
            (2, 4, "1 vCPU + 2 GiB", "2 of 4 1 vCPU + 2 GiB"),
        ] {
            assert_eq!(counted(free, total, unit), expected);
        }
    }

    #[test]
    fn a_figure_is_on_the_same_side_of_a_threshold_as_its_level() {
        for (probability, expected) in [
            (0.0, "0 %"),
            (0.0099, "< 1 %"),
            (0.29, "29 %"),
            (0.3999, "39 %"),
            (0.4, "40 %"),
            (0.7999, "79 %"),
            (0.8, "80 %"),
            (0.99, "99 %"),
            (0.9999, "> 99 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(per_cent(probability).replace('\u{a0}', " "), expected, "{probability}");
        }
    }
}

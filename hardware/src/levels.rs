//! Which supplies have another level than when somebody last looked.
//!
//! What was known is kept by bucket, the first byte of the id of a supply, in ten bytes for each: the other
//! seven bytes of the id, the level, and the day on which the supply was first missing. An id is a part of a
//! hash, so that buckets are equally full, and a look writes only those in which something has changed.

use std::{cmp::Reverse, collections::BTreeMap};

use availability::{Level, Timestamp};
use tracing::warn;

use crate::observation::PoolName;

/// Changes that are kept; the oldest go first.
pub const KEPT_CHANGES: usize = 10_000;

/// The layout of a bucket, its first byte.
const VERSION: u8 = 1;

/// The bytes of a supply in a bucket.
const ENTRY: usize = 10;

/// Supplies by the first byte of their id, as they are stored.
pub type Buckets = BTreeMap<u8, Vec<u8>>;

/// A supply as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Displayed {
    /// Its id.
    pub id: u64,
    /// What is said of it.
    pub level: Level,
    /// Where it is in the view that says so.
    pub row: u32,
}

/// A supply with another level than was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is in the view.
    pub row: u32,
    /// What was said before.
    pub from: Level,
    /// What is said now.
    pub to: Level,
}

/// A change with everything that is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelChange {
    /// When it was found.
    pub at: Timestamp,
    /// The names that were shown.
    pub pool: PoolName,
    /// Who spoke for it; empty if nobody did any longer.
    pub source: String,
    /// What was said before.
    pub from: Level,
    /// What was said then.
    pub to: Level,
    /// P for one unit, if it was known.
    pub probability: Option<f64>,
    /// One reason for the new level; empty if there was none.
    pub sentence: String,
}

/// What a look has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What has changed.
    pub changes: Vec<Change>,
    /// The buckets that are to be stored.
    pub buckets: Buckets,
}

/// Days since the Unix epoch, of which 0 stands for none.
pub type Day = u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    id: u64,
    level: Level,
    missing_since: Option<Day>,
}

/// Compares what is shown on the day `today` with what was known.
///
/// A supply that was never seen before has not changed. One that is missing has not changed either; its level
/// is known for `kept_days` more, and compared with if it comes back. Where nothing at all is known any longer,
/// as all sources are silent, there is nothing to tell of hardware: all stays as it was known.
#[must_use]
pub fn compare(
    known: &Buckets,
    mut displayed: Vec<Displayed>,
    today: Day,
    kept_days: Day,
) -> Comparison {
    let mut found = Comparison::default();
    if displayed.iter().all(|it| it.level == Level::Unknown) {
        return found;
    }
    displayed.sort_unstable_by_key(|it| it.id);
    let mut rest = displayed.as_slice();
    for bucket in 0..=u8::MAX {
        let (shown, others) = rest.split_at(rest.partition_point(|it| bucket_of(it.id) <= bucket));
        rest = others;
        let stored = known.get(&bucket).map(Vec::as_slice);
        let before = stored.map(|bytes| decode(bucket, bytes)).unwrap_or_default();
        let mut before = before.into_iter().peekable();
        let mut after = Vec::with_capacity(shown.len());
        let missing = |it: Known| {
            let since = it.missing_since.unwrap_or(today);
            let is_kept = today.saturating_sub(since) <= kept_days;
            is_kept.then_some(Known { missing_since: Some(since), ..it })
        };
        for it in shown {
            while let Some(gone) = before.next_if(|before| before.id < it.id) {
                after.extend(missing(gone));
            }
            let from = before.next_if(|before| before.id == it.id).map_or(it.level, |it| it.level);
            if from != it.level {
                found.changes.push(Change { row: it.row, from, to: it.level });
            }
            after.push(Known { id: it.id, level: it.level, missing_since: None });
        }
        after.extend(before.filter_map(missing));
        let bytes = encode(&after);
        if stored.map_or(!after.is_empty(), |stored| stored != bytes) {
            found.buckets.insert(bucket, bytes);
        }
    }
    found
}

fn bucket_of(id: u64) -> u8 {
    id.to_be_bytes()[0]
}

fn encode(known: &[Known]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + known.len() * ENTRY);
    bytes.push(VERSION);
    for Known { id, level, missing_since } in known {
        bytes.extend_from_slice(&id.to_be_bytes()[1..]);
        bytes.push(match level {
            Level::Unknown => 0,
            Level::Low => 1,
            Level::Medium => 2,
            Level::High => 3,
        });
        bytes.extend_from_slice(&missing_since.unwrap_or(0).to_be_bytes());
    }
    bytes
}

/// Supplies in the order of their ids. What cannot be read is as if nobody had ever looked.
fn decode(bucket: u8, bytes: &[u8]) -> Vec<Known> {
    let Some((&VERSION, entries)) = bytes.split_first() else {
        warn!(bucket, "a row of the table known_level is of another version, and is written anew");
        return Vec::new();
    };
    let (entries, _) = entries.as_chunks::<ENTRY>();
    let entries = entries.iter().filter_map(|[a, b, c, d, e, f, g, level, high, low]| {
        let id = u64::from_be_bytes([bucket, *a, *b, *c, *d, *e, *f, *g]);
        let level = match level {
            0 => Level::Unknown,
            1 => Level::Low,
            2 => Level::Medium,
            3 => Level::High,
            _ => return None,
        };
        let day = Day::from_be_bytes([*high, *low]);
        Some(Known { id, level, missing_since: (day > 0).then_some(day) })
    });
    let mut entries: Vec<Known> = entries.collect();
    entries.sort_unstable_by_key(|it| it.id);
    entries
}

/// The changes that are worth a row, if there are more than are kept: those to a level that is known first, and
/// of these the best.
pub fn keep_most_telling(changes: &mut Vec<Change>) {
    if changes.len() > KEPT_CHANGES {
        changes.select_nth_unstable_by_key(KEPT_CHANGES, |it| (Reverse(it.to), it.row));
        changes.truncate(KEPT_CHANGES);
    }
    changes.sort_unstable_by_key(|change| change.row);
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use availability::Level::{self, High, Low, Medium, Unknown};
    use proptest::prelude::*;

    use super::{Buckets, Change, Comparison, Displayed, KEPT_CHANGES, compare, keep_most_telling};

    const TODAY: u16 = 20_000;
    const KEPT: u16 = 30;

    fn shown(supplies: &[(u64, Level)]) -> Vec<Displayed> {
        let rows = supplies.iter().zip(0..);
        rows.map(|((id, level), row)| Displayed { id: *id, level: *level, row }).collect()
    }

    /// Looks, takes in what is to be stored, and says which supplies have changed from and to what.
    fn look(
        known: &mut Buckets,
        supplies: &[(u64, Level)],
        today: u16,
    ) -> Vec<(u64, Level, Level)> {
        let Comparison { changes, buckets } = compare(known, shown(supplies), today, KEPT);
        known.extend(buckets);
        let changes = changes.iter().map(|it| {
            let row = usize::try_from(it.row).expect("small");
            (supplies[row].0, it.from, it.to)
        });
        changes.collect()
    }

    const A: u64 = 0x0001_0000_0000_0000;
    const B: u64 = 0xFF00_0000_0000_0001;
    const C: u64 = 0xFF00_0000_0000_0000;

    #[test]
    fn a_supply_that_was_never_seen_has_not_changed() {
        let mut known = Buckets::new();
        assert_eq!(look(&mut known, &[(A, High), (B, Low)], TODAY), []);
        assert_eq!(look(&mut known, &[(A, High), (B, Low), (C, High)], TODAY), [], "a new one");
        let found = look(&mut known, &[(C, Low), (A, Medium), (B, Low)], TODAY);
        assert_eq!(found, [(A, High, Medium), (C, High, Low)]);
    }

    #[test]
    fn a_change_is_found_once_and_only_its_bucket_is_stored() {
        let mut known = Buckets::new();
        look(&mut known, &[(A, High), (B, Low)], TODAY);
        let found = compare(&known, shown(&[(A, Low), (B, Low)]), TODAY, KEPT);
        assert_eq!(found.changes, [Change { row: 0, from: High, to: Low }]);
        assert_eq!(found.buckets.keys().collect::<Vec<_>>(), [&0]);
        known.extend(found.buckets);
        let again = compare(&known, shown(&[(A, Low), (B, Low)]), TODAY + 1, KEPT);
        assert_eq!(again, Comparison::default(), "nothing is written at rest");
    }

    #[test]
    fn a_supply_that_comes_back_is_compared_with_what_it_was() {
        let mut known = Buckets::new();
        look(&mut known, &[(A, High), (B, Low)], TODAY);
        assert_eq!(look(&mut known, &[(B, Low)], TODAY), [], "it is missing");
        let still = compare(&known, shown(&[(B, Low)]), TODAY + KEPT, KEPT);
        assert_eq!(still, Comparison::default());
        assert_eq!(look(&mut known, &[(A, Low), (B, Low)], TODAY + KEPT), [(A, High, Low)]);
        look(&mut known, &[(B, Low)], TODAY);
        look(&mut known, &[(B, Low)], TODAY + KEPT + 1);
        assert_eq!(look(&mut known, &[(A, High), (B, Low)], TODAY), [], "it is forgotten");
        assert_eq!(known[&0].len(), 11);
    }

    #[test]
    fn silence_of_all_sources_is_no_change_and_that_of_one_is() {
        let mut known = Buckets::new();
        look(&mut known, &[(A, High), (B, Low)], TODAY);
        assert_eq!(compare(&known, Vec::new(), TODAY, KEPT), Comparison::default());
        let silent = compare(&known, shown(&[(A, Unknown), (B, Unknown)]), TODAY, KEPT);
        assert_eq!(silent, Comparison::default());
        assert_eq!(look(&mut known, &[(A, Low), (B, Low)], TODAY), [(A, High, Low)]);
        assert_eq!(look(&mut known, &[(A, Unknown), (B, Low)], TODAY), [(A, Low, Unknown)]);
    }

    #[test]
    fn a_bucket_that_cannot_be_read_is_as_if_nobody_had_looked() {
        for broken in [vec![], vec![9, 1, 2], vec![1, 2, 3]] {
            let mut known = Buckets::from([(0, broken)]);
            assert_eq!(look(&mut known, &[(A, High)], TODAY), []);
            assert_eq!(look(&mut known, &[(A, Low)], TODAY), [(A, High, Low)]);
        }
    }

    #[test]
    fn of_too_many_changes_those_that_help_are_kept() {
        let to = |row: u32| if row.is_multiple_of(3) { High } else { Unknown };
        let all = (0..3 * 9000).map(|row| Change { row, from: Low, to: to(row) });
        let mut changes: Vec<Change> = all.collect();
        keep_most_telling(&mut changes);
        assert_eq!(changes.len(), KEPT_CHANGES);
        assert_eq!(changes.iter().filter(|it| it.to == High).count(), 9000);
        assert!(changes.is_sorted_by_key(|it| it.row));
    }

    fn supplies() -> impl Strategy<Value = BTreeMap<u64, Level>> {
        let id = (0..4_u64, 0..8_u64).prop_map(|(bucket, id)| bucket << 56 | id);
        let level = prop_oneof![Just(High), Just(Medium), Just(Low), Just(Unknown)];
        proptest::collection::btree_map(id, level, 0..20)
    }

    proptest! {
        /// Of any course of looks, each change between two in which a supply is there is found once.
        #[test]
        fn every_change_is_found_once(looks in proptest::collection::vec(supplies(), 1..12)) {
            let (mut known, mut last) = (Buckets::new(), BTreeMap::new());
            for supplies in &looks {
                let listed: Vec<_> = supplies.iter().map(|(id, level)| (*id, *level)).collect();
                let found: BTreeSet<_> = look(&mut known, &listed, TODAY).into_iter().collect();
                let mut expected = BTreeSet::new();
                if listed.iter().any(|(_, level)| *level != Unknown) {
                    for (id, level) in listed {
                        let before = last.insert(id, level).filter(|before| *before != level);
                        expected.extend(before.map(|before| (id, before, level)));
                    }
                }
                prop_assert_eq!(found, expected);
            }
        }
    }
}

//! The supplies that have pools, in the order of their names.

use std::{cmp::Ordering, ops::Range};

use super::{
    Pools, index, place_of,
    supplies::{Names, Supplies, Text},
};

/// Supplies in order. It does not change; another one takes its place.
#[derive(Debug)]
pub(super) struct Directory {
    /// The number of the supply of each row.
    supplies: Vec<u32>,
    /// Where the places of the pools of each row begin, and of the last one end.
    starts: Vec<u32>,
    places: Vec<u32>,
    /// Of each text that there was, its place among all of them in [`natural_order`].
    ranks: Vec<u32>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { supplies: Vec::new(), starts: vec![0], places: Vec::new(), ranks: Vec::new() }
    }
}

/// Rows that have provider and name in common.
pub(super) struct SameNames {
    pub(super) texts: [Text; 2],
    pub(super) rows: Range<u32>,
}

impl Directory {
    pub(super) fn new(pools: &Pools) -> Self {
        let texts = &pools.supplies.texts;
        let mut order: Vec<Text> = (0..place_of(texts.len())).collect();
        order.sort_unstable_by(|one, other| natural_order(texts.get(*one), texts.get(*other)));
        let mut ranks = vec![0; order.len()];
        for (rank, text) in order.into_iter().enumerate() {
            ranks[index(text)] = place_of(rank);
        }
        let ranked = |supply: u32| pools.supplies.names(supply).map(|text| ranks[index(text)]);

        // How many pools each supply has, then where the next one of each goes.
        let mut next = vec![0_u32; pools.supplies.len()];
        for pool in pools.all.iter().flatten() {
            next[index(pool.supply)] += 1;
        }
        let mut supplies: Vec<u32> =
            (0..place_of(next.len())).filter(|supply| next[index(*supply)] > 0).collect();
        supplies.sort_unstable_by_key(|supply| ranked(*supply));
        let mut starts = Vec::with_capacity(supplies.len() + 1);
        let mut start = 0;
        for supply in &supplies {
            starts.push(start);
            let count = std::mem::replace(&mut next[index(*supply)], start);
            start += count;
        }
        starts.push(start);
        let mut places = vec![0; index(start)];
        for (place, pool) in pools.all.iter().enumerate() {
            let Some(pool) = pool else { continue };
            let next = &mut next[index(pool.supply)];
            places[index(*next)] = place_of(place);
            *next += 1;
        }
        Self { supplies, starts, places, ranks }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.supplies.len()
    }

    pub(super) fn supply(&self, row: u32) -> u32 {
        self.supplies[index(row)]
    }

    /// The places of the pools of a row.
    pub(super) fn places(&self, row: u32) -> &[u32] {
        let row = index(row);
        &self.places[index(self.starts[row])..index(self.starts[row + 1])]
    }

    /// The row of a supply; none if it has no pool.
    pub(super) fn row_of(&self, supplies: &Supplies, supply: u32) -> Option<u32> {
        let wanted = self.ranked(supplies.names(supply))?;
        let found = self
            .supplies
            .binary_search_by_key(&Some(wanted), |supply| self.ranked(supplies.names(*supply)));
        found.ok().map(place_of)
    }

    /// None of names that are newer.
    fn ranked(&self, names: Names) -> Option<[u32; 6]> {
        let mut ranks = [0; 6];
        for (rank, text) in ranks.iter_mut().zip(names) {
            *rank = *self.ranks.get(index(text))?;
        }
        Some(ranks)
    }

    /// The rows of a provider.
    pub(super) fn rows_of_provider(&self, supplies: &Supplies, provider: Text) -> Range<u32> {
        let rank_of = |supply: &u32| self.ranks[index(supplies.names(*supply)[0])];
        let Some(wanted) = self.ranks.get(index(provider)) else { return 0..0 };
        let start = self.supplies.partition_point(|supply| rank_of(supply) < *wanted);
        let end = self.supplies.partition_point(|supply| rank_of(supply) <= *wanted);
        place_of(start)..place_of(end)
    }

    /// Those of `rows`, which have one provider, whose names are from `first` on and before `end`.
    pub(super) fn rows_between(
        &self,
        supplies: &Supplies,
        rows: &Range<u32>,
        first: &str,
        end: &str,
    ) -> Range<u32> {
        let within = &self.supplies[index(rows.start)..index(rows.end)];
        let is_before = |supply: &u32, bound: &str| {
            let [_, name, ..] = supplies.names(*supply);
            natural_order(supplies.texts.get(name), bound).is_lt()
        };
        let first = within.partition_point(|supply| is_before(supply, first));
        let end = within.partition_point(|supply| is_before(supply, end)).max(first);
        rows.start + place_of(first)..rows.start + place_of(end)
    }

    /// Where in the order of names a row with these would be.
    pub(super) fn compare(&self, supplies: &Supplies, row: u32, names: &[String; 6]) -> Ordering {
        let texts = supplies.names(self.supply(row)).map(|text| supplies.texts.get(text));
        let mut orders = texts.into_iter().zip(names).map(|(text, name)| natural_order(text, name));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Rows by provider and name.
    pub(super) fn names<'a>(
        &'a self,
        supplies: &'a Supplies,
    ) -> impl Iterator<Item = SameNames> + 'a {
        let texts = |supply: &u32| {
            let [provider, name, ..] = supplies.names(*supply);
            [provider, name]
        };
        let mut start = 0;
        self.supplies.chunk_by(move |one, other| texts(one) == texts(other)).map(move |same| {
            let rows = start..start + place_of(same.len());
            start = rows.end;
            SameNames { texts: texts(&same[0]), rows }
        })
    }
}

/// Digits count as the number that they are: `c5.2xlarge` comes before `c5.10xlarge`. Texts that only
/// differ in leading zeros are in the order of their bytes.
fn natural_order(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        let (Some(a), Some(b)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| one.cmp(other));
        };
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number, after) = split_number(left);
            let (other_number, other_after) = split_number(right);
            let order =
                number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number));
            if order.is_ne() {
                return order;
            }
            (left, right) = (after, other_after);
        } else if a == b {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return a.cmp(b);
        }
    }
}

/// The digits at the start, without leading zeros, and the rest.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::natural_order;

    #[test]
    fn digits_are_in_the_order_of_their_numbers() {
        let sorted =
            ["", "a", "a1", "a01", "a2", "a2b", "a10", "a10b", "ab", "b", "c5.2x", "c5.10x"];
        let mut again = sorted;
        again.sort_unstable_by(|one, other| natural_order(one, other));
        // "a01" and "a1" are the same number; bytes decide.
        assert_eq!(again[2..4], ["a01", "a1"]);
        again[2..4].reverse();
        assert_eq!(again, sorted);
    }

    proptest! {
        #[test]
        fn it_is_an_order(one in "[a01.]{0,5}", two in "[a01.]{0,5}", three in "[a01.]{0,5}") {
            prop_assert_eq!(natural_order(&one, &two), natural_order(&two, &one).reverse());
            prop_assert_eq!(natural_order(&one, &two) == Ordering::Equal, one == two);
            if natural_order(&one, &two).is_le() && natural_order(&two, &three).is_le() {
                prop_assert!(natural_order(&one, &three).is_le());
            }
        }
    }
}

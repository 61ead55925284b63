//! P of those supplies that somebody follows with tools of his own.

use std::collections::BTreeSet;

use availability::Wanted;
use hardware_api::filter::Filter;

use super::{Pools, SharedPools, View, search::Matcher, shared::lock};

/// P of one supply for a number of units.
#[derive(Clone, Debug, PartialEq)]
pub struct Chance {
    /// Provider, name, region, zone, tier and unit, as they are shown.
    pub names: [String; 6],
    /// N.
    pub units: Wanted,
    /// The expected share of the next hour in which so many are free.
    pub probability: f64,
}

impl SharedPools {
    /// P of what matches one of `watched`, for as many units as that asks for, and of what the list stands for,
    /// for one; at most `most`. What is not known is left out.
    #[must_use]
    pub fn chances(&self, watched: &[(Filter, Wanted)], most: usize) -> Vec<Chance> {
        let Some(view) = self.view(Wanted::ONE) else { return Vec::new() };
        let mut chosen = BTreeSet::new();
        for (filter, wanted) in watched {
            // Not longer than for one filter: who writes waits meanwhile.
            let pools = self.read();
            let matcher = Matcher::new(&pools, &view, filter);
            let matching = matcher.rows().filter(|row| matcher.matches(*row));
            chosen.extend(matching.map(|row| (row, *wanted)).take(most - chosen.len().min(most)));
        }
        let listed = lock(&self.0.matches);
        if listed.is_of_directory(&view.directory) {
            let rows = listed.rows_in_order().map(|row| (row, Wanted::ONE));
            chosen.extend(rows.take(most - chosen.len().min(most)));
        }
        drop(listed);
        let pools = self.read();
        chosen.into_iter().filter_map(|(row, wanted)| pools.chance(&view, row, wanted)).collect()
    }
}

impl Pools {
    fn chance(&self, view: &View, row: u32, wanted: Wanted) -> Option<Chance> {
        let (_, probability) = self.level_of_row(&view.directory, row, wanted, view.as_of);
        let supply = view.directory.supply(row);
        let names = self.supplies.spelled(supply).unwrap_or_else(|| self.supplies.names(supply));
        let names = names.map(|text| self.supplies.texts.get(text).to_owned());
        probability.map(|probability| Chance { names, units: wanted, probability })
    }
}

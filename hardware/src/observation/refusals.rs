//! The observations of a batch that were not taken.

use std::collections::BTreeMap;

use hardware_api::RefusedObservation;

/// How many are listed, so that the answer to any batch is small.
const MAX_LISTED: usize = 100;

/// All are counted; the first ones, by their place in the batch, are listed with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    total: u32,
    listed: BTreeMap<u32, RefusedObservation>,
}

impl Refusals {
    /// Refuses the observation at `index`, once.
    pub fn add(&mut self, index: u32, code: &str, detail: String) {
        self.total += 1;
        self.listed.insert(index, RefusedObservation { index, code: code.to_owned(), detail });
        if self.listed.len() > MAX_LISTED {
            self.listed.pop_last();
        }
    }

    /// How many were refused.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The first ones, in order.
    #[must_use]
    pub fn into_listed(self) -> Vec<RefusedObservation> {
        self.listed.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Refusals;

    #[test]
    fn all_are_counted_and_the_first_hundred_listed() {
        let mut refusals = Refusals::default();
        for index in (0..5_000).rev() {
            refusals.add(index, "contradicts", String::new());
        }
        assert_eq!(refusals.total(), 5_000);
        let indices: Vec<u32> = refusals.into_listed().iter().map(|item| item.index).collect();
        assert_eq!(indices, (0..100).collect::<Vec<u32>>());
    }
}

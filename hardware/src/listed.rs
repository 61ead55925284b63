//! Which hardware the list shows.

use std::collections::HashMap;

use availability::{canonical_name, canonical_provider, family_contains};

/// The rows of the list by their names, to be asked for hundreds of thousands of names at once.
#[derive(Debug, Default)]
pub struct Listed {
    /// By provider, then by what names are looked up with: the place of the row, and its name.
    rows: HashMap<String, HashMap<String, Vec<(usize, String)>>>,
}

impl Listed {
    /// Of rows given as provider and name.
    pub fn new<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut listed = Self::default();
        for (place, (provider, name)) in rows.into_iter().enumerate() {
            let key = canonical_name(provider, name);
            let provider = canonical_provider(provider).into_owned();
            let names = listed.rows.entry(provider).or_default();
            names.entry(key).or_default().push((place, name.to_owned()));
        }
        listed
    }

    /// Whether a row stands for `name`, as itself or as its family.
    #[must_use]
    pub fn contains(&self, provider: &str, name: &str) -> bool {
        !self.places(provider, name).is_empty()
    }

    /// The places of the rows that stand for `name`, as itself or as its family.
    ///
    /// [`family_contains`] decides. A family's name ends where a part of its member's name does, so
    /// only those rows are asked.
    #[must_use]
    pub fn places(&self, provider: &str, name: &str) -> Vec<usize> {
        let provider = canonical_provider(provider);
        let Some(names) = self.rows.get(provider.as_ref()) else { return Vec::new() };
        let key = canonical_name(&provider, name);
        let ends = key.match_indices(['.', '-']).map(|(end, _)| end).chain([key.len()]);
        let families = ends.filter_map(|end| names.get(&key[..end])).flatten();
        let standing = families.filter(|(_, family)| family_contains(&provider, family, name));
        standing.map(|(place, _)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use availability::{canonical_provider, family_contains};
    use proptest::prelude::*;

    use super::Listed;

    #[test]
    fn rows_stand_for_themselves_and_their_families() {
        let rows = [("Amazon", "c5"), ("Azure", "H16mr"), ("google", "n2")];
        let listed = Listed::new(rows);
        let table = [
            ("aws", "c5", true),
            ("Amazon", "C5.Large", true),
            ("aws", "c5n.large", false),
            ("aws", "c5-large", false),
            ("azure", "Standard_H16mr", true),
            ("gcp", "n2-standard-4", true),
            ("gcp", "n2d-standard-4", false),
            ("lab", "c5", false),
        ];
        for (provider, name, expected) in table {
            assert_eq!(listed.contains(provider, name), expected, "{provider} {name}");
        }
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_each_row_asked_in_turn(
            rows in proptest::collection::vec(("aws|azure|gcp|p", "(standard_)?[ab](\\.a|-a|b){0,2}"), 0..6),
            provider in "amazon|azure|google|p",
            name in "(Standard_)?[aB](\\.a|-a|b){0,3}",
        ) {
            let rows: Vec<(&str, &str)> =
                rows.iter().map(|(provider, name)| (&**provider, &**name)).collect();
            let asked = rows.iter().enumerate().filter(|(_, (of, family))| {
                canonical_provider(of) == canonical_provider(&provider)
                    && family_contains(of, family, &name)
            });
            let asked: Vec<usize> = asked.map(|(place, _)| place).collect();
            let mut places = Listed::new(rows).places(&provider, &name);
            places.sort_unstable();
            prop_assert_eq!(places, asked);
        }
    }
}

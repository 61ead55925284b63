//! Whether anything that matches has a level, for whoever waits for that.

use std::cmp::Reverse;

use availability::{Level, Wanted};
use hardware_api::{Pool, filter::Filter};

use super::{Pools, View, search::Matcher, view::rank_of};

/// What is said of everything that matches.
#[derive(Clone, Debug, PartialEq)]
pub enum LevelSearch {
    /// Some of it has the level or a better one; this is the best.
    Found(Box<Pool>),
    /// None of it has.
    NotFound,
    /// Nothing is known of any of it, or nothing matches.
    Unknown,
}

impl Pools {
    /// Looks for the best supply that matches `filter` and has `level` or a better one for `wanted` units, at the
    /// time of `view`, which is of one unit.
    #[must_use]
    pub fn look_for(
        &self,
        view: &View,
        filter: &Filter,
        wanted: Wanted,
        level: Level,
    ) -> LevelSearch {
        let matcher = Matcher::new(self, view, filter);
        let mut is_known = false;
        let mut best = None;
        for row in matcher.rows().filter(|row| matcher.matches(*row)) {
            let of_one = view.level(row);
            is_known |= of_one != Level::Unknown;
            // More units have no better level than one.
            if of_one < level {
                continue;
            }
            let (found, probability) = self.level_of_row(&view.directory, row, wanted, view.as_of);
            if found >= level {
                best = best.max(Some((rank_of(found, probability), Reverse(row))));
            }
        }
        let best = best.and_then(|(_, Reverse(row))| self.answer(view, row, wanted));
        match best {
            // What is answered may be newer than the view.
            Some(pool) if pool.level >= super::word(level) => LevelSearch::Found(Box::new(pool)),
            _ if is_known => LevelSearch::NotFound,
            _ => LevelSearch::Unknown,
        }
    }
}

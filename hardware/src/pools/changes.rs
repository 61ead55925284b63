//! What supplies are shown with, to be compared with what was known, and the changes that were found.

use std::collections::VecDeque;

use availability::{Level, Timestamp, Wanted};
use hardware_api::filter::Filter;

use super::{
    Pools, View, place_of, round,
    search::Conditions,
    supplies::{Names, Text},
};
use crate::{
    levels::{Change, Displayed, KEPT_CHANGES, LevelChange},
    observation::PoolName,
    store::{ChangeRow, FeedState},
};

/// The changes of levels that the database keeps, the oldest first.
#[derive(Default)]
pub(super) struct Changes {
    /// What ids are made from, and since when there are changes; none before the first read.
    origin: Option<(String, Timestamp)>,
    all: VecDeque<KeptChange>,
}

struct KeptChange {
    id: i64,
    supply: u32,
    /// As they were shown, which need not be the canonical ones.
    names: Names,
    source: Text,
    from: Level,
    to: Level,
    probability: Option<f64>,
    at: Timestamp,
    sentence: Text,
}

/// Changes of levels that match a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Ids are made from it: no other database has the same, and all processes on one database have it.
    pub seed: String,
    /// When an empty feed was last updated.
    pub created: Timestamp,
    /// The changes, the latest first.
    pub changes: Vec<FoundChange>,
}

/// A change, and the supply that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundChange {
    /// The id of the supply.
    pub supply: u64,
    /// The change.
    pub change: LevelChange,
}

impl Pools {
    /// Every supply of a view with its level, in the order of the view.
    #[must_use]
    pub fn displayed(&self, view: &View) -> Vec<Displayed> {
        let rows = 0..place_of(view.directory.len());
        rows.map(|row| Displayed {
            id: self.supplies.id(view.directory.supply(row)),
            level: view.level(row),
            row,
        })
        .collect()
    }

    /// Everything that is told of a change to what `view` shows.
    #[must_use]
    pub fn describe_change(&self, view: &View, change: &Change) -> LevelChange {
        let Change { row, from, to } = *change;
        let supply = view.directory.supply(row);
        let names = self.supplies.spelled(supply).unwrap_or_else(|| self.supplies.names(supply));
        // What is said now may be newer than the view: then its reasons are not those of this level.
        let said = self.answer(view, row, Wanted::ONE);
        let said = said.filter(|said| said.level == super::word(to));
        let (source, sentence) = said.map_or_else(Default::default, |said| {
            let reasons = said.reasons;
            // "Free most of the time" says little of why the level is another one than before.
            let telling = reasons.iter().find(|reason| !reason.code.starts_with("usually_"));
            let reason = telling.or_else(|| reasons.first());
            (said.source, reason.map(|reason| reason.sentence.clone()).unwrap_or_default())
        });
        LevelChange {
            at: view.as_of,
            pool: self.pool_name(names),
            source,
            from,
            to,
            probability: view.probability(row).map(round),
            sentence,
        }
    }

    fn pool_name(&self, names: Names) -> PoolName {
        let [provider, name, region, zone, tier, unit] =
            names.map(|text| self.supplies.texts.get(text).to_owned());
        PoolName { provider, name, region, zone, tier, unit }
    }

    /// Takes in the changes that follow those that are there, or with `is_new` takes them for all there are.
    pub fn take_changes(&mut self, feed: &FeedState, is_new: bool, rows: Vec<ChangeRow>) {
        if is_new {
            self.changes.all.clear();
        }
        self.changes.origin = Some((feed.seed.clone(), Timestamp::from_millis(feed.created)));
        for ChangeRow { id, change } in rows {
            let supply = self.supplies.find_or_add(&change.pool);
            let texts = &mut self.supplies.texts;
            let kept = KeptChange {
                id,
                supply,
                names: change.pool.parts().map(|text| texts.share(text)),
                source: texts.share(&change.source),
                from: change.from,
                to: change.to,
                probability: change.probability,
                at: change.at,
                sentence: texts.share(&change.sentence),
            };
            self.changes.all.push_back(kept);
        }
        let all = &mut self.changes.all;
        let excess = all.len().saturating_sub(KEPT_CHANGES);
        let is_deleted = |kept: &KeptChange| feed.oldest.is_none_or(|oldest| kept.id < oldest);
        let deleted = all.iter().take_while(|kept| is_deleted(kept)).count();
        all.drain(..excess.max(deleted));
    }

    /// The latest changes that match: those of supplies that do, to a level that does. None before anything was
    /// read.
    #[must_use]
    pub fn feed(&self, filter: &Filter, limit: usize) -> Option<Feed> {
        let (seed, created) = self.changes.origin.clone()?;
        let conditions = Conditions::new(&self.supplies, filter);
        let matching = self.changes.all.iter().rev().filter(|kept| {
            let spelled = Some(kept.names);
            conditions.hold(
                &self.supplies,
                self.supplies.names(kept.supply),
                spelled,
                kept.to,
                |known| known.any(&self.supplies.texts, &[kept.source]),
            )
        });
        let text = |text: Text| self.supplies.texts.get(text).to_owned();
        let changes = matching.take(limit).map(|kept| FoundChange {
            supply: self.supplies.id(kept.supply),
            change: LevelChange {
                at: kept.at,
                pool: self.pool_name(kept.names),
                source: text(kept.source),
                from: kept.from,
                to: kept.to,
                probability: kept.probability,
                sentence: text(kept.sentence),
            },
        });
        Some(Feed { seed, created, changes: changes.collect() })
    }
}

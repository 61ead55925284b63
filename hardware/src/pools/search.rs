//! Pages of a view: which rows, in which order, from where on.

use std::{
    cell::Cell,
    fmt,
    ops::{Range, RangeInclusive},
};

use availability::{Level, Units, canonical_provider, canonical_text, canonical_tier};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hardware_api::{
    Availability,
    filter::{Field, Filter, Pattern, Term},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use super::{
    Pools, View, index, place_of,
    supplies::{Names, Supplies, Text, Texts},
    view::LEVEL_SHIFT,
    word,
};

/// What rows are put in order by. What is equal is in the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SortKey {
    /// Level, and P within it; the best first.
    Level,
    /// Provider, name, region, zone, tier and unit; digits count as numbers.
    Name,
    /// Free units, the most first.
    Free,
    /// All units, the most first.
    Total,
    /// The last observation, the latest first.
    ObservedAt,
}

/// An order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    key: SortKey,
    /// Whether the last comes first.
    is_reversed: bool,
}

impl Sort {
    /// The words that [`Sort::from_word`] knows.
    pub const WORDS: [&str; 10] = [
        "level",
        "-level",
        "name",
        "-name",
        "free",
        "-free",
        "total",
        "-total",
        "observed_at",
        "-observed_at",
    ];

    /// The order with this word; with `-` before it, it is turned around.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let key = match word.strip_prefix('-').unwrap_or(word) {
            "level" => SortKey::Level,
            "name" => SortKey::Name,
            "free" => SortKey::Free,
            "total" => SortKey::Total,
            "observed_at" => SortKey::ObservedAt,
            _ => return None,
        };
        Some(Self { key, is_reversed: word.starts_with('-') })
    }
}

impl PartialSchema for Sort {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Self::WORDS)).into()
    }
}

impl ToSchema for Sort {}

/// Where a page ends: the position of its last row, which stays one when rows come or go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    sort: Sort,
    rank: u64,
    names: [String; 6],
}

/// A cursor that no page has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    /// It is no cursor.
    Malformed,
    /// It is one of another order.
    OtherSort,
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the cursor is not one that a page gave as its next",
            Self::OtherSort => {
                "the cursor is of a page in another order; leave sort as it was there"
            }
        })
    }
}

impl std::error::Error for CursorError {}

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub struct Search {
    filter: Filter,
    sort: Sort,
    after: Option<Position>,
    limit: usize,
}

/// Rows of a view.
#[derive(Debug)]
pub struct Page {
    /// The rows, in order.
    pub rows: Vec<u32>,
    /// What a search for those that follow takes; none on the last page.
    pub next: Option<String>,
}

impl Search {
    /// At most `limit` rows, those that follow the page that gave `cursor`.
    pub fn new(
        filter: Filter,
        sort: Sort,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Self, CursorError> {
        let after = cursor.map(|cursor| read_cursor(cursor, sort)).transpose()?;
        Ok(Self { filter, sort, after, limit })
    }

    /// Whether a level is one that is looked for: what is answered may be newer than the view.
    #[must_use]
    pub fn allows(&self, level: Availability) -> bool {
        let mut of_level = self.filter.terms.iter().filter(|term| term.field == Some(Field::Level));
        of_level.all(|term| term.names_level(level) != term.is_negated)
    }

    /// Looks in a view of `pools`.
    #[must_use]
    pub fn run(&self, pools: &Pools, view: &View) -> Page {
        let matcher = Matcher::new(pools, view, &self.filter);
        let after = self.after.as_ref().map(|position| position.at(pools, view));
        let within = matcher.rows();
        // Few rows are put in order faster than many are left out.
        let are_few = within.len() < view.best_first().len() / 16;
        let take = self.limit + 1;
        let is_after =
            |row| after.as_ref().is_none_or(|after| self.follows(pools, view, row, after));
        let mut rows = match self.sort.key {
            SortKey::Name => {
                let rows = self.after_names(pools, view, within);
                self.first_in_order(rows, take, |row| matcher.matches(row))
            }
            SortKey::Level if !are_few => {
                let rows = view.best_first().iter().copied();
                self.first_in_order(rows, take, |row| {
                    within.contains(&row) && is_after(row) && matcher.matches(row)
                })
            }
            _ => {
                let rows = within.filter(|row| is_after(*row) && matcher.matches(*row));
                self.first_by_rank(pools, view, rows, take)
            }
        };
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().filter(|_| has_more);
        let next = last.map(|row| write_cursor(&self.position(pools, view, *row)));
        Page { rows, next }
    }

    /// The first `count` of `rows` that match, from either end.
    fn first_in_order(
        &self,
        rows: impl DoubleEndedIterator<Item = u32>,
        count: usize,
        matches: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let matches = |row: &u32| matches(*row);
        if self.sort.is_reversed {
            rows.rev().filter(matches).take(count).collect()
        } else {
            rows.filter(matches).take(count).collect()
        }
    }

    /// The rows, which are in the order of names, that follow the cursor.
    fn after_names(&self, pools: &Pools, view: &View, rows: Range<u32>) -> Range<u32> {
        let Some(position) = &self.after else { return rows };
        let compare = |row| view.directory.compare(&pools.supplies, row, &position.names);
        if self.sort.is_reversed {
            let end = partition_point(&rows, |row| compare(row).is_lt());
            rows.start..end
        } else {
            let start = partition_point(&rows, |row| compare(row).is_le());
            start..rows.end
        }
    }

    /// The first `count` of `rows`, which are in no order.
    fn first_by_rank(
        &self,
        pools: &Pools,
        view: &View,
        rows: impl Iterator<Item = u32>,
        count: usize,
    ) -> Vec<u32> {
        // What is turned around is turned around as a whole, names as well.
        let turned = |value: u64| if self.sort.is_reversed { value } else { !value };
        let mut ranked: Vec<(u64, u64)> = rows
            .map(|row| (turned(rank(pools, view, self.sort.key, row)), turned(!u64::from(row))))
            .collect();
        if ranked.len() > count {
            ranked.select_nth_unstable(count);
            ranked.truncate(count);
        }
        ranked.sort_unstable();
        let row = |ranked: u64| u32::try_from(!turned(ranked)).expect("it was one");
        ranked.into_iter().map(|(_, ranked)| row(ranked)).collect()
    }

    fn position(&self, pools: &Pools, view: &View, row: u32) -> Position {
        let names = pools.supplies.names(view.directory.supply(row));
        Position {
            sort: self.sort,
            rank: rank(pools, view, self.sort.key, row),
            names: names.map(|text| pools.supplies.texts.get(text).to_owned()),
        }
    }

    fn follows(&self, pools: &Pools, view: &View, row: u32, position: &Position) -> bool {
        let order = position.rank.cmp(&rank(pools, view, self.sort.key, row));
        let order =
            order.then_with(|| view.directory.compare(&pools.supplies, row, &position.names));
        if self.sort.is_reversed { order.is_lt() } else { order.is_gt() }
    }
}

impl Position {
    /// Where it is in a later view: P of all rows has changed with time, and as long as the level of its row
    /// is the same, the row is where it was among them.
    fn at(&self, pools: &Pools, view: &View) -> Self {
        let now = || {
            let supply = pools.supplies.find(&self.names)?;
            let row = view.directory.row_of(&pools.supplies, supply)?;
            let rank = rank(pools, view, SortKey::Level, row);
            (rank >> LEVEL_SHIFT == self.rank >> LEVEL_SHIFT).then_some(rank)
        };
        let rank = match self.sort.key {
            SortKey::Level => now().unwrap_or(self.rank),
            _ => self.rank,
        };
        Self { rank, ..self.clone() }
    }
}

/// The first of `rows` of which `is_before` does not hold; it holds of none after that.
fn partition_point(rows: &Range<u32>, is_before: impl Fn(u32) -> bool) -> u32 {
    let (mut start, mut end) = (rows.start, rows.end);
    while start < end {
        let middle = start + (end - start) / 2;
        if is_before(middle) {
            start = middle + 1;
        } else {
            end = middle;
        }
    }
    start
}

/// What a row is put in order by, the highest first; 0 for what is not known.
fn rank(pools: &Pools, view: &View, key: SortKey, row: u32) -> u64 {
    let open = || {
        let speaking = pools.speaking(&view.directory, row, view.wanted, view.as_of);
        speaking.map(|pool| pool.state.open_segment())
    };
    let known = |units: Option<Units>| units.map_or(0, |units| u64::from(units.get()) + 1);
    match key {
        SortKey::Level => u64::from(view.rank(row)),
        SortKey::Name => 0,
        SortKey::Free => known(open().and_then(|open| open.observation.free())),
        SortKey::Total => known(open().and_then(|open| open.observation.total())),
        SortKey::ObservedAt => {
            let seen = open().map_or(0, |open| open.last_seen.as_millis());
            u64::try_from(seen).unwrap_or(0)
        }
    }
}

fn write_cursor(position: &Position) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).expect("plain data"))
}

fn read_cursor(cursor: &str, sort: Sort) -> Result<Position, CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError::Malformed)?;
    let position: Position = serde_json::from_slice(&bytes).map_err(|_| CursorError::Malformed)?;
    if position.sort == sort { Ok(position) } else { Err(CursorError::OtherSort) }
}

/// A filter, made ready for many supplies.
pub(super) struct Conditions(Vec<Condition>);

impl Conditions {
    pub(super) fn new(supplies: &Supplies, filter: &Filter) -> Self {
        Self(filter.terms.iter().map(|term| Condition::new(supplies, term)).collect())
    }

    /// Whether all hold of a supply with a level. `names` are canonical, and `spelled` are as they are shown if
    /// that is something else; `is_of_source` says whether a source of it matches.
    pub(super) fn hold(
        &self,
        supplies: &Supplies,
        names: Names,
        spelled: Option<Names>,
        level: Level,
        is_of_source: impl Fn(&MemoizedPatterns) -> bool,
    ) -> bool {
        let texts = &supplies.texts;
        let any = |known: &MemoizedPatterns, places: RangeInclusive<usize>| {
            known.any(texts, &names[places.clone()])
                || spelled.is_some_and(|it| known.any(texts, &it[places]))
        };
        self.0.iter().all(|condition| {
            let is_met = match &condition.test {
                Test::Levels(levels) => levels.contains(&level),
                Test::Is(place, wanted) => wanted.contains(&names[*place]),
                Test::Matches(place, known) => any(known, *place..=*place),
                Test::Source(known) => is_of_source(known),
                Test::Contains(known, providers) => {
                    providers.contains(&names[0]) || any(known, 0..=5)
                }
            };
            is_met != condition.is_negated
        })
    }
}

/// A filter, made ready for many rows.
pub(super) struct Matcher<'a> {
    pools: &'a Pools,
    view: &'a View,
    conditions: Conditions,
    /// Where rows that match can be.
    rows: Range<u32>,
}

struct Condition {
    is_negated: bool,
    test: Test,
}

enum Test {
    Levels(Vec<Level>),
    /// The text at this place of the names is one of these.
    Is(usize, Vec<Text>),
    /// The text at this place of the names matches.
    Matches(usize, MemoizedPatterns),
    /// The name of a source matches.
    Source(MemoizedPatterns),
    /// A text of the names has one of these in it, or the provider is one of those.
    Contains(MemoizedPatterns, Vec<Text>),
}

/// Patterns, and which texts were found to match: a text is shared by many rows.
pub(super) struct MemoizedPatterns {
    patterns: Vec<Pattern>,
    /// How a pattern matches a text in lower case.
    matches: fn(&Pattern, &str) -> bool,
    /// By number of the text: [`UNKNOWN`], [`NO`] or [`YES`].
    found: Vec<Cell<u8>>,
}

const UNKNOWN: u8 = 1;
const NO: u8 = 2;
const YES: u8 = 4;

impl MemoizedPatterns {
    fn new(
        patterns: impl IntoIterator<Item = Pattern>,
        matches: fn(&Pattern, &str) -> bool,
        texts: &Texts,
    ) -> Self {
        let patterns = patterns.into_iter().collect();
        Self { patterns, matches, found: vec![Cell::new(UNKNOWN); texts.len()] }
    }

    /// Whether one of the texts matches.
    pub(super) fn any(&self, texts: &Texts, wanted: &[Text]) -> bool {
        let found = |text: &Text| &self.found[index(*text)];
        let known = wanted.iter().fold(0, |known, text| known | found(text).get());
        if known & YES != 0 {
            return true;
        }
        if known & UNKNOWN == 0 {
            return false;
        }
        let mut is_any = false;
        for text in wanted.iter().filter(|text| found(text).get() == UNKNOWN) {
            let lower = texts.get(*text).to_lowercase();
            let is_found = self.patterns.iter().any(|pattern| (self.matches)(pattern, &lower));
            found(text).set(if is_found { YES } else { NO });
            is_any |= is_found;
        }
        is_any
    }
}

impl<'a> Matcher<'a> {
    pub(super) fn new(pools: &'a Pools, view: &'a View, filter: &Filter) -> Self {
        let supplies = &pools.supplies;
        let mut rows = 0..place_of(view.directory.len());
        let conditions = Conditions::new(supplies, filter);
        for condition in &conditions.0 {
            if let Condition { is_negated: false, test: Test::Is(0, providers) } = condition
                && let [provider] = providers.as_slice()
            {
                let of_provider = view.directory.rows_of_provider(supplies, *provider);
                rows = rows.start.max(of_provider.start)..rows.end.min(of_provider.end);
            }
        }
        let rows = if rows.start < rows.end { rows } else { 0..0 };
        Self { pools, view, conditions, rows }
    }

    /// Where rows that match can be.
    pub(super) fn rows(&self) -> Range<u32> {
        self.rows.clone()
    }

    /// Whether a row matches.
    pub(super) fn matches(&self, row: u32) -> bool {
        let supplies = &self.pools.supplies;
        let supply = self.view.directory.supply(row);
        let is_of_source = |known: &MemoizedPatterns| {
            let mut members = self.pools.members(&self.view.directory, row);
            members.any(|pool| known.any(&supplies.texts, &[pool.source]))
        };
        self.conditions.hold(
            supplies,
            supplies.names(supply),
            supplies.spelled(supply),
            self.view.level(row),
            is_of_source,
        )
    }
}

impl Condition {
    fn new(supplies: &Supplies, term: &Term) -> Self {
        let texts = |place, canonical: &dyn Fn(&str) -> Vec<String>| {
            let literals: Option<Vec<&str>> = term.values.iter().map(Pattern::as_literal).collect();
            let Some(literals) = literals else {
                let patterns = term.values.iter().flat_map(|value| match value.as_literal() {
                    Some(text) => {
                        canonical(text).iter().map(|text| Pattern::literal(text)).collect()
                    }
                    None => vec![value.map(str::to_lowercase)],
                });
                return Test::Matches(
                    place,
                    MemoizedPatterns::new(patterns, Pattern::is_all_of, &supplies.texts),
                );
            };
            let known = literals.into_iter().flat_map(canonical);
            let mut known: Vec<Text> =
                known.filter_map(|text| supplies.texts.find(&text)).collect();
            known.sort_unstable();
            known.dedup();
            Test::Is(place, known)
        };
        let plain = |text: &str| vec![canonical_text(text)];
        let lower = || term.values.iter().map(|value| value.map(str::to_lowercase));
        let test = match term.field {
            Some(Field::Provider) => texts(0, &|text| vec![canonical_provider(text).into_owned()]),
            Some(Field::Name) => texts(1, &|text| {
                let name = canonical_text(text);
                // Azure's, of which the names are kept without it.
                let size = name.strip_prefix("standard_").map(str::to_owned);
                size.into_iter().chain([name]).collect()
            }),
            Some(Field::Region) => texts(2, &plain),
            Some(Field::Zone) => texts(3, &plain),
            Some(Field::Tier) => texts(4, &|text| vec![canonical_tier(text)]),
            Some(Field::Unit) => texts(5, &plain),
            Some(Field::Source) => {
                Test::Source(MemoizedPatterns::new(lower(), Pattern::is_all_of, &supplies.texts))
            }
            Some(Field::Level) => {
                let levels = Level::ALL.into_iter();
                Test::Levels(levels.filter(|level| term.names_level(word(*level))).collect())
            }
            None => {
                let literals = term.values.iter().filter_map(Pattern::as_literal);
                let providers = literals.map(canonical_provider);
                let providers = providers.filter_map(|text| supplies.texts.find(&text)).collect();
                let known = MemoizedPatterns::new(lower(), Pattern::is_part_of, &supplies.texts);
                Test::Contains(known, providers)
            }
        };
        Self { is_negated: term.is_negated, test }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::{Filter, Position, Search, Sort, read_cursor, write_cursor};

    fn sort() -> impl Strategy<Value = Sort> {
        prop::sample::select(&Sort::WORDS[..])
            .prop_map(|word| Sort::from_word(word).expect("known"))
    }

    fn position() -> impl Strategy<Value = Position> {
        (sort(), any::<u64>(), prop::array::uniform6(".{0,8}"))
            .prop_map(|(sort, rank, names)| Position { sort, rank, names })
    }

    proptest! {
        #[test]
        fn no_cursor_makes_the_reader_panic(cursor in ".{0,60}", sort in sort()) {
            drop(Search::new(Filter::default(), sort, Some(&cursor), 1));
        }

        #[test]
        fn no_json_in_a_cursor_makes_the_reader_panic(
            json in r#"[\[\]{}":,a-z0-9]{0,40}|\{"sort":\{"key":"(level|name)","is_reversed":(true|1)\},"rank":-?[0-9]{1,30},"names":\[("",){5}""?\]\}"#,
            sort in sort(),
        ) {
            drop(read_cursor(&URL_SAFE_NO_PAD.encode(json), sort));
        }

        #[test]
        fn a_cursor_is_read_as_it_was_written_and_in_its_own_order_only(position in position(), other in sort()) {
            let cursor = write_cursor(&position);
            prop_assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let sort = position.sort;
            prop_assert_eq!(read_cursor(&cursor, other).is_ok(), other == sort);
            prop_assert_eq!(read_cursor(&cursor, sort), Ok(position));
        }

        #[test]
        fn a_cursor_that_was_tampered_with_is_read_or_refused(
            position in position(), at in any::<prop::sample::Index>(), byte in "[-_A-Za-z0-9=+ ]",
        ) {
            let mut cursor = write_cursor(&position);
            let at = at.index(cursor.len());
            cursor.replace_range(at..=at, &byte);
            drop(read_cursor(&cursor, position.sort));
        }
    }
}

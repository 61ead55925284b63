//! What pools are of: the same six names are the same supply, whoever reports it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::observation::{PoolName, digest_of};

/// Stands for a text that is kept once, however many pools have it.
pub(super) type Text = u32;

/// Provider, name, region, zone, tier and unit, in canonical form.
pub(super) type Names = [Text; 6];

/// Texts by number.
#[derive(Default)]
pub(super) struct Texts {
    known: HashMap<Arc<str>, Text>,
    by_number: Vec<Arc<str>>,
}

impl Texts {
    pub(super) fn share(&mut self, text: &str) -> Text {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let number = Text::try_from(self.by_number.len()).expect("fewer than 2³² texts");
        let text = Arc::<str>::from(text);
        self.by_number.push(Arc::clone(&text));
        self.known.insert(text, number);
        number
    }

    pub(super) fn get(&self, text: Text) -> &str {
        &self.by_number[super::index(text)]
    }

    /// The number of a text that some pool has.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        self.known.get(text).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }
}

/// Every supply that a pool was ever of, by number.
#[derive(Default)]
pub(super) struct Supplies {
    pub(super) texts: Texts,
    names: Vec<Names>,
    /// As they were spelled first, where that is not the canonical form.
    spelled: Vec<Option<Box<Names>>>,
    ids: Vec<u64>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Supplies {
    /// The number of the supply that a pool is of.
    pub(super) fn find_or_add(&mut self, spelled: &PoolName) -> u32 {
        let canonical = spelled.canonical();
        let names = canonical.parts().map(|text| self.texts.share(text));
        let hash = self.hasher.hash_one(names);
        let found = self.numbers.find(hash, |number| self.names(*number) == names);
        if let Some(number) = found {
            return *number;
        }
        let number = super::place_of(self.names.len());
        let as_spelled = spelled.parts().map(|text| self.texts.share(text));
        self.names.push(names);
        self.spelled.push((as_spelled != names).then(|| Box::new(as_spelled)));
        self.ids.push(id_of(&canonical));
        let Self { numbers, names, hasher, .. } = self;
        numbers.insert_unique(hash, number, |number| hasher.hash_one(names[super::index(*number)]));
        number
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The canonical names of a supply.
    pub(super) fn names(&self, number: u32) -> Names {
        self.names[super::index(number)]
    }

    /// The names of a supply as they were spelled first, if those are not the canonical ones.
    pub(super) fn spelled(&self, number: u32) -> Option<Names> {
        self.spelled[super::index(number)].as_deref().copied()
    }

    /// The supply with these canonical names.
    pub(super) fn find(&self, names: &[String; 6]) -> Option<u32> {
        let mut wanted = Names::default();
        for (text, name) in wanted.iter_mut().zip(names) {
            *text = self.texts.find(name)?;
        }
        let hash = self.hasher.hash_one(wanted);
        self.numbers.find(hash, |number| self.names(*number) == wanted).copied()
    }

    /// What a supply is called in URLs.
    pub(super) fn id(&self, number: u32) -> u64 {
        self.ids[super::index(number)]
    }

    /// The supply with an id.
    pub(super) fn find_id(&self, id: u64) -> Option<u32> {
        self.ids.iter().position(|it| *it == id).map(super::place_of)
    }
}

/// The first eight bytes of SHA-256 over the canonical names, so that it is the same in every pod and
/// after every restart.
fn id_of(canonical: &PoolName) -> u64 {
    let digest = digest_of(canonical.parts());
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

//! Objects and lists of JSON, one level at a time: what is inside stays the text that was sent, so
//! that a body of any form costs little more than itself.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Members of an object, by name. Of members with the same name the last one counts.
pub(super) struct Members<'a> {
    known: &'static [&'static str],
    values: Vec<Option<&'a RawValue>>,
}

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let index = self.known.iter().position(|known| *known == name)?;
        self.values[index]
    }
}

/// The members of an object that are known, and the name of the first that is not.
pub(super) fn read_members<'a>(
    object: &'a RawValue,
    known: &'static [&'static str],
) -> Result<(Members<'a>, Option<String>), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(object.get());
    reader.deserialize_map(ObjectVisitor { known })
}

struct ObjectVisitor {
    known: &'static [&'static str],
}

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = (Members<'de>, Option<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.known.len()];
        let mut unknown = None;
        while let Some(name) = map.next_key_seed(NameSeed { known: self.known })? {
            let value = map.next_value()?;
            match name {
                Name::Known(index) => values[index] = Some(value),
                Name::Unknown(name) => {
                    unknown.get_or_insert(name);
                }
            }
        }
        Ok((Members { known: self.known, values }, unknown))
    }
}

enum Name {
    Known(usize),
    Unknown(String),
}

struct NameSeed {
    known: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        let index = self.known.iter().position(|known| *known == name);
        Ok(index.map_or_else(|| Name::Unknown(name.to_owned()), Name::Known))
    }
}

/// A list of which only the first items are kept.
pub(super) struct List<'a> {
    pub(super) first: Vec<&'a RawValue>,
    pub(super) length: usize,
}

/// The first `most` items of a list, and how many there are; the others are skipped.
pub(super) fn read_list(list: &RawValue, most: usize) -> List<'_> {
    let mut reader = serde_json::Deserializer::from_str(list.get());
    reader.deserialize_seq(ListVisitor { most }).expect("a list that was read before")
}

struct ListVisitor {
    most: usize,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<'de>, A::Error> {
        let (mut first, mut length) = (Vec::new(), 0);
        loop {
            let is_there = if length < self.most {
                items.next_element()?.map(|item| first.push(item)).is_some()
            } else {
                items.next_element::<IgnoredAny>()?.is_some()
            };
            if !is_there {
                return Ok(List { first, length });
            }
            length += 1;
        }
    }
}

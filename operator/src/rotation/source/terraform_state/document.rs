//! The JSON text of a state. Of its outputs only those are kept that are asked for, and of their values
//! only text and numbers: as JSON values the rest would take many times the memory of the text.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The parts that matter here. A state that OpenTofu encrypted has other fields.
#[derive(Default)]
pub(super) struct Document {
    pub(super) version: Option<u64>,
    pub(super) serial: Option<u64>,
    pub(super) lineage: Option<String>,
    pub(super) outputs: BTreeMap<String, Value>,
    pub(super) is_encrypted: bool,
}

/// The value of an output.
pub(super) enum Value {
    Null,
    Text(String),
    Number(String),
    /// A truth, a list or an object, which is not kept.
    Other,
}

impl Document {
    /// Reads a state with the outputs of these names.
    pub(super) fn parse(text: &[u8], names: &[&str]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let document = Fields { names }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(document)
    }
}

/// Reads the fields of a state.
struct Fields<'a> {
    names: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Document, A::Error> {
        let mut document = Document::default();
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "version" => document.version = fields.next_value()?,
                "serial" => document.serial = fields.next_value()?,
                "lineage" => document.lineage = fields.next_value()?,
                "outputs" => {
                    document.outputs = fields.next_value_seed(Outputs { names: self.names })?;
                }
                "encrypted_data" => {
                    document.is_encrypted = fields.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(document)
    }
}

/// Reads outputs.
struct Outputs<'a> {
    names: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for Outputs<'_> {
    type Value = BTreeMap<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outputs<'_> {
    type Value = BTreeMap<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut outputs: A) -> Result<Self::Value, A::Error> {
        let mut kept = BTreeMap::new();
        while let Some(name) = outputs.next_key::<String>()? {
            if self.names.contains(&name.as_str()) {
                kept.insert(name, outputs.next_value::<Output>()?.value);
            } else {
                outputs.next_value::<IgnoredAny>()?;
            }
        }
        Ok(kept)
    }
}

#[derive(Deserialize)]
struct Output {
    value: Value,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

//! What agents are told of the tools. Their schemas are made of the description of the HTTP routes, so they
//! are as true as that one.

use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Value, json};
use utoipa::openapi::OpenApi;

use crate::api::fields::Object;

pub(super) const CHECK: &str = "check";

pub(super) const PICK: &str = "pick";

pub(super) const FIND: &str = "find";

/// What holds for all tools.
pub(super) const INSTRUCTIONS: &str = "\
Answers whether so many units of some hardware can be had now, from what sources observe. Levels: HIGH (nearly \
every request would succeed), MEDIUM, LOW (most would fail), UNKNOWN (nothing is known, or too long ago). \
`probability` is the expected share of the next hour in which so many units are free; `reasons` say why a level \
is what it is. Nothing is reserved: ask shortly before you take it, and ask again if it fails.";

const CHECK_SAYS: &str = "\
Say of each of up to 1000 items how likely so many units can be had at once now. Use it when it is known what is \
wanted. An item that cannot be understood has a `problem` and leaves the others alone.";

const PICK_SAYS: &str = "\
Pick the first of up to 100 preferences of which so many units can be had at once now. Use it to choose between \
alternatives. If none can be had, the answer has the code `none_available`, and `preferences` say why.";

const FIND_SAYS: &str = "\
List pools (hardware of one name in one region and zone, sold in one way) that match a filter, with how likely \
so many units can be had at once. Use it to learn what there is. All arguments are optional and all of them must \
hold; letter case makes no difference. A name without `*` must match as a whole: write `p4d*` for a family. For \
the next page, ask the same with the `cursor` in `next`.";

/// The tools, with schemas made of `description`.
pub(super) fn tools(description: &OpenApi) -> Vec<Tool> {
    let description = serde_json::to_value(description).expect("plain data");
    let schemas = Schemas { components: &description["components"]["schemas"] };
    let parameters = &description["paths"]["/v1/availability"]["get"]["parameters"];
    let tool = |name, title, says, input: Value, output: &[&str]| {
        let annotations = ToolAnnotations::with_title(title)
            .read_only(true)
            .destructive(false)
            .idempotent(true)
            .open_world(false);
        Tool::new(name, says, into_object(input))
            .with_title(title)
            .with_raw_output_schema(into_object(schemas.output(output)).into())
            .with_annotations(annotations)
    };
    vec![
        tool(
            CHECK,
            "Check whether hardware can be had",
            CHECK_SAYS,
            schemas.input("CheckRequest"),
            &["CheckAnswer"],
        ),
        tool(
            PICK,
            "Pick the first hardware that can be had",
            PICK_SAYS,
            schemas.input("PickRequest"),
            &["Picked", "NonePicked"],
        ),
        tool(
            FIND,
            "Find hardware",
            FIND_SAYS,
            schemas.input_of_parameters(parameters),
            &["AvailabilityPage"],
        ),
    ]
}

/// The named schemas of the description.
struct Schemas<'a> {
    components: &'a Value,
}

impl Schemas<'_> {
    /// The body of a request, in one piece and with fields that are left out rather than null, as not every
    /// client follows references or knows several types.
    fn input(&self, name: &str) -> Value {
        let mut schema = self.inlined(&self.components[name]);
        // What is said of the body of a route; the tool has a description of its own.
        if let Some(members) = schema.as_object_mut() {
            members.remove("description");
        }
        schema["additionalProperties"] = false.into();
        schema
    }

    /// An answer that is one of these.
    fn output(&self, names: &[&str]) -> Value {
        let mut definitions = Object::new();
        let references: Vec<Value> =
            names.iter().map(|name| self.define(name, &mut definitions)).collect();
        json!({"type": "object", "anyOf": references, "$defs": definitions})
    }

    /// A reference to a schema that is among `definitions`, with those that it refers to.
    fn define(&self, name: &str, definitions: &mut Object) -> Value {
        if !definitions.contains_key(name) {
            definitions.insert(name.to_owned(), Value::Null);
            let schema = self.referring(&self.components[name], definitions);
            definitions.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    fn referring(&self, schema: &Value, definitions: &mut Object) -> Value {
        match schema {
            Value::Object(members) => {
                let mut own = Object::new();
                for (key, value) in members {
                    match named(key, value) {
                        Some(name) => {
                            let reference = self.define(name, definitions);
                            own.insert(key.clone(), reference["$ref"].clone());
                        }
                        None => drop(own.insert(key.clone(), self.referring(value, definitions))),
                    }
                }
                Value::Object(own)
            }
            Value::Array(items) => {
                items.iter().map(|item| self.referring(item, definitions)).collect()
            }
            other => other.clone(),
        }
    }

    /// The parameters of the query as members of an object.
    fn input_of_parameters(&self, parameters: &Value) -> Value {
        let mut properties = Object::new();
        for parameter in parameters.as_array().into_iter().flatten() {
            let mut property = self.inlined(&parameter["schema"]);
            for key in ["description", "example"] {
                if let Some(value) = parameter.get(key) {
                    property[key] = value.clone();
                }
            }
            match parameter["name"].as_str() {
                // An answer to an agent is always JSON.
                None | Some("format") => {}
                Some(name) => drop(properties.insert(name.to_owned(), property)),
            }
        }
        json!({"type": "object", "properties": properties, "additionalProperties": false})
    }

    fn inlined(&self, schema: &Value) -> Value {
        match schema {
            Value::Object(members) => {
                let members = members.iter().flat_map(|(key, value)| match named(key, value) {
                    // What stands beside a reference is about this use of it.
                    Some(name) => into_object(self.inlined(&self.components[name]))
                        .into_iter()
                        .filter(|(key, _)| !members.contains_key(key))
                        .collect(),
                    None => vec![(key.clone(), self.inlined(value))],
                });
                without_null(members.collect())
            }
            Value::Array(items) => items.iter().map(|item| self.inlined(item)).collect(),
            other => other.clone(),
        }
    }
}

/// The name of a schema, if this member refers to one.
fn named<'a>(key: &str, value: &'a Value) -> Option<&'a str> {
    value.as_str().filter(|_| key == "$ref")?.strip_prefix("#/components/schemas/")
}

/// The same schema without the choice of null.
fn without_null(mut schema: Object) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|it| it != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("oneOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [only] = choices.as_slice() {
            return only.clone();
        }
    }
    Value::Object(schema)
}

fn into_object(schema: Value) -> Object {
    match schema {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

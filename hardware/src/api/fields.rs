//! The fields of a body of JSON, each taken out as it is read, so that those that are left are not known.

use availability::Wanted;
use axum::body::Body;
use hardware_api::Availability;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{Refusal, body::read_body};
use crate::observation::MAX_UNITS;

/// Room for a full check with every field set.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;

pub(super) type Object = serde_json::Map<String, Value>;

pub(super) async fn read_json(headers: &HeaderMap, body: Body) -> Result<Object, Refusal> {
    let body = read_body(headers, body, MAX_BODY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body: {error}"))
    })
}

pub(super) fn wrong_field(field: &str, found: &Value, expected: &str) -> Refusal {
    let found = match found.to_string() {
        long if long.len() > 100 => format!("{}…", long.chars().take(100).collect::<String>()),
        short => short,
    };
    let detail = format!("{field}: found {found}, expected {expected}");
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_field", detail).about(
        field.to_owned(),
        found,
        expected.to_owned(),
    )
}

pub(super) fn take_units(
    members: &mut Object,
    field: &str,
    default: Wanted,
) -> Result<Wanted, Refusal> {
    match members.remove("units") {
        None | Some(Value::Null) => Ok(default),
        Some(found) => units_of(&found, field),
    }
}

fn units_of(found: &Value, field: &str) -> Result<Wanted, Refusal> {
    // 4.0 is a whole number in JSON.
    let number = found
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (1.0..=f64::from(MAX_UNITS)).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number within bounds"
    )]
    let wanted = number.and_then(|number| Wanted::new(number as u32));
    let expected = format!("a whole number from 1 to {MAX_UNITS}");
    wanted.ok_or_else(|| wrong_field(field, found, &expected))
}

pub(super) fn take_level(request: &mut Object) -> Result<Availability, Refusal> {
    let Some(found) = request.remove("min_level").filter(|found| !found.is_null()) else {
        return Ok(Availability::High);
    };
    serde_json::from_value(found.clone()).map_err(|_| {
        let allowed = Availability::ALL.map(Availability::as_str);
        wrong_field("min_level", &found, "a level").allowing(allowed)
    })
}

pub(super) fn take_list(
    request: &mut Object,
    field: &str,
    most: usize,
) -> Result<Vec<Value>, Refusal> {
    let expected = format!("a list of 1 to {most}");
    match request.remove(field) {
        Some(Value::Array(items)) if (1..=most).contains(&items.len()) => Ok(items),
        Some(Value::Array(items)) => Err(wrong_field(field, &items.len().into(), &expected)
            .saying(format!("{field}: found a list of {}, expected {expected}", items.len()))),
        found => Err(wrong_field(field, &found.unwrap_or_default(), &expected)),
    }
}

pub(super) fn refuse_unknown(request: &Object, known: &[&str]) -> Result<(), Refusal> {
    match request.iter().next() {
        None => Ok(()),
        Some((field, found)) => {
            let expected = format!("one of {}", known.join(", "));
            Err(wrong_field(field, found, &expected).allowing(known.iter().copied()))
        }
    }
}

//! Query parameters of routes that take none.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::Refusal;

/// Refuses a request with query parameters: whoever sends one expects it to do something.
pub(super) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let Some(first) = query.split('&').find(|parameter| !parameter.is_empty()) else {
            return Ok(Self);
        };
        let name = first.split('=').next().unwrap_or(first);
        let path = parts.uri.path();
        let detail = format!("{path} takes no query parameters, found {name}");
        Err(Refusal::new(StatusCode::BAD_REQUEST, "unknown_parameter", detail).about(
            name.to_owned(),
            first.to_owned(),
            "no query parameters".to_owned(),
        ))
    }
}

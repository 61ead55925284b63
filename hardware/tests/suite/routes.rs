//! One file per URL.

mod credentials;
mod hardware;
mod openapi_json;
mod other;
mod v1_attempts;
mod v1_observations;

//! Posts what Kubernetes knows of hardware to a portal.
//!
//! Each source is a client of `POST /v1/observations` and `POST /v1/attempts` like any other: a file under `sources` says what it
//! knows and when that changed, and [`batches`] and [`runner`] see to the rest, the same for all. What could
//! not be confirmed is not posted, so levels age while a source sees nothing.

pub mod app;
mod batches;
mod cause;
pub mod check;
pub mod config;
mod hardware_client;
mod metrics;
mod outbox;
mod runner;
mod sources;
mod statement;

//! What every service of this workspace needs and no domain knows.
//!
//! A binary's `main` reads like this: [`config::parse`] the command line, [`telemetry::init`], make a
//! [`Lifecycle`], bind [`server`] listeners, [`Lifecycle::spawn`] what runs as long as the process
//! does, and [`Lifecycle::run`] until a signal.

pub mod admin;
pub mod clock;
pub mod config;
pub mod credentials;
mod durations;
pub mod lifecycle;
pub mod negotiation;
pub mod observe;
pub mod open_files;
pub mod prepared;
pub mod readiness;
pub mod server;
pub mod telemetry;
pub mod watched_file;

pub use clock::Clock;
pub use lifecycle::Lifecycle;
pub use prepared::Prepared;
pub use readiness::Readiness;

//! The operator: turns `HardwarePortal` resources into running services.
//!
//! Four layers, of which each imports only those below it: [`portal`], [`watch`], [`rotation`] and
//! [`cluster`]. The other modules configure, start and check the process.

pub mod check;
pub mod cluster;
pub mod permissions;
pub mod portal;
pub mod rotation;
pub mod run;
pub mod settings;
pub mod watch;

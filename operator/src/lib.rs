//! The operator: turns `HardwarePortal` resources into running services.
//!
//! Three layers, of which each imports only those below it: [`portal`], [`rotation`] and [`cluster`].
//! The other modules configure, start and check the process.

pub mod check;
pub mod cluster;
pub mod permissions;
pub mod portal;
pub mod rotation;
pub mod run;
pub mod settings;

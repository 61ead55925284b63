//! The operator: turns `HardwarePortal` resources into running services.
//!
//! [`portal_controller`] is what it does; everything else is how it is started and watched.

pub mod census;
pub mod check;
pub mod client;
pub mod credentials;
pub mod events;
pub mod leader;
pub mod permissions;
pub mod portal_controller;
pub mod run;
pub mod settings;
pub mod watch_backoff;

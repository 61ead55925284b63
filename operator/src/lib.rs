//! The operator: turns `HardwarePortal` resources into running services.
//!
//! [`portal_controller`] is what it does; everything else is how it is started and watched.

pub mod check;
pub mod credentials;
pub mod events;
pub mod permissions;
pub mod portal_controller;
pub mod run;
pub mod settings;

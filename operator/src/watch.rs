//! The layer of `HardwareWatch`, between rotation and portal. What the API server calls a watch is in
//! [`crate::cluster`].
//!
//! A portal's pass asks the [`index`] which watches refer to it, reads the [`secrets`] that they name, has
//! them put into one document for the pods ([`render`]), and records what became of each ([`renditions`]).
//! The [`controller`] writes the status of each watch alone: from that record and from what the pods report
//! ([`reports`]).

pub mod context;
pub mod controller;
pub mod index;
pub mod publisher;
pub mod render;
pub mod renditions;
pub mod reports;
pub mod secrets;
pub mod status;
pub mod target;

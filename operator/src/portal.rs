//! The highest layer: one `HardwarePortal` and its children. [`controller`] lists the steps of a pass;
//! [`gather`] alone reads, [`apply`] alone writes children, [`status`] alone writes the portal's status.

pub mod apply;
pub mod build;
pub mod context;
pub mod controller;
pub mod error;
pub mod finalizer;
pub mod gather;
pub mod gauges;
pub mod live;
pub mod malformed;
pub mod orphans;
pub mod pods;
pub mod resolve;
pub mod source_reports;
pub mod status;
pub mod stored;

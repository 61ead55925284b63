//! The lowest layer: access to Kubernetes, without knowledge of what a portal consists of. It imports
//! nothing from the layers above.

pub mod api_error;
pub mod cache;
pub mod client;
pub mod events;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod labels;
pub mod leader;
pub mod malformed;
pub mod merge_patch;
pub mod names;
pub mod pod_http;
pub mod retry;
pub mod scope;
pub mod secrets;
pub mod watches;

use crds::{HardwarePortal, HardwareWatch};
use kube::core::DeserializeGuard;

/// A `HardwarePortal`, or an object of that kind that cannot be read as one: a single malformed object
/// must not stop the watch for all.
pub type Guarded = DeserializeGuard<HardwarePortal>;

/// The same of a `HardwareWatch`.
pub type GuardedWatch = DeserializeGuard<HardwareWatch>;

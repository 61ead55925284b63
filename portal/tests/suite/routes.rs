//! One file per resource.

mod assets;
mod healthz;
mod index;
mod other;
mod rows;

//! What the end-to-end tests share: a namespace of the real cluster, the real database server, a
//! real browser, a load generator, and waiting with a deadline.
//!
//! The tests expect what `make e2e` prepares (`e2e/run` lists it) and say so when it is missing.

pub mod audit;
pub mod browser;
pub mod contents;
pub mod database;
pub mod eviction;
pub mod fake_nodes;
pub mod fault;
pub mod health;
pub mod in_process;
pub mod load;
pub mod managed;
pub mod monitoring;
pub mod namespace;
pub mod neighbour;
pub mod node;
pub mod operator;
pub mod owned;
pub mod program;
pub mod promql;
pub mod proxy;
pub mod quota;
pub mod rotation;
pub mod scrape;
pub mod secrets_manager;
pub mod source;
pub mod store_load;
pub mod terraform;
pub mod wait;

pub use namespace::Namespace;

use anyhow::{Context, Result};

/// Reads a variable that `make e2e` sets.
pub fn setting(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!(
            "{name} is not set: these tests run through `make e2e`, which brings the cluster up"
        )
    })
}

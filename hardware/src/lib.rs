//! The service `hardware`: how likely hardware can be had.
//!
//! Sources report what they see ([`observation`]); it is kept as segments of unchanged counts
//! ([`store`]); a background task turns it into levels ([`pools`]) and an answer that is ready to be
//! sent ([`snapshot`], [`refresh`]); requests ([`api`]) read that answer and never the database. Whoever waits
//! for a level is told of it ([`watches`]).

pub mod api;
pub mod app;
pub mod backtest;
pub mod catalog;
pub mod check;
pub mod config;
pub mod import;
pub mod jobs;
pub mod levels;
pub mod listed;
pub mod metrics;
pub mod observation;
pub mod pools;
pub mod quality;
pub mod rebuild;
pub mod recording;
pub mod refresh;
pub mod reloadable_file;
pub mod snapshot;
pub mod source_tokens;
pub mod store;
pub mod watches;

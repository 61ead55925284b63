//! The page that shows how likely hardware can be had.
//!
//! One task asks `hardware` and renders the page whenever what it says changes; requests are answered
//! with bytes from memory. So the page is there, and says how old its content is, also while
//! `hardware` is not.

pub mod app;
mod assets;
mod cache_policy;
pub mod check;
pub mod config;
mod hardware_client;
mod metrics;
mod moment;
mod page;
mod page_publisher;
mod pools;
mod prepare;
mod refresh;
mod security;
mod upstream;
mod view;
mod web;

pub use cache_policy::CachePolicy;

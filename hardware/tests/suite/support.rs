//! What tests build their world from.

pub(crate) mod clients;
pub(crate) mod database;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod service;

pub(crate) use test_kit::eventually;

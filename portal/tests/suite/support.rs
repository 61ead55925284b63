//! What tests build their world from.

pub(crate) mod browser;
pub(crate) mod hardware;
pub(crate) mod portal;

pub(crate) use test_kit::eventually;

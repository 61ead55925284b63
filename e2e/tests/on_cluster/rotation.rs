//! Credentials change while a load writes through the store in the real pods, and nothing fails.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

mod crashes;
mod deletion;
mod documented;
mod modes;
mod neighbours;
mod secrecy;
mod sources;
mod terraform;
mod waiting;

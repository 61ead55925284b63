//! Credentials change while a load writes through the store in the real pods, and nothing fails.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

mod crashes;
mod deletion;
mod documented;
mod drift;
mod modes;
mod moves;
mod neighbours;
mod outage;
mod secrecy;
mod slow_login;
mod sources;
mod terraform;
mod waiting;

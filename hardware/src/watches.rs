//! Watches: who wants to be told when so many units of some hardware can be had, and is.
//!
//! The operator renders every `HardwareWatch` of a portal into one file ([`file`]). One process at a time, the
//! holder of a lease, looks at the levels ([`task`]), moves each watch on ([`standing`]), and stores what is to be
//! told in the same transaction. What is stored is sent ([`message`], [`sender`]) until the receiver has taken it,
//! by whichever process then has the lease: a firing is told at least once, and twice only if a process ended
//! between the receiver's answer and the note of it. Each message has an id, by which receivers tell that.

mod address;
mod file;
mod message;
mod quiet_hours;
mod report;
mod sender;
mod signature;
mod standing;
mod task;

pub use self::{
    file::{Match, Target, TargetKind, Watch, WatchFile},
    report::{TargetError, WatchReport, WatchReports},
    standing::{Rules, Seen, Standing},
    task::{PAUSE, Watches},
};

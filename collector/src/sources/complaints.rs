//! What is wrong with single records, which keeps the others from nothing.

use tracing::warn;

/// Complaints that one log line names.
const NAMED: usize = 3;

/// Complaints about the records of a source, said when they change.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<String>);

impl Complaints {
    /// Says what is wrong now, unless it was wrong before.
    pub(super) fn say(&mut self, source: &str, complaints: Vec<String>) {
        if !complaints.is_empty() && complaints != self.0 {
            let named = complaints.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            warn!(source, count = complaints.len(), "not reported: {named}");
        }
        self.0 = complaints;
    }
}

//! Readiness as a set of named gates: ready when every gate is open.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The gates of one process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    closed: Arc<RwLock<BTreeMap<&'static str, String>>>,
}

/// One condition of readiness, held by whoever knows whether it is met.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Adds a gate that is closed for `reason` until [`Gate::open`].
    #[must_use]
    pub fn gate(&self, name: &'static str, reason: impl Into<String>) -> Gate {
        let gate = Gate { name, readiness: self.clone() };
        gate.close(reason);
        gate
    }

    /// Whether every gate is open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.closed.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The closed gates with the reason each one gave, in order of their names.
    #[must_use]
    pub fn closed_gates(&self) -> Vec<(&'static str, String)> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        closed.iter().map(|(name, reason)| (*name, reason.clone())).collect()
    }
}

impl Gate {
    /// Declares the condition met.
    pub fn open(&self) {
        self.readiness.closed.write().unwrap_or_else(PoisonError::into_inner).remove(self.name);
    }

    /// Declares the condition not met, and why.
    pub fn close(&self, reason: impl Into<String>) {
        let mut closed = self.readiness.closed.write().unwrap_or_else(PoisonError::into_inner);
        closed.insert(self.name, reason.into());
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn a_process_is_ready_once_every_gate_is_open() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready(), "no gate means nothing to wait for");
        let (snapshot, schema) =
            (readiness.gate("snapshot", "none yet"), readiness.gate("schema", "unknown"));
        snapshot.open();
        schema.close("2 migrations pending");
        assert_eq!(readiness.closed_gates(), [("schema", "2 migrations pending".to_owned())]);
        schema.open();
        assert!(readiness.is_ready());
    }
}

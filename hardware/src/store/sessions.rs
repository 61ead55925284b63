//! How many connections each generation of the credential still has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// The open connections of a process and its logins under way. Whoever rotates the credential reads this
/// to learn when the old account is no longer used.
#[derive(Debug, Default)]
pub struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, usize>,
    last_login: Option<(u64, usize)>,
}

/// What `/credentials` shows: numbers, no names and no passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// The generation that new connections log in with.
    pub generation: u64,
    /// Which candidate of that generation the latest login used, counted from 0.
    pub candidate: Option<usize>,
    /// Open connections and logins under way, by the generation they log in with.
    pub connections: BTreeMap<u64, usize>,
}

impl Sessions {
    /// Counts a connection, from before its login, until the returned value is dropped.
    pub fn count(self: &Arc<Self>, generation: u64) -> CountedSession {
        *self.lock().open.entry(generation).or_default() += 1;
        CountedSession { generation, sessions: Arc::clone(self) }
    }

    /// Remembers which candidate was let in.
    pub fn note_login(&self, generation: u64, candidate: usize) {
        self.lock().last_login = Some((generation, candidate));
    }

    /// The state while `generation` is the latest.
    pub fn report(&self, generation: u64) -> SessionReport {
        let state = self.lock();
        let login = state.last_login.filter(|(at, _)| *at == generation);
        SessionReport {
            generation,
            candidate: login.map(|(_, candidate)| candidate),
            connections: state.open.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, open or logging in.
#[derive(Debug)]
pub struct CountedSession {
    generation: u64,
    sessions: Arc<Sessions>,
}

impl CountedSession {
    /// The generation it logs in with.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Drop for CountedSession {
    fn drop(&mut self) {
        let mut state = self.sessions.lock();
        if let Some(open) = state.open.get_mut(&self.generation) {
            *open -= 1;
            if *open == 0 {
                state.open.remove(&self.generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::{SessionReport, Sessions};

    #[test]
    fn connections_are_counted_by_generation_until_they_are_dropped() {
        let sessions = Arc::<Sessions>::default();
        let old = sessions.count(1);
        let (_new, another) = (sessions.count(2), sessions.count(2));
        assert_eq!(sessions.report(2).connections, BTreeMap::from([(1, 1), (2, 2)]));
        drop((old, another));
        assert_eq!(sessions.report(2).connections, BTreeMap::from([(2, 1)]));
    }

    #[test]
    fn the_candidate_belongs_to_the_generation_that_is_shown() {
        let sessions = Arc::<Sessions>::default();
        sessions.note_login(1, 1);
        let report = |candidate, generation| SessionReport {
            generation,
            candidate,
            connections: BTreeMap::new(),
        };
        assert_eq!(sessions.report(1), report(Some(1), 1));
        assert_eq!(sessions.report(2), report(None, 2), "nobody has logged in with it yet");
    }
}

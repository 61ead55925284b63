//! One batch per source at a time: the batches of a source would wait for each other in the database, each
//! with a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Batches of one source that may wait for the one that is being written.
const MAX_WAITING: usize = 4;

/// The turns of all sources.
#[derive(Debug, Default)]
pub struct IngestQueue {
    sources: Mutex<HashMap<String, Arc<Turns>>>,
}

/// Turns of which one is taken at a time, and for which few may wait.
#[derive(Debug)]
pub struct Turns {
    /// For who has the turn and those that wait.
    places: Arc<Semaphore>,
    /// For who has the turn.
    turn: Arc<Semaphore>,
    waiting: usize,
}

/// The right to do what takes turns, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// As many wait as may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl IngestQueue {
    /// Waits for the turn of a batch of `source`; refuses at once if too many wait already.
    pub(super) async fn wait(&self, source: &str) -> Result<Turn, QueueFull> {
        self.turns(source).wait().await
    }

    fn turns(&self, source: &str) -> Arc<Turns> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = sources.get(source) {
            return Arc::clone(turns);
        }
        // Sources that nobody waits for are forgotten, so that names do not pile up.
        sources.retain(|_, turns| Arc::strong_count(turns) > 1 || turns.is_used());
        let turns = Arc::new(Turns::new(MAX_WAITING));
        sources.insert(source.to_owned(), Arc::clone(&turns));
        turns
    }
}

impl Turns {
    /// So many may wait for who has the turn.
    #[must_use]
    pub fn new(waiting: usize) -> Self {
        let places = Arc::new(Semaphore::new(1 + waiting));
        Self { places, turn: Arc::new(Semaphore::new(1)), waiting }
    }

    /// Waits for the turn; refuses at once if too many wait already.
    pub(super) async fn wait(&self) -> Result<Turn, QueueFull> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| QueueFull)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| QueueFull)?;
        Ok(Turn { _turn: turn, _place: place })
    }

    fn is_used(&self) -> bool {
        self.places.available_permits() <= self.waiting
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::{IngestQueue, MAX_WAITING, QueueFull};

    #[tokio::test]
    async fn batches_of_a_source_take_turns_and_few_wait() {
        let queue = IngestQueue::default();
        let first = queue.wait("lab").await.expect("the first");
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(queue.wait("lab"))).collect();
        for batch in &mut waiting {
            assert!(batch.now_or_never().is_none(), "another batch is being written");
        }
        assert_eq!(queue.wait("lab").await.err(), Some(QueueFull));
        assert!(queue.wait("attic").now_or_never().is_some(), "other sources do not wait");
        drop(first);
        let next = waiting.remove(0).await.expect("its turn");
        assert!(waiting[0].as_mut().now_or_never().is_none());
        drop((next, waiting));
        assert!(queue.wait("lab").now_or_never().is_some());
    }

    #[tokio::test]
    async fn sources_that_nobody_waits_for_are_forgotten() {
        let queue = IngestQueue::default();
        let used = queue.wait("used").await.expect("the first");
        for number in 0..100 {
            drop(queue.wait(&format!("s{number}")).await);
        }
        let known = queue.sources.lock().expect("unpoisoned").len();
        assert_eq!(known, 2, "the one in use and the last one");
        drop(used);
    }
}

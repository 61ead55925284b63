//! The one way to a connection: leased from a pool, and thrown away unless the work on it finished.
//!
//! A future that is dropped half-way (its client left, a deadline passed) leaves a connection with
//! an answer still to be read or a transaction still open. Measured: 400 queries after such a drop
//! all read the answer of the one before them. So a lent connection returns its connection only when the work
//! has come to an end, well or badly.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{BuildError, Manager, Object, Pool, PoolError},
};
use diesel::QueryResult;
use metrics::{Counter, counter};

use super::StoreError;

/// How long to wait for a free connection, for a new one, and for the check of an idle one. These
/// may cut a future off safely: what they cut off is never given back to the pool.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
const RECYCLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections for reading and others for writing, so that neither waits for the other.
pub struct Connections<M: Manager> {
    /// Those of the refresh and of requests that read.
    pub reading: Guarded<M>,
    /// Those of batches and of jobs.
    pub writing: Guarded<M>,
}

impl<M> Connections<M>
where
    M: Manager<Error = StoreError> + Clone + 'static,
    M::Type: DerefMut + Send,
{
    /// At most so many of each, opened when they are needed.
    pub fn new(manager: M, reading: usize, writing: usize) -> Result<Self, BuildError> {
        Ok(Self {
            reading: Guarded::new(manager.clone(), reading)?,
            writing: Guarded::new(manager, writing)?,
        })
    }

    /// What opens them.
    #[must_use]
    pub fn opener(&self) -> &M {
        self.writing.pool().manager()
    }

    /// Those that exist, and those of them that are idle.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let [reading, writing] = [&self.reading, &self.writing].map(|one| one.pool().status());
        (reading.size + writing.size, reading.available + writing.available)
    }
}

/// A pool of connections that only lends them under guard.
pub struct Guarded<M: Manager> {
    pool: Pool<M>,
    succeeded: Counter,
    failed: Counter,
    discarded: Counter,
}

impl<M> Guarded<M>
where
    M: Manager<Error = StoreError> + 'static,
    M::Type: DerefMut + Send,
{
    /// A pool of at most `max_size` connections, opened when they are needed.
    pub fn new(manager: M, max_size: usize) -> Result<Self, BuildError> {
        let pool = Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .max_size(max_size)
            .wait_timeout(Some(WAIT_TIMEOUT))
            .create_timeout(Some(CREATE_TIMEOUT))
            .recycle_timeout(Some(RECYCLE_TIMEOUT))
            .build()?;
        let operations = |outcome: &'static str| counter!("hardware_store_operations_total", "outcome" => outcome);
        Ok(Self {
            pool,
            succeeded: operations("ok"),
            failed: operations("failed"),
            discarded: counter!("hardware_store_connections_discarded_total"),
        })
    }

    /// Runs `work` with a connection of its own. May be dropped at any time.
    pub async fn run<R, F>(&self, work: F) -> Result<R, StoreError>
    where
        F: AsyncFnOnce(&mut <M::Type as Deref>::Target) -> QueryResult<R>,
    {
        let outcome = self.run_uncounted(work).await;
        if outcome.is_ok() {
            self.succeeded.increment(1);
        } else {
            self.failed.increment(1);
        }
        outcome
    }

    async fn run_uncounted<R, F>(&self, work: F) -> Result<R, StoreError>
    where
        F: AsyncFnOnce(&mut <M::Type as Deref>::Target) -> QueryResult<R>,
    {
        let object = self.pool.get().await.map_err(flatten)?;
        let mut lent = Lent { object: Some(object), discarded: &self.discarded };
        let result = work(lent.connection()).await;
        lent.give_back();
        Ok(result?)
    }

    /// The pool, to look at and to sweep.
    #[must_use]
    pub fn pool(&self) -> &Pool<M> {
        &self.pool
    }
}

fn flatten(error: PoolError<StoreError>) -> StoreError {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(step) => StoreError::Timeout(step),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Closed
        }
    }
}

/// A connection under way. Dropping it discards the connection.
struct Lent<'a, M: Manager> {
    object: Option<Object<M>>,
    discarded: &'a Counter,
}

impl<M> Lent<'_, M>
where
    M: Manager,
    M::Type: DerefMut,
{
    fn connection(&mut self) -> &mut <M::Type as Deref>::Target {
        self.object.as_mut().expect("held until it is given back")
    }

    fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl<M: Manager> Drop for Lent<'_, M> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.discarded.increment(1);
            drop(Object::take(object));
        }
    }
}

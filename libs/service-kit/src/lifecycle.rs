//! The life of a process, from its first task to its exit.
//!
//! A shutdown goes through fixed phases, so that no request fails that could have been served:
//!
//! 1. a signal arrives, or an essential task ends: [`Lifecycle::draining`] is cancelled and the
//!    process reports itself not ready, while it goes on serving for the *drain delay*;
//! 2. [`Lifecycle::closing`] is cancelled: listeners stop accepting, background tasks end;
//! 3. what is in flight may finish, up to the *deadline*;
//! 4. [`Lifecycle::closed`] is cancelled: the admin listener, which answered probes all along, ends.
//!
//! A second signal skips the waiting.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{error, info, warn};

use crate::readiness::{Gate, Readiness};

/// How long the phases of a shutdown may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownTimes {
    /// Time between "not ready" and "no new connections".
    pub drain_delay: Duration,
    /// Time that requests in flight get after that.
    pub deadline: Duration,
}

/// Why a process ended other than cleanly.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LifecycleError {
    /// A task that must run as long as the process does ended by itself.
    #[error("the task \"{0}\" ended unexpectedly; its own log line says why")]
    TaskEnded(&'static str),
    /// Requests or tasks were still running at the end of the deadline.
    #[error("{0} tasks did not finish within the shutdown deadline and were cut off")]
    DeadlinePassed(usize),
    /// A second signal asked to stop without waiting.
    #[error("a second signal cut the shutdown short")]
    Interrupted,
}

/// Tokens, tasks and readiness of one process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    times: ShutdownTimes,
    readiness: Readiness,
    running: Gate,
    draining: CancellationToken,
    closing: CancellationToken,
    closed: CancellationToken,
    tasks: TaskTracker,
    ended: mpsc::UnboundedSender<&'static str>,
}

/// The one handle that can end a [`Lifecycle`]; consumed by [`Lifecycle::run`].
#[derive(Debug)]
pub struct EndedTasks(mpsc::UnboundedReceiver<&'static str>);

impl Lifecycle {
    /// A process that has just started.
    #[must_use]
    pub fn new(times: ShutdownTimes) -> (Self, EndedTasks) {
        let readiness = Readiness::default();
        let running = readiness.gate("running", "starting");
        running.open();
        let (ended, receiver) = mpsc::unbounded_channel();
        let lifecycle = Self {
            times,
            readiness,
            running,
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ended,
        };
        (lifecycle, EndedTasks(receiver))
    }

    /// The gates that `/readyz` reports.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Cancelled first: the process is still serving, but long streams should end.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled second: accept nothing new, finish what runs.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Cancelled last, when nothing is in flight any more or the deadline has passed.
    #[must_use]
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Runs `task` in the background. The process waits for it when it shuts down, and shuts down
    /// if it ends (or panics) before [`Lifecycle::closing`].
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let watch = EndWatch { name, closing: self.closing.clone(), ended: self.ended.clone() };
        self.tasks.spawn(async move {
            let _watch = watch;
            task.await;
        })
    }

    /// Runs work that must finish although nobody waits for it, such as the rest of a request
    /// whose client has left. It may end at any time; a shutdown waits for it.
    pub fn spawn_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits for SIGTERM, SIGINT or the unexpected end of a task, then shuts down.
    pub async fn run(self, ended: EndedTasks) -> Result<(), LifecycleError> {
        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
        let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
        let mut next_signal = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let EndedTasks(mut ended) = ended;
        let cause = tokio::select! {
            name = next_signal() => { info!(signal = name, "shutting down"); Ok(()) }
            Some(name) = ended.recv() => {
                error!(task = name, "a task ended unexpectedly, shutting down");
                Err(LifecycleError::TaskEnded(name))
            }
        };
        let finished = tokio::select! {
            finished = self.shut_down() => finished,
            name = next_signal() => {
                warn!(signal = name, "not waiting any longer");
                Err(LifecycleError::Interrupted)
            }
        };
        self.closed.cancel();
        cause.and(finished)
    }

    /// Goes through the phases of a shutdown. Public for tests, which have no signals to send.
    pub async fn shut_down(&self) -> Result<(), LifecycleError> {
        // Whatever ends this future early, the tokens must not stay half-cancelled.
        let _close: DropGuard = self.closing.clone().drop_guard();
        self.running.close("shutting down");
        self.draining.cancel();
        sleep(self.times.drain_delay).await;
        self.closing.cancel();
        self.tasks.close();
        let finished = timeout(self.times.deadline, self.tasks.wait()).await;
        let left = self.tasks.len();
        self.closed.cancel();
        finished.map_err(|_| LifecycleError::DeadlinePassed(left))
    }
}

/// Reports the end of a task, by return or by panic, unless the process is closing anyway.
#[derive(Debug)]
struct EndWatch {
    name: &'static str,
    closing: CancellationToken,
    ended: mpsc::UnboundedSender<&'static str>,
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        // The receiver is gone only when the process is past waiting for tasks.
        if !self.closing.is_cancelled() && self.ended.send(self.name).is_err() {
            warn!(task = self.name, "a task ended after the process stopped waiting for it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Lifecycle, LifecycleError, ShutdownTimes};

    const TIMES: ShutdownTimes =
        ShutdownTimes { drain_delay: Duration::from_secs(2), deadline: Duration::from_secs(5) };

    #[tokio::test(start_paused = true)]
    async fn readiness_ends_before_listeners_do() {
        let (lifecycle, _ended) = Lifecycle::new(TIMES);
        assert!(lifecycle.readiness().is_ready());
        let shutdown = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.shut_down().await }
        });
        lifecycle.draining().cancelled().await;
        assert!(!lifecycle.readiness().is_ready());
        assert!(!lifecycle.closing().is_cancelled(), "still serving during the drain delay");
        assert_eq!(shutdown.await.expect("no panic"), Ok(()));
        assert!(lifecycle.closed().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_flight_is_waited_for_up_to_the_deadline() {
        let (lifecycle, _ended) = Lifecycle::new(TIMES);
        let started = Instant::now();
        lifecycle.spawn_detached(tokio::time::sleep(Duration::from_secs(4)));
        assert_eq!(lifecycle.shut_down().await, Ok(()));
        assert_eq!(started.elapsed().as_secs(), 4);

        let (lifecycle, _ended) = Lifecycle::new(TIMES);
        lifecycle.spawn_detached(std::future::pending::<()>());
        assert_eq!(lifecycle.shut_down().await, Err(LifecycleError::DeadlinePassed(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_essential_task_that_panics_ends_the_process() {
        let (lifecycle, ended) = Lifecycle::new(TIMES);
        lifecycle.spawn("refresh", async { panic!("as a bug would") });
        assert_eq!(lifecycle.run(ended).await, Err(LifecycleError::TaskEnded("refresh")));
    }
}

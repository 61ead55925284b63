//! Posts what a source says, for as long as the process runs.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use hardware_api::ObservationSummary;
use service_kit::Clock;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::{
    batches::Delivered,
    hardware_client::{HardwareClient, PostError},
    metrics::SourceMetrics,
    outbox::Outbox,
    sources::{Silence, Source},
    statement::Statement,
};

/// The first pause after a failure; each further one is twice as long.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// The longest time that a service may ask to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// A source, and where it posts.
pub(crate) struct Runner<S> {
    name: String,
    source: S,
    client: HardwareClient,
    clock: Clock,
    delivered: Delivered,
    /// Attempts that have not arrived.
    outbox: Outbox,
    metrics: SourceMetrics,
    /// What was logged last.
    state: State,
}

/// What came of looking once.
enum Outcome {
    Delivered,
    /// The source has to see or confirm something first.
    NothingToSay,
    /// The service did not take it, and may have said how long it wants to be left alone.
    NotDelivered {
        asked_for: Option<Duration>,
    },
}

/// How a source stands, in the words of the log.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Starting,
    Reporting,
    /// Has a problem with this code.
    Problem(&'static str),
    /// Says nothing, or cannot say it, for this reason.
    Failing(String),
}

impl<S: Source> Runner<S> {
    /// Will post for the source `name`.
    pub(crate) fn new(name: String, source: S, client: HardwareClient, clock: Clock) -> Self {
        let metrics = SourceMetrics::register(&name);
        let (delivered, outbox) = (Delivered::default(), Outbox::default());
        Self { name, source, client, clock, delivered, outbox, metrics, state: State::Starting }
    }

    /// Posts whenever something changed, and once per interval. May be dropped at any time: nothing that was
    /// posted twice counts twice.
    pub(crate) async fn run(mut self) {
        let mut retries = retry_pauses(self.source.interval());
        loop {
            let outcome = self.report().await;
            let pause = if matches!(outcome, Outcome::Delivered) {
                retries = retry_pauses(self.source.interval());
                // Collectors that started together must not post in step for ever.
                self.source.interval().mul_f64(0.9 + 0.1 * fastrand::f64())
            } else {
                retries.next().unwrap_or(self.source.interval())
            };
            match outcome {
                // A change is no reason to press a service that fails.
                Outcome::NotDelivered { asked_for } => {
                    sleep(pause.max(asked_for.unwrap_or_default()).min(LONGEST_PAUSE)).await;
                }
                Outcome::Delivered | Outcome::NothingToSay => {
                    let changed = timeout(pause, self.source.changed()).await;
                    debug!(source = self.name, changed = changed.is_ok(), "speaking again");
                }
            }
        }
    }

    /// Looks once, and posts what is seen and what was tried. What was tried is told although the source
    /// may not see its pools.
    async fn report(&mut self) -> Outcome {
        let looked = self.source.look().await;
        self.keep_attempts();
        let (outcome, state) = self.report_statement(looked).await;
        let posted = match &outcome {
            // A service that fails is not asked for more.
            Outcome::NotDelivered { .. } => Ok(()),
            Outcome::Delivered | Outcome::NothingToSay => self.post_attempts().await,
        };
        match posted {
            Ok(()) => {
                match state {
                    Some(state) => self.become_state(state),
                    None => self.metrics.set_up(false),
                }
                outcome
            }
            Err(error) => {
                self.metrics.count(error.label());
                self.become_state(State::Failing(error.to_string()));
                Outcome::NotDelivered { asked_for: error.retry_after() }
            }
        }
    }

    /// Posts what was seen. Says what came of it, and how the source stands by that, if it is not as before.
    async fn report_statement(
        &mut self,
        looked: Result<Statement, Silence>,
    ) -> (Outcome, Option<State>) {
        let statement = match looked {
            Ok(statement) => statement,
            Err(Silence::Starting) => return (Outcome::NothingToSay, None),
            Err(silence @ Silence::Unconfirmed(_)) => {
                self.metrics.count("unconfirmed");
                return (Outcome::NothingToSay, Some(State::Failing(silence.to_string())));
            }
        };
        let now = self.clock.now();
        match self.post(&statement, now).await {
            Ok(pools) => {
                let state = match &statement {
                    Statement::Pools(_) => State::Reporting,
                    Statement::Problem(problem) => State::Problem(problem.code),
                };
                if let (Statement::Problem(problem), true) = (&statement, self.state != state) {
                    warn!(source = self.name, code = problem.code, "{}", problem.detail);
                }
                self.metrics.count("delivered");
                self.metrics.observe_report(now, pools);
                self.delivered.arrived(statement, now);
                (Outcome::Delivered, Some(state))
            }
            Err(error) => {
                self.delivered.forget();
                self.metrics.count(error.label());
                let asked_for = error.retry_after();
                (Outcome::NotDelivered { asked_for }, Some(State::Failing(error.to_string())))
            }
        }
    }

    fn keep_attempts(&mut self) {
        let lost = self.outbox.add(self.source.take_attempts());
        self.metrics.count_lost_attempts(u64::try_from(lost).unwrap_or(u64::MAX));
        if lost > 0 {
            warn!(source = self.name, lost, "attempts are given up, as too many wait to be posted");
        }
    }

    async fn post_attempts(&mut self) -> Result<(), PostError> {
        while let Some(batch) = self.outbox.next_batch(&self.name) {
            let summary = self.client.post_attempts(&batch).await?;
            debug!(source = self.name, attempts = batch.attempts.len(), ?summary, "posted");
            if let Some(first) = summary.refused.first() {
                let refused = summary.refused_total;
                let (code, detail) = (&first.code, &first.detail);
                warn!(source = self.name, refused, code, "attempts are not taken: {detail}");
            }
            self.metrics.count_attempts(&batch.attempts);
            self.outbox.arrived(&batch);
        }
        Ok(())
    }

    async fn post(
        &mut self,
        statement: &Statement,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<usize, PostError> {
        let interval = self.source.interval();
        for batch in self.delivered.batches(&self.name, interval, statement, now) {
            let summary = self.client.post_observations(&batch).await?;
            debug!(source = self.name, listed = batch.observations.len(), ?summary, "posted");
            self.report_refusals(&summary);
        }
        Ok(match statement {
            Statement::Pools(pools) => pools.len(),
            Statement::Problem(_) => 0,
        })
    }

    fn report_refusals(&self, summary: &ObservationSummary) {
        if let Some(first) = summary.refused.first() {
            let refused = summary.refused_total;
            warn!(source = self.name, refused, code = first.code, "not taken: {}", first.detail);
        }
    }

    /// One line per change, not one per attempt.
    fn become_state(&mut self, state: State) {
        self.metrics.set_up(state == State::Reporting);
        if self.state == state {
            return;
        }
        match &state {
            State::Reporting => info!(source = self.name, "reporting"),
            State::Failing(reason) => warn!(source = self.name, "not reporting: {reason}"),
            State::Starting | State::Problem(_) => {}
        }
        self.state = state;
    }
}

/// A service that fails gets a few quick retries, then as many requests as usual.
fn retry_pauses(interval: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(SHORTEST_RETRY.min(interval))
        .with_max_delay(interval)
        .with_jitter()
        .without_max_times()
        .build()
}

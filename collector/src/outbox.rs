//! Attempts that a source has reported and that have not arrived yet. Pure.

use std::collections::VecDeque;

use hardware_api::{Attempt, AttemptBatch};

/// Attempts in one batch; the API takes no more.
const MOST_ATTEMPTS: usize = 10_000;

/// Attempts that wait at most, a few megabytes. While the service is away for long, the latest say most.
const MOST_WAITING: usize = 2 * MOST_ATTEMPTS;

/// Attempts that have not arrived yet, in the order in which they were reported.
#[derive(Debug, Default)]
pub(crate) struct Outbox(VecDeque<Attempt>);

impl Outbox {
    /// Takes attempts, and returns how many older ones are given up for them.
    pub(crate) fn add(&mut self, attempts: Vec<Attempt>) -> usize {
        self.0.extend(attempts);
        let surplus = self.0.len().saturating_sub(MOST_WAITING);
        self.0.drain(..surplus);
        surplus
    }

    /// The batch that has to arrive next; none if nothing waits.
    pub(crate) fn next_batch(&self, source: &str) -> Option<AttemptBatch> {
        let attempts: Vec<Attempt> = self.0.iter().take(MOST_ATTEMPTS).cloned().collect();
        (!attempts.is_empty()).then(|| AttemptBatch { source: source.to_owned(), attempts })
    }

    /// Forgets the attempts of `batch`, the last that [`Self::next_batch`] gave: they have arrived.
    pub(crate) fn arrived(&mut self, batch: &AttemptBatch) {
        self.0.drain(..batch.attempts.len().min(self.0.len()));
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use hardware_api::{Attempt, AttemptOutcome};

    use super::{MOST_ATTEMPTS, MOST_WAITING, Outbox};

    fn attempts(names: std::ops::Range<usize>) -> Vec<Attempt> {
        let attempt = |name: usize| Attempt {
            provider: "Amazon".to_owned(),
            name: name.to_string(),
            region: None,
            zone: None,
            tier: None,
            unit: None,
            units: None,
            outcome: AttemptOutcome::Succeeded,
            at: DateTime::UNIX_EPOCH,
            code: None,
        };
        names.map(attempt).collect()
    }

    #[test]
    fn attempts_wait_until_they_have_arrived_and_are_sent_once() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.next_batch("karpenter"), None);
        assert_eq!(outbox.add(attempts(0..2)), 0);
        let batch = outbox.next_batch("karpenter").expect("two wait");
        assert_eq!((batch.source.as_str(), &batch.attempts), ("karpenter", &attempts(0..2)));
        assert_eq!(outbox.next_batch("karpenter"), Some(batch.clone()), "it did not arrive");
        // One that is reported meanwhile comes with the next.
        outbox.add(attempts(2..3));
        outbox.arrived(&batch);
        let batch = outbox.next_batch("karpenter").expect("one waits");
        assert_eq!(batch.attempts, attempts(2..3));
        outbox.arrived(&batch);
        assert_eq!(outbox.next_batch("karpenter"), None);
    }

    #[test]
    fn a_batch_has_as_many_as_the_api_takes_and_the_oldest_are_given_up() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.add(attempts(0..MOST_WAITING + 3)), 3);
        let batch = outbox.next_batch("karpenter").expect("many wait");
        assert_eq!(batch.attempts, attempts(3..3 + MOST_ATTEMPTS));
        outbox.arrived(&batch);
        let rest = outbox.next_batch("karpenter").expect("as many wait again").attempts;
        assert_eq!(rest, attempts(3 + MOST_ATTEMPTS..3 + MOST_WAITING));
    }
}

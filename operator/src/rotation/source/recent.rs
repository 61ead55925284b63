//! Readings that need not be repeated for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crds::MysqlSource;
use tokio::time::Instant;

use super::{Reading, Request, terraform_state::judge};

/// The last good reading of each portal, by the portal's uid: a portal that is made anew may find
/// another source.
#[derive(Default)]
pub(super) struct RecentReadings {
    by_uid: Mutex<HashMap<String, Recent>>,
}

/// A good reading, and what it is the answer to.
struct Recent {
    source: MysqlSource,
    accepted_lineage: Option<String>,
    reading: Reading,
    read_at: Instant,
    /// When it is dropped, if nobody asks for it until then.
    expires: Instant,
}

impl RecentReadings {
    /// The last reading, if the same question was asked less than `poll_interval` ago.
    pub(super) fn get(
        &self,
        uid: &str,
        source: &MysqlSource,
        request: &Request<'_>,
        poll_interval: Duration,
    ) -> Option<Reading> {
        let now = Instant::now();
        self.with(|by_uid| {
            // Those of portals that are gone expire too.
            by_uid.retain(|_, recent| recent.expires > now);
            let recent = by_uid.get(uid)?;
            // The interval may have been shortened since.
            let is_recent = now.duration_since(recent.read_at) < poll_interval;
            (is_recent && recent.answers(source, request)).then(|| recent.reading.clone())
        })
    }

    /// Keeps a good reading.
    pub(super) fn keep(
        &self,
        uid: &str,
        source: &MysqlSource,
        request: &Request<'_>,
        poll_interval: Duration,
        reading: &Reading,
    ) {
        let now = Instant::now();
        let recent = Recent {
            source: source.clone(),
            accepted_lineage: request.accepted_lineage.map(str::to_owned),
            reading: reading.clone(),
            read_at: now,
            expires: now + poll_interval,
        };
        self.with(|by_uid| by_uid.insert(uid.to_owned(), recent));
    }

    /// Drops the reading of a portal.
    pub(super) fn forget(&self, uid: &str) {
        self.with(|by_uid| by_uid.remove(uid));
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Recent>) -> T) -> T {
        act(&mut self.by_uid.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recent {
    /// Whether a new reading would be judged as this one was. The known state moves on with each reading,
    /// and is not what it was if the rotation's own record was restored.
    fn answers(&self, source: &MysqlSource, request: &Request<'_>) -> bool {
        let is_acceptable = self.reading.state.as_ref().is_none_or(|state| {
            judge(request.known_state, state, request.accepted_lineage).is_ok()
        });
        self.source == *source
            && self.accepted_lineage.as_deref() == request.accepted_lineage
            && is_acceptable
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crds::{MysqlSource, SecretSource};
    use tokio::time::advance;

    use super::RecentReadings;
    use crate::rotation::source::{Request, StateVersion, tests::reading};

    const MINUTE: Duration = Duration::from_mins(1);

    fn request<'a>(known: Option<&'a StateVersion>, accepted: Option<&'a str>) -> Request<'a> {
        Request { namespace: "team", portal: "p", known_state: known, accepted_lineage: accepted }
    }

    fn state(lineage: &str, serial: u64) -> StateVersion {
        StateVersion { lineage: lineage.to_owned(), serial }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_is_kept_for_as_long_as_the_interval_is_now() {
        let (recent, source) = (RecentReadings::default(), MysqlSource::default());
        let ask = request(None, None);
        recent.keep("uid", &source, &ask, MINUTE, &reading("v1", None, None));
        assert!(recent.get("uid", &source, &ask, MINUTE).is_some());
        assert!(recent.get("another", &source, &ask, MINUTE).is_none());
        advance(MINUTE / 2).await;
        assert!(recent.get("uid", &source, &ask, MINUTE / 2).is_none(), "it was shortened");
        assert!(recent.get("uid", &source, &ask, MINUTE).is_some());
        advance(MINUTE / 2).await;
        assert!(recent.get("uid", &source, &ask, MINUTE).is_none(), "its time is over");
        assert_eq!(recent.with(|by_uid| by_uid.len()), 0, "and it takes no memory");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_is_forgotten_is_read_again() {
        let (recent, source) = (RecentReadings::default(), MysqlSource::default());
        let ask = request(None, None);
        recent.keep("uid", &source, &ask, MINUTE, &reading("v1", None, None));
        recent.forget("another");
        assert!(recent.get("uid", &source, &ask, MINUTE).is_some());
        recent.forget("uid");
        assert!(recent.get("uid", &source, &ask, MINUTE).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_answers_no_other_question() {
        let recent = RecentReadings::default();
        let (source, before) = (MysqlSource::default(), state("a", 5));
        let mut good = reading("a/6", None, None);
        good.state = Some(state("a", 6));
        let asked = request(Some(&before), None);
        recent.keep("uid", &source, &asked, MINUTE, &good);

        let secret = SecretSource { name: "db".to_owned(), keys: None };
        let other = MysqlSource { secret: Some(secret), ..MysqlSource::default() };
        assert!(recent.get("uid", &other, &asked, MINUTE).is_none(), "another source");
        let accepts = request(Some(&before), Some("b"));
        assert!(recent.get("uid", &source, &accepts, MINUTE).is_none(), "another annotation");
        for (known, expected) in
            [(state("a", 6), true), (state("a", 7), false), (state("b", 1), false)]
        {
            let found = recent.get("uid", &source, &request(Some(&known), None), MINUTE);
            assert_eq!(found.is_some(), expected, "after {known:?}");
        }
    }
}

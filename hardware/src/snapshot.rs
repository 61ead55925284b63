//! The answer to `GET /hardware/`, ready to be sent, and how old it is.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use axum::body::Bytes;
use hardware_api::{FRESHNESS_HEADER, Hardware};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;
use service_kit::Prepared;
use tokio::time::Instant;

use crate::listed::Listed;

/// Says `fresh`, or `stale` after missed refreshes.
pub static FRESHNESS: HeaderName = HeaderName::from_static(FRESHNESS_HEADER);

/// What pages of other sites may see besides the list.
const EXPOSED: HeaderValue = HeaderValue::from_static("age,etag,snapshot-freshness");

/// One state of the list.
#[derive(Debug)]
pub struct Snapshot {
    /// JSON, without what changes with time.
    prepared: Prepared,
    /// The hardware that it shows.
    pub listed: Listed,
}

/// The latest snapshot, for readers that must not wait.
#[derive(Debug)]
pub struct Published {
    latest: ArcSwapOption<Snapshot>,
    /// The answer of this second.
    current: ArcSwapOption<Current>,
    /// The beginning of this process's time; `confirmed_ms` counts from here.
    started: Instant,
    confirmed_ms: AtomicU64,
    stale_after: Duration,
    cache_control: HeaderValue,
}

/// An answer with its age.
#[derive(Debug)]
struct Current {
    snapshot: Arc<Snapshot>,
    age_s: u64,
    freshness: &'static str,
    answer: Prepared,
}

impl Published {
    /// Nothing yet. What has not been confirmed for `stale_after` is called stale.
    #[must_use]
    pub fn new(stale_after: Duration) -> Self {
        Self {
            latest: ArcSwapOption::empty(),
            current: ArcSwapOption::empty(),
            started: Instant::now(),
            confirmed_ms: AtomicU64::new(0),
            stale_after,
            cache_control: HeaderValue::from_static("no-cache"),
        }
    }

    /// Lets caches do with answers what `cache_control` says. Unless this is called, they have to ask
    /// before each use.
    #[must_use]
    pub fn cached_as(self, cache_control: HeaderValue) -> Self {
        Self { cache_control, ..self }
    }

    /// The answer to a request with these headers, unless there is no snapshot yet. Its headers are made
    /// once a second, by the first request in it.
    pub fn answer(&self, request: &HeaderMap, now: Instant) -> Option<Response<Full<Bytes>>> {
        let latest = self.latest.load();
        let snapshot = latest.as_ref()?;
        let age = self.age_at(now);
        let (age_s, freshness) = (age.as_secs(), self.freshness(age));
        if let Some(current) = &*self.current.load()
            && current.age_s == age_s
            && current.freshness == freshness
            && Arc::ptr_eq(&current.snapshot, snapshot)
        {
            return Some(current.answer.answer(request));
        }
        let headers = HeaderMap::from_iter([
            (header::AGE, HeaderValue::from(age_s)),
            (FRESHNESS.clone(), HeaderValue::from_static(freshness)),
        ]);
        let prepared = snapshot.prepared.with(&headers);
        let answer = prepared.answer(request);
        let snapshot = Arc::clone(snapshot);
        self.current.store(Some(Arc::new(Current {
            snapshot,
            age_s,
            freshness,
            answer: prepared,
        })));
        Some(answer)
    }

    /// What caches may do with answers from memory.
    pub fn cache_control(&self) -> &HeaderValue {
        &self.cache_control
    }

    /// The latest snapshot, unless there is none yet.
    pub fn latest(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.latest.load()
    }

    /// Time since the snapshot was last known to agree with the database.
    pub fn age(&self) -> Duration {
        self.age_at(Instant::now())
    }

    fn age_at(&self, now: Instant) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started).saturating_sub(confirmed)
    }

    /// Whether `age` is more than a few missed refreshes.
    pub fn is_stale(&self, age: Duration) -> bool {
        age > self.stale_after
    }

    /// The word for answers of that age.
    pub fn freshness(&self, age: Duration) -> &'static str {
        if self.is_stale(age) { "stale" } else { "fresh" }
    }

    /// Makes `rows` the answer. Encodes only what differs from the latest; says whether it did.
    pub fn publish(&self, rows: &[Hardware]) -> io::Result<bool> {
        let body = serde_json::to_vec(rows)?;
        let latest = self.latest.load();
        if latest.as_ref().is_some_and(|snapshot| *snapshot.prepared.body() == body) {
            return Ok(false);
        }
        let headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, self.cache_control.clone()),
            // Pages of other sites may read the list.
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        ]);
        let media_type = HeaderValue::from_static("application/json");
        let of_body = HeaderMap::from_iter([(header::CONTENT_TYPE, media_type)]);
        let snapshot = Snapshot {
            prepared: Prepared::new(body, headers, &of_body)?,
            listed: Listed::new(rows.iter().map(|row| (&*row.provider, &*row.name))),
        };
        self.latest.store(Some(Arc::new(snapshot)));
        Ok(true)
    }

    /// Notes that the snapshot agrees with the database now.
    pub fn confirm(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.confirmed_ms.store(elapsed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hardware_api::{Availability, Hardware};
    use http::{HeaderMap, HeaderValue, StatusCode, header};

    use tokio::time::Instant;

    use super::{FRESHNESS, Published};

    fn published() -> Published {
        Published::new(Duration::from_secs(10))
    }

    fn rows(level: Availability) -> Vec<Hardware> {
        let row = |name: &str| Hardware {
            provider: "Amazon".to_owned(),
            name: name.to_owned(),
            availability: level,
        };
        vec![row("c5"), row("m5")]
    }

    fn header_of(published: &Published, name: &header::HeaderName) -> HeaderValue {
        let answer = published.answer(&HeaderMap::new(), Instant::now()).expect("published");
        answer.headers()[name].clone()
    }

    #[test]
    fn only_a_change_is_encoded_and_gets_another_tag() {
        let published = published();
        assert!(
            published.answer(&HeaderMap::new(), Instant::now()).is_none(),
            "nothing was read yet"
        );
        published.publish(&rows(Availability::Low)).expect("in memory");
        let first = header_of(&published, &header::ETAG);
        assert!(!published.publish(&rows(Availability::Low)).expect("in memory"));
        assert_eq!(header_of(&published, &header::ETAG), first);
        assert!(published.publish(&rows(Availability::High)).expect("in memory"));
        assert_ne!(header_of(&published, &header::ETAG), first);
    }

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_last_confirmation_and_each_answer_has_that_of_its_second() {
        let published = published();
        published.publish(&rows(Availability::Low)).expect("in memory");
        published.confirm();
        for (seconds, age, freshness) in [(0, "0", "fresh"), (9, "9", "fresh"), (2, "11", "stale")]
        {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(header_of(&published, &header::AGE), age);
            assert_eq!(header_of(&published, &FRESHNESS), freshness);
        }
        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("*"))]);
        let answer = published.answer(&known, Instant::now()).expect("published");
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()[header::AGE], "11");
        published.confirm();
        assert_eq!(header_of(&published, &header::AGE), "0");
        assert_eq!(header_of(&published, &FRESHNESS), "fresh");
    }
}

//! The answer to `GET /hardware/`, ready to be sent, and how old it is.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwapOption, Guard};
use axum::body::Bytes;
use flate2::{Compression, write::GzEncoder};
use hardware_api::Hardware;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::listed::Listed;

/// Brotli's highest quality: the list is encoded once per change and sent many times.
const BROTLI_QUALITY: u32 = 9;
/// Brotli's default window, 4 MiB.
const BROTLI_WINDOW: u32 = 22;

/// One state of the list.
#[derive(Debug)]
pub struct Snapshot {
    /// Weak, because one tag stands for all encodings.
    pub etag: HeaderValue,
    /// JSON as it is.
    pub identity: Bytes,
    /// JSON with gzip.
    pub gzip: Bytes,
    /// JSON with brotli.
    pub brotli: Bytes,
    /// The hardware that it shows.
    pub listed: Listed,
}

impl Snapshot {
    fn encode(rows: &[Hardware], identity: Vec<u8>) -> std::io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&identity)?;
        let mut brotli = Vec::new();
        brotli::CompressorWriter::new(&mut brotli, 4096, BROTLI_QUALITY, BROTLI_WINDOW)
            .write_all(&identity)?;
        let etag = HeaderValue::try_from(format!("W/{}", tag_of(&identity)));
        Ok(Self {
            etag: etag.expect("hexadecimal digits"),
            identity: identity.into(),
            gzip: gzip.finish()?.into(),
            brotli: brotli.into(),
            listed: Listed::new(rows.iter().map(|row| (&*row.provider, &*row.name))),
        })
    }
}

/// The tag of an answer: half of SHA-256 over its bytes, in double quotes.
#[must_use]
pub fn tag_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let half = digest.iter().take(16).fold(0_u128, |tag, byte| tag << 8 | u128::from(*byte));
    format!("\"{half:032x}\"")
}

/// The latest snapshot, for readers that must not wait.
#[derive(Debug)]
pub struct Published {
    latest: ArcSwapOption<Snapshot>,
    /// The beginning of this process's time; `confirmed_ms` counts from here.
    started: Instant,
    confirmed_ms: AtomicU64,
    stale_after: Duration,
}

impl Published {
    /// Nothing yet. What has not been confirmed for `stale_after` is called stale.
    #[must_use]
    pub fn new(stale_after: Duration) -> Self {
        Self {
            latest: ArcSwapOption::empty(),
            started: Instant::now(),
            confirmed_ms: AtomicU64::new(0),
            stale_after,
        }
    }

    /// The latest snapshot, unless there is none yet.
    pub fn latest(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.latest.load()
    }

    /// Time since the snapshot was last known to agree with the database.
    pub fn age(&self) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(confirmed)
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
    pub fn publish(&self, rows: &[Hardware]) -> std::io::Result<bool> {
        let identity = serde_json::to_vec(rows)?;
        let latest = self.latest.load();
        if latest.as_ref().is_some_and(|snapshot| snapshot.identity == identity) {
            return Ok(false);
        }
        self.latest.store(Some(Arc::new(Snapshot::encode(rows, identity)?)));
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
    use std::{io::Read, time::Duration};

    use flate2::read::GzDecoder;
    use hardware_api::{Availability, Hardware};

    use super::Published;

    fn rows(level: Availability) -> Vec<Hardware> {
        let row = |name: &str| Hardware {
            provider: "Amazon".to_owned(),
            name: name.to_owned(),
            availability: level,
        };
        vec![row("c5"), row("m5")]
    }

    #[test]
    fn every_encoding_holds_the_same_list() {
        let published = Published::new(Duration::from_secs(10));
        assert!(published.publish(&rows(Availability::Low)).expect("in memory"));
        let latest = published.latest();
        let snapshot = latest.as_ref().expect("published");
        let mut gzip = Vec::new();
        GzDecoder::new(&*snapshot.gzip).read_to_end(&mut gzip).expect("gzip");
        let mut brotli = Vec::new();
        brotli::Decompressor::new(&*snapshot.brotli, 4096)
            .read_to_end(&mut brotli)
            .expect("brotli");
        assert_eq!(gzip, snapshot.identity);
        assert_eq!(brotli, snapshot.identity);
    }

    #[test]
    fn only_a_change_is_encoded_and_gets_another_tag() {
        let published = Published::new(Duration::from_secs(10));
        published.publish(&rows(Availability::Low)).expect("in memory");
        let first = published.latest().as_ref().expect("published").etag.clone();
        assert!(!published.publish(&rows(Availability::Low)).expect("in memory"));
        assert!(published.publish(&rows(Availability::High)).expect("in memory"));
        assert_ne!(published.latest().as_ref().expect("published").etag, first);
    }

    #[tokio::test(start_paused = true)]
    async fn age_counts_from_the_last_confirmation() {
        let published = Published::new(Duration::from_secs(10));
        published.confirm();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(published.age().as_secs(), 9);
        assert!(!published.is_stale(published.age()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(published.is_stale(published.age()));
        published.confirm();
        assert_eq!(published.age().as_secs(), 0);
    }
}

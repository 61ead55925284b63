//! The page as it is now: what is known, what was last shown of it, and what requests get.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use chrono::{DateTime, Utc};
use service_kit::Clock;
use tracing::error;

use crate::{
    metrics::RefreshMetrics,
    page::{Frame, RenderError, Rendered},
    pools::PoolsState,
    upstream::UpstreamState,
    view::View,
};

/// The latest page, for requests that must not wait.
#[derive(Debug)]
pub(crate) struct Published {
    rendered: ArcSwap<Rendered>,
    /// When the database last confirmed the list, in milliseconds since 1970; `i64::MIN` for never.
    confirmed_ms: AtomicI64,
}

impl Published {
    /// The latest page.
    pub(crate) fn latest(&self) -> Guard<Arc<Rendered>> {
        self.rendered.load()
    }

    /// Time since the database confirmed the list, unless there is none.
    pub(crate) fn age(&self, now: DateTime<Utc>) -> Option<Duration> {
        let confirmed_ms = self.confirmed_ms.load(Ordering::Relaxed);
        let age_ms = now.timestamp_millis().checked_sub(confirmed_ms)?;
        Some(Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
    }
}

/// What is known, and the page that shows it.
pub(crate) struct PagePublisher {
    /// What is known; [`PagePublisher::show`] makes it visible.
    pub(crate) upstream: UpstreamState,
    /// What is known of the pools, made visible in the same way.
    pub(crate) pools: PoolsState,
    frame: Frame,
    outage_after: Duration,
    clock: Clock,
    shown: View,
    published: Arc<Published>,
    metrics: RefreshMetrics,
}

impl PagePublisher {
    /// The page of a portal that knows nothing yet. A list that nobody confirmed for `outage_after`
    /// will get a notice.
    pub(crate) fn new(
        frame: Frame,
        outage_after: Duration,
        clock: Clock,
    ) -> Result<Self, RenderError> {
        let (upstream, pools) = (UpstreamState::default(), PoolsState::default());
        let shown = View::of(&upstream, &pools, outage_after, clock.now());
        let published = Arc::new(Published {
            rendered: ArcSwap::from_pointee(Rendered::new(&frame, &shown)?),
            confirmed_ms: AtomicI64::new(i64::MIN),
        });
        let metrics = RefreshMetrics::register();
        Ok(Self { upstream, pools, frame, outage_after, clock, shown, published, metrics })
    }

    /// What requests are answered with.
    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// What the time is.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The instruments.
    pub(crate) fn metrics(&self) -> &RefreshMetrics {
        &self.metrics
    }

    /// Publishes what is known, rendered only if that differs from what is shown.
    pub(crate) async fn show(&mut self) {
        let now = self.clock.now();
        if let Some(confirmed) = &self.upstream.confirmed {
            let confirmed_ms = confirmed.at.timestamp_millis();
            self.published.confirmed_ms.store(confirmed_ms, Ordering::Relaxed);
            let age = self.upstream.age(now).and_then(|age| age.to_std().ok());
            self.metrics.observe_list(age.unwrap_or_default(), confirmed.rows.len());
        }
        let view = View::of(&self.upstream, &self.pools, self.outage_after, now);
        if view == self.shown {
            return;
        }
        // Compressing a long list takes as long as thousands of requests.
        let rendered = tokio::task::spawn_blocking({
            let (frame, view) = (self.frame.clone(), view.clone());
            move || Rendered::new(&frame, &view)
        });
        match rendered.await {
            Ok(Ok(rendered)) => {
                self.published.rendered.store(Arc::new(rendered));
                self.metrics.count_render();
            }
            Ok(Err(error)) => error!(%error, "the page stays as it was"),
            Err(error) => error!(%error, "rendering was cut off, the page stays as it was"),
        }
        // Also after an error: the same view would fail again.
        self.shown = view;
    }
}

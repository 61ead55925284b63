//! A value that was given once, or that lives in a file and may change.

use std::{fmt::Display, path::Path, sync::Arc};

use futures::future::BoxFuture;
use service_kit::{
    Lifecycle,
    watched_file::{FileError, WatchedFile},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Follow = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// The latest value, and the task that keeps it so.
pub struct ReloadableFile<T> {
    latest: watch::Receiver<Arc<T>>,
    follow: Option<Follow>,
}

impl<T: Send + Sync + 'static> ReloadableFile<T> {
    /// A value that does not change.
    pub fn fixed(value: T) -> Self {
        let (_, latest) = watch::channel(Arc::new(value));
        Self { latest, follow: None }
    }

    /// The content of a file, read now and then followed.
    pub async fn file<E: Display + 'static>(
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let file = WatchedFile::open(path, parse).await?;
        let latest = file.subscribe();
        let follow: Follow = Box::new(|closing| Box::pin(file.follow(closing)));
        Ok(Self { latest, follow: Some(follow) })
    }

    /// Receives the value, now and after each change.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<Arc<T>> {
        self.latest.clone()
    }

    /// Follows the file, if there is one, as long as the process lives.
    pub fn start(&mut self, name: &'static str, lifecycle: &Lifecycle) {
        if let Some(follow) = self.follow.take() {
            lifecycle.spawn(name, follow(lifecycle.closing().clone()));
        }
    }
}

/// Waits for a change. Waits for ever once there can be none.
pub async fn changed<T>(latest: &mut watch::Receiver<Arc<T>>) {
    if latest.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

//! A file that somebody replaces while the process runs, such as a mounted Secret.
//!
//! The kubelet replaces a mounted directory by swapping a symbolic link, which a watch on the file
//! itself misses. The file is small, so its content is read and compared twice a second: that sees
//! every kind of replacement and needs no fallback.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the content is compared: a new credential is in use within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A file could not be read or does not hold what it should. Never shows the content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("failed to read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file that was to be read.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The content is not of the expected form.
    #[error("failed to understand {}: {reason}", path.display())]
    Parse {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with its content.
        reason: String,
    },
}

/// The latest good content of a file, and the means to keep it so.
#[derive(Debug)]
pub struct WatchedFile<T, P> {
    path: PathBuf,
    parse: P,
    bytes: Vec<u8>,
    latest: watch::Sender<Arc<T>>,
}

impl<T, E, P> WatchedFile<T, P>
where
    T: Send + Sync + 'static,
    E: Display,
    P: Fn(&[u8]) -> Result<T, E> + Send + 'static,
{
    /// Reads the file for the first time.
    pub async fn open(path: &Path, parse: P) -> Result<Self, FileError> {
        let bytes = read(path).await?;
        let value = parse_content(path, &parse, &bytes)?;
        let (latest, _) = watch::channel(Arc::new(value));
        Ok(Self { path: path.to_owned(), parse, bytes, latest })
    }

    /// Receives the content, now and after each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.latest.subscribe()
    }

    /// Follows the file until `closing`. Content that cannot be read or understood changes nothing:
    /// the last good value stays, and the failure is logged once per content.
    pub async fn follow(mut self, closing: CancellationToken) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported: Option<String> = None;
        while closing.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.look_again().await {
                Ok(changed) => {
                    reported = None;
                    if changed {
                        info!(file = %self.path.display(), "the file changed and was loaded");
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    if reported.as_ref() != Some(&message) {
                        warn!(error = %message, "keeping the last good content");
                        reported = Some(message);
                    }
                }
            }
        }
    }

    async fn look_again(&mut self) -> Result<bool, FileError> {
        let bytes = read(&self.path).await?;
        if bytes == self.bytes {
            return Ok(false);
        }
        let value = parse_content(&self.path, &self.parse, &bytes)?;
        self.bytes = bytes;
        self.latest.send_replace(Arc::new(value));
        Ok(true)
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| FileError::Read { path: path.to_owned(), source })
}

fn parse_content<T, E: Display>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<T, E>,
    bytes: &[u8],
) -> Result<T, FileError> {
    parse(bytes)
        .map_err(|error| FileError::Parse { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, path::Path, time::Duration};

    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::{POLL_INTERVAL, WatchedFile};

    fn parse_number(bytes: &[u8]) -> Result<u32, String> {
        let text = String::from_utf8_lossy(bytes);
        text.trim().parse().map_err(|_| "expected a number".to_owned())
    }

    /// Replaces the directory behind `..data` as the kubelet does.
    fn publish(mount: &Path, version: &str, content: &str) {
        let data = mount.join(version);
        std::fs::create_dir(&data).expect("a new directory");
        std::fs::write(data.join("value"), content).expect("written");
        symlink(version, mount.join("..data_tmp")).expect("linked");
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).expect("swapped");
    }

    #[tokio::test]
    async fn a_swapped_secret_volume_is_seen_and_a_bad_one_is_not_taken() {
        let mount = tempfile::tempdir().expect("a directory");
        publish(mount.path(), "v1", "1");
        symlink("..data/value", mount.path().join("value")).expect("linked");
        let file = WatchedFile::open(&mount.path().join("value"), parse_number).await;
        let file = file.expect("readable");
        let mut latest = file.subscribe();
        assert_eq!(**latest.borrow_and_update(), 1);

        let closing = CancellationToken::new();
        let task = tokio::spawn(file.follow(closing.clone()));
        publish(mount.path(), "v2", "no number");
        let is_taken = timeout(POLL_INTERVAL * 3, latest.changed()).await;
        assert!(is_taken.is_err(), "what is no number is not taken");
        publish(mount.path(), "v3", "3");
        let changed = timeout(Duration::from_secs(10), latest.changed()).await;
        changed.expect("within the deadline").expect("still followed");
        assert_eq!(**latest.borrow(), 3);
        closing.cancel();
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = WatchedFile::open(Path::new("/nonexistent/value"), parse_number).await;
        let message = error.err().expect("cannot be read").to_string();
        assert!(message.starts_with("failed to read /nonexistent/value"), "{message}");
    }
}

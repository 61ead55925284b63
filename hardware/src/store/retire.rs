//! Connections of an older credential go one after the other, so that a rotation is no login storm.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::{Db, Guarded, MysqlOpener};

/// Time between two retirements: a full pool is through in a second.
const PACE: Duration = Duration::from_millis(250);

impl Db {
    /// Closes idle connections that logged in with an older credential, after each change of it, for
    /// ever. Those that are in use are refused when they come back.
    pub async fn retire_old_connections(&self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Mysql(guarded) => retire(guarded).await,
        }
    }
}

async fn retire(guarded: &Guarded<MysqlOpener>) {
    let opener = guarded.pool().manager();
    let mut credentials = opener.credentials();
    while credentials.changed().await.is_ok() {
        let generation = opener.generation();
        info!(generation, "new database credential, retiring the connections of older ones");
        while retire_one(guarded, generation) {
            sleep(PACE).await;
        }
    }
    // The credential can no longer change, so nothing can grow old.
    std::future::pending::<()>().await;
}

/// Whether there was one.
fn retire_one(guarded: &Guarded<MysqlOpener>, generation: u64) -> bool {
    let mut found = false;
    let result = guarded.pool().retain(|session, _| {
        let retires = !found && session.generation() != generation;
        found |= retires;
        !retires
    });
    drop(result.removed);
    found
}

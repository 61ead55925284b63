//! Connections of an older credential go one after the other, so that a rotation is no login storm.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::{Db, Guarded, MysqlOpener};

/// Time between two looks, each of which closes at most one connection: a full pool is through in a second.
const PACE: Duration = Duration::from_millis(250);

impl Db {
    /// Closes the idle connections that are not to be used again, those of an older credential above all,
    /// as long as the future is polled. Whoever rotates the credential waits for them to end.
    pub async fn retire_old_connections(&self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Mysql(connections) => {
                tokio::join!(retire(&connections.reading), retire(&connections.writing));
            }
        }
    }
}

/// Looks all the time, not only after a change: a connection that was in use, or was still logging in, comes
/// to rest later than that, and it may be long until an idle connection is needed and recycled.
async fn retire(guarded: &Guarded<MysqlOpener>) {
    let opener = guarded.pool().manager();
    let mut known = opener.generation();
    loop {
        let generation = opener.generation();
        if generation != known {
            info!(generation, "new database credential, retiring the connections of older ones");
            known = generation;
        }
        retire_one(guarded);
        sleep(PACE).await;
    }
}

fn retire_one(guarded: &Guarded<MysqlOpener>) {
    let opener = guarded.pool().manager();
    let mut found = false;
    let result = guarded.pool().retain(|session, metrics| {
        let retires = !found && opener.find_retirement(session, &metrics).is_some();
        found |= retires;
        !retires
    });
    drop(result.removed);
}

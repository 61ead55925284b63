//! Where the data are. A portal may move to another schema or server while its pods run.

use std::sync::Arc;

use service_kit::credentials::CredentialSet;
use tokio::sync::watch;

use super::Db;
use crate::reloadable_file::changed;

/// A server and a schema on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: String,
    port: u16,
    database: String,
}

impl From<&CredentialSet> for Place {
    fn from(set: &CredentialSet) -> Self {
        Self { host: set.host.clone(), port: set.port, database: set.database.clone() }
    }
}

/// Notices that the database is another one.
pub struct Moves {
    /// None for a database that cannot move.
    credentials: Option<watch::Receiver<Arc<CredentialSet>>>,
    last: Option<Place>,
}

impl Moves {
    /// Waits until the latest credentials are for another place. Waits forever once there can be none.
    pub async fn next(&mut self) {
        let Some(credentials) = &mut self.credentials else { return std::future::pending().await };
        loop {
            let place = Some(Place::from(&**credentials.borrow_and_update()));
            if place != self.last {
                self.last = place;
                return;
            }
            changed(credentials).await;
        }
    }
}

impl Db {
    /// Where new connections go; none for SQLite, which is in one file.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Sqlite(_) => None,
            Self::Mysql(connections) => {
                Some(Place::from(&*connections.opener().latest_credentials()))
            }
        }
    }

    /// The moves from now on.
    #[must_use]
    pub fn moves(&self) -> Moves {
        let credentials = match self {
            Self::Sqlite(_) => None,
            Self::Mysql(connections) => Some(connections.opener().credentials()),
        };
        Moves { credentials, last: self.place() }
    }
}

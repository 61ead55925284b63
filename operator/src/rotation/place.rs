//! Where a portal's data are.

use serde::{Deserialize, Serialize};

/// Server and schema, which logins belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Host name or address of the server.
    pub host: String,
    /// TCP port of the server.
    pub port: u16,
    /// Name of the schema.
    pub database: String,
}

impl Place {
    /// Whether both are on one server. Accounts belong to a server, their rights to a schema.
    #[must_use]
    pub fn is_on_server_of(&self, other: &Self) -> bool {
        let host = |place: &Self| place.host.trim_end_matches('.').to_ascii_lowercase();
        host(self) == host(other) && self.port == other.port
    }
}

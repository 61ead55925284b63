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

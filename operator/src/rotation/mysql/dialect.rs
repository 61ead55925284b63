//! What differs from server to server.

use std::collections::BTreeSet;

/// Whose SQL the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MySQL, 8.0.19 or later.
    MySql,
    /// MariaDB, 10.4 or later.
    MariaDb,
}

/// What differs from server to server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) flavour: Flavour,
    /// `lower_case_table_names`: schemas are shown in lower case, however they were written.
    pub(super) folds_schema_names: bool,
    /// Under MySQL's `partial_revokes`, `GRANT` reads the name of a schema as it stands.
    pub(super) partial_revokes: bool,
    /// MySQL's `mandatory_roles`, as `SHOW GRANTS` writes them: every account has them, and from one that
    /// was granted them besides they cannot be revoked (error 3628).
    pub(super) mandatory_roles: BTreeSet<String>,
}

//! The operator's SQL against a real MariaDB (`e2e/with-database`) or MySQL (`e2e/with-mysql`, with
//! policies that refuse what they can with `--strict`) over TLS, as an administrator with the rights of an
//! RDS master user.

mod dual_password;
mod login;
mod policies;
mod provision;
mod quoting;
mod support;
mod verify;

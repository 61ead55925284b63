//! The operator's SQL against a real MariaDB over TLS, as an administrator with the rights of an RDS
//! master user. MySQL is not available where these tests run: what differs there is checked as text
//! in `rotation::mysql`.

mod dual_password;
mod login;
mod provision;
mod quoting;
mod support;
mod verify;

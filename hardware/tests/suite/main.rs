//! Tests of the service from outside: its routes (`routes/` mirrors the URLs), its store on both
//! databases, its command line, and what happens when the database goes away.
//!
//! Tests on MySQL need a MariaDB with TLS: `e2e/cluster/cluster mariadb-up` starts one, and
//! `TEST_MYSQL_ENV` names the file that it writes. `make unit` does both.

mod availability;
mod backtest;
mod command_line;
mod feed;
mod flooded;
mod import;
mod killed;
mod mcp;
mod outage;
mod problems;
mod rotation;
mod routes;
mod schemathesis;
mod slow_login;
mod store;
mod support;
mod two_pods;
mod watches;
mod write_a_source;

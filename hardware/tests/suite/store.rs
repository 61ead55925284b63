//! The store, on both databases. The numbers in the names of tests are those of the table "Measured
//! facts" in the design.

mod foreign_table;
mod guard;
mod jobs;
mod levels;
mod migrations;
mod records;

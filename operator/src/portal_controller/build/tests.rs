//! What is rendered, seen from outside: golden files, and who may connect to whom.

mod example;
mod flows;
mod golden;
mod policy;
mod upgrade;

//! The rendered objects: golden files, the migration, and who may connect to whom.

pub(in crate::portal) mod example;
mod flows;
mod golden;
mod migration;
mod policy;
mod upgrade;

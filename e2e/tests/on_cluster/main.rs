//! Tests on the real cluster. `e2e/run` brings up what they need and says which run side by side.

mod access;
mod admission;
mod autoscaling;
mod bad_days;
mod disruption;
mod drift;
mod embedded;
mod everywhere;
mod faults;
mod handover;
mod health;
mod leadership;
mod monitoring;
mod mysql;
mod quick_start;
mod rendered;
mod rest;
mod rollout;
mod rotation;
mod source_tokens;
mod sources;
mod uninstall;
mod upgrade;
mod watches;

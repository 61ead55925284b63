//! A simulated server, pods and operator, and what must hold whatever happens to them.

mod events;
mod examples;
mod operator;
mod pods;
mod properties;
mod server;
mod world;

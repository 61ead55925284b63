//! The executor on a simulated server with simulated pods, and what must hold whatever happens to them.

mod events;
mod examples;
mod operator;
mod pods;
mod properties;
mod server;
mod world;

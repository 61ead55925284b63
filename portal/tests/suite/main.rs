//! Tests of the portal from outside, against a `hardware` that does what a test tells it: the routes
//! (`routes/` mirrors the URLs), what happens while `hardware` is away, the command line.

mod command_line;
mod live;
mod outage;
mod pools;
mod routes;
mod style;
mod support;

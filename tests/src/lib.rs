//! The harness of all tests: real PostgreSQL, real Redis, a clock moved by hand, and the sandbox peers.

pub mod database;
pub mod sandbox;

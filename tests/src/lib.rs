//! The harness of all tests: real PostgreSQL, real Redis, a clock moved by hand, and the sandbox peers.

pub mod bench;
pub mod contract;
pub mod controls;
pub mod crash_points;
pub mod database;
pub mod demo;
pub mod history;
pub mod load;
pub mod logged;
pub mod network;
pub mod processes;
pub mod sandbox;
pub mod servers;
pub mod stack;
pub mod torture;
pub mod wire;
pub mod world;

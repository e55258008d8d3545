//! The demo: a seeded world, a day of deliveries, and whether everything came out right.

pub mod catalogue;
mod report;
pub mod run;
pub mod seed;

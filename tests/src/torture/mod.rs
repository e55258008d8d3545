//! Breaks everything, harder than reality: a seeded load on a stack whose every connection is a wire of ours, a seeded
//! plan of faults that overlap, an end without faults, and a verdict.
//!
//! `plan` says what is broken when; `faults` breaks it; `downs` notes when what was down, `rescues` how long the jobs of
//! the dead waited, `unasked` what nobody had asked for; `report` tells. The same seed makes the same plan; how it interleaves with the load is not repeated.

mod clocks;
mod disk;
mod downs;
mod evidence;
mod faults;
mod plan;
mod report;
mod rescues;
mod run;
mod scene;
mod unasked;
mod wiring;

pub use plan::Kind;
pub use run::{Options, run};

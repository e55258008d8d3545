//! The benchmark: every scenario beside a reference, in the same run, on private servers that keep what they promise.

pub mod cpu;
pub mod servers;

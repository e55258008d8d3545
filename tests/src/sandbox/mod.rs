//! Peers we can break: they answer like the real ones, keep their own books, and fail by a seed.

pub mod smtp;

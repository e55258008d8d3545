//! Integration tests.

mod intake;

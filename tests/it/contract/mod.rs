//! The contract over HTTP: the real router, a real database. Sections are those of the contract.

mod conventions;
mod money;
mod payouts;

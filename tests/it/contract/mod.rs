//! The contract over HTTP: the real router, a real database. Sections are those of the contract.

mod accounts;
mod catalogue;
mod conventions;
mod import;
mod ios;
mod money;
mod payouts;
mod profile;
mod races;

//! Payouts over real PostgreSQL and a bank that keeps its own books.

mod auditing;
mod crashes;
mod faults;
mod opening;
mod operators;
mod people;
mod quiet;
mod restored;
mod statement;
mod town;
mod waking;

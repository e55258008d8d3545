//! Payouts over HTTP (contract §12, §13 PA-01 to PA-04, §14 NFR-05, §19).

mod accounts;
mod asking;
mod counter;
mod limits;
mod listing;
mod processing;
mod races;

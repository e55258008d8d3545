//! The contract over HTTP: the real router, a real database. Sections are those of the contract.

mod accounts;
mod catalogue;
mod conventions;
mod forged_tokens;
mod hostile;
mod import;
mod injections;
mod ios;
mod least_privilege;
mod limits;
mod logs;
mod money;
mod out_of_files;
mod payouts;
mod profile;
mod races;
mod security_matrix;

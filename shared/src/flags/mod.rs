//! Feature flags (contract §7): switches that are looked up by scope first, then globally; one that does not exist is
//! on.

pub mod auto_confirm;

//! What handlers need to know of a request before they act: who calls, from where, and what was said.

pub mod body;
pub mod client;
mod fields;
mod given;
mod identity;
mod name;
pub(crate) mod payload;
pub mod trace;

pub use body::{Body, OptionalBody, Query};
pub use fields::{Fields, Input, Page};
pub use identity::{Admin, Caller, OwnAdmin, SignedIn};
pub use name::Name;

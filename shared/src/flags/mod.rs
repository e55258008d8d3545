//! Feature flags: switches an administrator turns at run time (contract §7, §13 FF-01 to FF-04).
//!
//! A flag is looked up by its scope first, then globally; one that is not there is on. Changes write their audit row in
//! the caller's transaction, and wake what had waited for them.

pub mod auto_confirm;
mod evaluate;
mod remove;
mod set;
pub mod state;
pub mod store;
mod wake;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::db::StoreError;

pub use evaluate::evaluate;
pub use remove::remove;
pub use set::{Setting, set};
pub use state::{Scope, ScopeKind};
pub use store::{Filter, list};

/// A flag as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub key: String,
    /// On or off.
    pub enabled: bool,
    /// Where it counts.
    pub scope: Scope,
    /// What it is for.
    pub description: Option<String>,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
}

/// Why a flag was not set, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// Keys are a small letter, then up to 99 small letters, digits and underscores.
    #[error("not a key")]
    Key,
    /// A flag of a merchant or shopper needs to know which.
    #[error("{0} needs an id")]
    ScopeIdRequired(String),
    /// A global flag belongs to nobody.
    #[error("a global flag has no scope id")]
    ScopeIdForbidden,
    /// There is no such flag.
    #[error("no such flag")]
    NotFound,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for FlagError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

//! An original ClickNBack database (contract §10) moved here, with books that agree afterwards.
//!
//! `source` reads it in one snapshot and never writes there. `catalogue` and `purchases` turn its rows into ours,
//! `reckon` decides what a wallet becomes that its cashback rows do not explain (docs/decisions/0008), all without
//! I/O. `store` writes a slice of shoppers with everything of theirs in one transaction, and `import` goes through
//! the whole database slice by slice. What did not add up is a `Finding`, never silently mended.

mod catalogue;
mod ids;
mod import;
mod purchases;
mod reckon;
mod report;
mod source;
mod store;

pub use import::{Options, import};
pub use reckon::{Balances, Promised, Reckoning, reckon};
pub use report::{Counts, Finding, Report};

use crate::db::StoreError;

/// Why an import stopped. Slices that were committed before stay, and a second run goes on after them.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The original database did not answer or refused.
    #[error("the original database: {0}")]
    Source(#[source] sqlx::Error),
    /// It is no original ClickNBack database.
    #[error("this is no original ClickNBack database: {0}")]
    NotOriginal(String),
    /// A value there that no rule covers.
    #[error("the original's {table} {id}: {what}")]
    Unreadable {
        /// Table.
        table: &'static str,
        /// Row.
        id: String,
        /// What is wrong.
        what: String,
    },
    /// It is this very database.
    #[error("the original and this database are the same one")]
    Itself,
    /// Another import is under way.
    #[error("another import is under way")]
    UnderWay,
    /// Rows here have keys that rows there need too; nothing was written.
    #[error("{} keys are taken here by other rows; nothing was imported", .0.len())]
    Collisions(Vec<String>),
    /// Our own database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ImportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

//! Shoppers and administrators: their addresses, passwords, sessions, wishes and bank accounts (contract §4).
//!
//! A password is compared before the transaction ([`prove`], [`prove_by_email`]); every verb that needs it takes the
//! [`Proof`] and checks again, under the account's lock, that it still holds. All verbs here that change an account or
//! its sessions lock the account's row first, so they happen one after the other.

mod administer;
mod bank;
mod change;
mod email;
mod export;
mod leave;
mod one_time;
mod password;
mod proof;
mod recover;
mod register;
mod search;
mod sessions;
pub mod store;
mod verify;
mod wishes;

use serde_json::json;

use crate::audit::Record;
use crate::clock::Timestamp;
use crate::ids::UserId;

pub use administer::{StatusError, set_status};
pub use bank::{
    BankAccount, BankError, bank_account, is_holder, is_iban, open_bank_account, remove_bank_account, set_bank_account,
    store_bank_account,
};
pub use change::{ChangeError, change_email, change_password};
pub use email::{BadEmail, Email};
pub use export::export;
pub use leave::{LeaveError, leave};
pub use one_time::{LINKS_AN_HOUR, Purpose, is_live};
pub use password::{
    Hashers, LONGEST_PASSWORD, PasswordError, WeakPassword, check_password, hash_password, is_outdated,
};
pub use proof::{Proof, ProofError, prove, prove_by_email};
pub use recover::{ask_reset, reset_password};
pub use register::register;
pub use search::{Filter, list};
pub use sessions::{GRACE, Pair, Refreshed, refresh, sign_in, sign_out};
pub use verify::{Asked, ask_verification, verify_email};
pub use wishes::{MUTABLE, Wishes, set_wishes, wishes};

/// What an account may do in the contract's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A shopper.
    User,
    /// An administrator.
    Admin,
}

impl Role {
    /// The word in the database and in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }

    /// Reads the word of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// An account that has not been deleted, as its owner and administrators see it.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: UserId,
    /// The address it signs in with. Never logged.
    pub email: String,
    /// What it may do.
    pub role: Role,
    /// False: its calls are refused and nothing is paid out.
    pub active: bool,
    /// When the address was proven; none: nothing is paid out yet.
    pub email_verified_at: Option<Timestamp>,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("id", &self.id).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Forgets tokens and notices whose time is over: a bounded number of them. Answers how many; call it until it is none.
///
/// # Errors
/// [`crate::db::StoreError`] when the database does not answer.
pub async fn forget_old_tokens(conn: &mut crate::db::Conn, now: Timestamp) -> Result<u64, crate::db::StoreError> {
    // A token whose time is over is refused by its own text, so its row proves nothing more.
    let done = sqlx::query!(
        "DELETE FROM refresh_tokens
         WHERE digest IN (SELECT digest FROM refresh_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)",
        now
    )
    .execute(&mut *conn)
    .await?;
    let links = sqlx::query!(
        "DELETE FROM one_time_tokens
         WHERE id IN (SELECT id FROM one_time_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1000)",
        now - time::Duration::hours(1),
    )
    .execute(&mut *conn)
    .await?;
    let notices = sqlx::query!(
        "DELETE FROM account_notices
         WHERE id IN (SELECT id FROM account_notices WHERE created_at <= $1 ORDER BY created_at LIMIT 1000)",
        now - time::Duration::days(7),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() + links.rows_affected() + notices.rows_affected())
}

/// What its owner did with an account.
fn account_record(account: &Account, action: &'static str) -> Record {
    Record {
        actor: account.role.actor(account.id),
        action,
        resource_type: "user",
        resource_id: account.id.to_string(),
        details: json!({}),
    }
}

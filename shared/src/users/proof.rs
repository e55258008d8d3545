//! Proving that the caller knows an account's password.
//!
//! Hashing takes long, so it happens before the transaction and without a connection. What it found is a [`Proof`]: the
//! hash the password belongs to. Whoever acts on it demands that the hash still stands ([`store::lock_proven`]).

use std::fmt;

use sqlx::PgPool;
use zeroize::Zeroizing;

use super::password::{self, Hashers, PasswordError};
use super::store::{self, Credentials};
use super::{Email, Role};
use crate::db::StoreError;
use crate::ids::UserId;

/// A password was right for this hash of this account.
pub struct Proof {
    /// Whose.
    pub user: UserId,
    pub(super) hash: String,
    /// The same password under the present hash function, when the stored one is of an older kind.
    pub(super) upgraded: Option<String>,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A password could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The hash function failed.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

/// Whether `password` opens the account with this address; none when it does not or there is none, both after the same
/// time (contract §13, A-01: one uniform answer).
///
/// # Errors
/// [`ProofError`].
pub async fn prove_by_email(
    hashers: &Hashers,
    pool: &PgPool,
    email: &Email,
    password: Zeroizing<String>,
) -> Result<Option<Proof>, ProofError> {
    let found = store::credentials_by_email(&mut *pool.acquire().await.map_err(StoreError::from)?, email).await?;
    compare(hashers, found, password).await
}

/// Whether `password` is that of a user who has signed in; none when it is not.
///
/// # Errors
/// [`ProofError`].
pub async fn prove(
    hashers: &Hashers,
    pool: &PgPool,
    user: UserId,
    password: Zeroizing<String>,
) -> Result<Option<Proof>, ProofError> {
    let found = store::credentials(&mut *pool.acquire().await.map_err(StoreError::from)?, user).await?;
    compare(hashers, found, password).await
}

async fn compare(
    hashers: &Hashers,
    found: Option<Credentials>,
    password: Zeroizing<String>,
) -> Result<Option<Proof>, ProofError> {
    let Some(Credentials { user, hash: Some(hash) }) = found else {
        hashers.verify_nobodys(password).await?;
        return Ok(None);
    };
    match hashers.verify(password.clone(), hash.clone()).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(PasswordError::Hash(error)) => {
            tracing::error!(user.id = %user, error, "A stored password hash cannot be read: nobody can sign in with it");
            return Ok(None);
        }
        Err(lost) => return Err(lost.into()),
    }
    let upgraded = match password::is_outdated(&hash) {
        true => match hashers.hash(password).await {
            Ok(upgraded) => Some(upgraded),
            // The next sign-in does it.
            Err(PasswordError::Busy) => None,
            Err(error) => return Err(error.into()),
        },
        false => None,
    };
    Ok(Some(Proof { user, hash, upgraded }))
}

impl Role {
    /// The actor that an audit row names for someone of this role.
    #[must_use]
    pub fn actor(self, user: UserId) -> crate::audit::Actor {
        match self {
            Self::User => crate::audit::Actor::User(user),
            Self::Admin => crate::audit::Actor::Admin(Some(user)),
        }
    }
}

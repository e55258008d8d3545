//! Registration (contract §2.3, §13 U-01).

use super::one_time::{self, Purpose};
use super::{Account, Email, Role, account_record, store};
use crate::audit;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::{Pushes, Room};

/// Registers a shopper and enqueues the mail that proves the address. None when the address is taken, also by someone
/// who registers at this moment.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn register(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    email: &Email,
    password_hash: &str,
) -> Result<Option<(Account, Pushes)>, StoreError> {
    let Some(id) = store::create(conn, now, email, Some(password_hash), Role::User).await? else { return Ok(None) };
    let account = Account {
        id,
        email: email.as_str().to_owned(),
        role: Role::User,
        active: true,
        email_verified_at: None,
        created_at: now,
    };
    audit::record(conn, now, &[account_record(&account, "USER_REGISTERED")]).await?;
    let pushes = one_time::send(conn, now, room, id, email.as_str(), Purpose::VerifyEmail).await?;
    tracing::info!(user.id = %id, "User registered");
    Ok(Some((account, pushes.unwrap_or_default())))
}

//! A forgotten password: a link by mail, and the new password that comes with it.

use sqlx::types::Uuid;

use super::one_time::{self, Purpose};
use super::{Email, account_record, change, store};
use crate::audit;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::jobs::{Pushes, Room};

/// Sends the link that sets a new password, if there is an active account with this address and not too many links were
/// asked for. The answer to the caller must not tell.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn ask_reset(conn: &mut Conn, now: Timestamp, room: &Room, email: &Email) -> Result<Pushes, StoreError> {
    let Some(user) = store::by_email(conn, email.as_str()).await? else { return Ok(Pushes::default()) };
    let account = store::lock(conn, user).await?.filter(|account| account.active && account.email == email.as_str());
    let Some(account) = account else { return Ok(Pushes::default()) };
    let pushes = one_time::send(conn, now, room, user, &account.email, Purpose::ResetPassword).await?;
    let Some(pushes) = pushes else { return Ok(Pushes::default()) };
    audit::record(conn, now, &[account_record(&account, "PASSWORD_RESET_REQUESTED")]).await?;
    Ok(pushes)
}

/// Sets a new password with a token from a mail and ends all sessions. Who could read the mail has also proven the
/// address. None when the token is void.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn reset_password(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    token: Uuid,
    new_hash: &str,
) -> Result<Option<Pushes>, StoreError> {
    let Some(account) = one_time::spend(conn, now, token, Purpose::ResetPassword).await? else { return Ok(None) };
    audit::record(conn, now, &[account_record(&account, "PASSWORD_RESET")]).await?;
    let mut pushes = super::verify::prove_address(conn, now, room, &account).await?;
    pushes.extend(change::replace_password(conn, now, room, &account, new_hash).await?);
    Ok(Some(pushes))
}

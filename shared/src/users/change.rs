//! A new password or address, by someone who knows the present password.

use super::one_time::{self, Purpose};
use super::{Account, Email, Proof, account_record, sessions, store};
use crate::audit;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Pushes, Room};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The password was changed since it was proven.
    #[error("the password has been changed")]
    Outdated,
    /// Another account has the address; the transaction can only be rolled back.
    #[error("the address is taken")]
    EmailTaken,
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets a new password, ends all sessions and tells the shopper.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`ChangeError`].
pub async fn change_password(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    proof: &Proof,
    new_hash: &str,
) -> Result<Pushes, ChangeError> {
    let account = store::lock_proven(conn, proof).await?.ok_or(ChangeError::Outdated)?;
    audit::record(conn, now, &[account_record(&account, "PASSWORD_CHANGED")]).await?;
    Ok(replace_password(conn, now, room, &account, new_hash).await?)
}

/// Sets the password of a locked account, ends its sessions and enqueues the mail about it.
pub(super) async fn replace_password(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    account: &Account,
    new_hash: &str,
) -> Result<Pushes, StoreError> {
    store::set_password(conn, account.id, new_hash).await?;
    sessions::end_all(conn, now, account.id).await?;
    tracing::info!(user.id = %account.id, "Password changed, sessions ended");
    tell(conn, now, room, account.id, &account.email, ("password_changed", Kind::MailPasswordChanged)).await
}

/// Gives the account another address, which is unproven: its owner gets a link there, and the earlier address is told.
/// Links sent to the earlier address are void. The present address again changes nothing.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`ChangeError`]; roll back then.
pub async fn change_email(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    proof: &Proof,
    email: &Email,
) -> Result<(Account, Pushes), ChangeError> {
    let account = store::lock_proven(conn, proof).await?.ok_or(ChangeError::Outdated)?;
    if account.email == email.as_str() {
        return Ok((account, Pushes::default()));
    }
    if !store::set_email(conn, account.id, email).await? {
        return Err(ChangeError::EmailTaken);
    }
    audit::record(conn, now, &[account_record(&account, "EMAIL_CHANGED")]).await?;
    let changed = ("email_changed", Kind::MailEmailChanged);
    let mut pushes = tell(conn, now, room, account.id, &account.email, changed).await?;
    let link = one_time::send(conn, now, room, account.id, email.as_str(), Purpose::VerifyEmail).await?;
    pushes.extend(link.unwrap_or_default());
    tracing::info!(user.id = %account.id, "Address changed");
    Ok((Account { email: email.as_str().to_owned(), email_verified_at: None, ..account }, pushes))
}

async fn tell(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    user: UserId,
    email: &str,
    (event, kind): (&str, Kind),
) -> Result<Pushes, StoreError> {
    let subject_id = store::insert_notice(conn, now, user, event, email).await?;
    jobs::enqueue(conn, now, room, &[NewJob { kind, subject_id, run_at: now, traceparent: None }]).await
}

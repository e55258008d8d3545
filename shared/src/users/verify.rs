//! Proving an address. Before it is proven nothing is paid out ([`crate::payouts::Violation::NotVerified`]).

use sqlx::types::Uuid;

use super::one_time::{self, Purpose};
use super::{Account, account_record, store};
use crate::audit;
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;
use crate::jobs::{self, Kind, NewJob, Pushes, Room};

/// What became of the wish for another link.
#[derive(Debug)]
pub enum Asked {
    /// A mail is on its way.
    Sent(Pushes),
    /// The address is proven already.
    Verified,
    /// Enough mails were asked for within the hour.
    TooMany,
}

/// Sends another link that proves the address.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn ask_verification(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    user: UserId,
) -> Result<Option<Asked>, StoreError> {
    let Some(account) = store::lock(conn, user).await? else { return Ok(None) };
    if account.email_verified_at.is_some() {
        return Ok(Some(Asked::Verified));
    }
    let sent = one_time::send(conn, now, room, user, &account.email, Purpose::VerifyEmail).await?;
    Ok(Some(sent.map_or(Asked::TooMany, Asked::Sent)))
}

/// Proves an address with a token from a mail, and looks whether a payout has waited for that. None when the token is
/// void.
///
/// The caller opens and commits the transaction, and pushes.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn verify_email(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    token: Uuid,
) -> Result<Option<Pushes>, StoreError> {
    let Some(account) = one_time::spend(conn, now, token, Purpose::VerifyEmail).await? else { return Ok(None) };
    prove_address(conn, now, room, &account).await.map(Some)
}

/// Notes that the address of a locked account is proven; nothing if it was.
pub(super) async fn prove_address(
    conn: &mut Conn,
    now: Timestamp,
    room: &Room,
    account: &Account,
) -> Result<Pushes, StoreError> {
    if !store::set_verified(conn, now, account.id).await? {
        return Ok(Pushes::default());
    }
    audit::record(conn, now, &[account_record(account, "EMAIL_VERIFIED")]).await?;
    tracing::info!(user.id = %account.id, "Address verified");
    let job = NewJob { kind: Kind::AutoPayout, subject_id: account.id.0, run_at: now, traceparent: None };
    jobs::enqueue(conn, now, room, &[job]).await
}

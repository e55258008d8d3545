//! What a shopper wants to be told by mail. Mail about payouts and about the account itself is always sent.

use serde_json::json;

use super::{account_record, store};
use crate::audit::{self, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;
use crate::notifications::Event;

/// The events that can be muted.
pub const MUTABLE: [Event; 4] = [Event::Tracked, Event::Confirmed, Event::Available, Event::Reversed];

/// What a shopper wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// False: no mail about cashback at all.
    pub wants_email: bool,
    /// Which of [`MUTABLE`] are not told, in their order.
    pub muted: Vec<Event>,
}

/// A shopper's wishes; none when there is no such account.
///
/// # Errors
/// [`StoreError`] when the database does not answer.
pub async fn wishes(conn: &mut Conn, user: UserId) -> Result<Option<Wishes>, StoreError> {
    Ok(store::wishes(conn, user).await?.map(|(wants_email, words)| {
        let muted = MUTABLE.into_iter().filter(|event| words.iter().any(|word| word == event.as_str())).collect();
        Wishes { wants_email, muted }
    }))
}

/// Changes a shopper's wishes; none when there is no such account. What `change` leaves alone stays.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn set_wishes(
    conn: &mut Conn,
    now: Timestamp,
    user: UserId,
    change: impl FnOnce(&mut Wishes),
) -> Result<Option<Wishes>, StoreError> {
    let Some(account) = store::lock(conn, user).await? else { return Ok(None) };
    let Some(before) = wishes(conn, user).await? else { return Ok(None) };
    let mut after = before.clone();
    change(&mut after);
    after.muted = MUTABLE.into_iter().filter(|event| after.muted.contains(event)).collect();
    if after != before {
        let muted: Vec<String> = after.muted.iter().map(|event| event.as_str().to_owned()).collect();
        store::set_wishes(conn, user, after.wants_email, &muted).await?;
        let details = json!({ "wants_email": after.wants_email, "muted": muted });
        let record = Record { details, ..account_record(&account, "NOTIFICATIONS_CHANGED") };
        audit::record(conn, now, &[record]).await?;
    }
    Ok(Some(after))
}

//! Deleting one's own account. The row and its money's history stay, without anything personal.
//!
//! Cashback that is still pending does not forbid it. It goes on as any other: a reversal takes it back, and when its
//! hold ends it becomes available in a wallet without an owner. Nothing is paid from there (the account is inactive and
//! has no bank account) and no mail is sent; the ledger shows it as available until an operator ends it with a `forfeit`.
//! Taking it at once would be wrong: a later reversal of the purchase would then find it gone and book a debt.

use serde_json::json;

use super::{Proof, account_record, store};
use crate::audit::{self, Record};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ledger::{self, Cause, Wallet};

/// Why the account was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// The password was changed since it was proven, or the account is gone.
    #[error("the password has been changed")]
    Outdated,
    /// A payout is under way: its money can neither be given up nor left behind.
    #[error("a payout is under way")]
    PayoutUnderWay(Wallet),
    /// Money would be left behind, or a debt.
    #[error("the wallet is not empty")]
    NotEmpty(Wallet),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Deletes an account. With `forfeit` what is available goes back to the platform and a debt is let go; without, both
/// forbid it. Its sessions, links and bank account go too, and with it the account numbers its ended payouts went to.
///
/// The caller opens and commits the transaction.
///
/// # Errors
/// [`LeaveError`] saying why not; roll back then.
pub async fn leave(conn: &mut Conn, now: Timestamp, proof: &Proof, forfeit: bool) -> Result<(), LeaveError> {
    // Payouts and wallet come first in the lock order: whoever moves this user's money has them and may then touch the
    // account's row, which changing the address locks against references.
    store::lock_payouts(conn, proof.user).await?;
    let mut book = ledger::store::lock_wallets(conn, &[proof.user]).await?;
    let account = store::lock_proven(conn, proof).await?.ok_or(LeaveError::Outdated)?;
    let wallet = book.wallet(account.id);
    if wallet.held.is_positive() {
        return Err(LeaveError::PayoutUnderWay(wallet));
    }
    if !forfeit && (wallet.available.is_positive() || wallet.owed.is_positive()) {
        return Err(LeaveError::NotEmpty(wallet));
    }
    let cause = Cause::account(account.id);
    book.forfeit(cause, wallet.available).map_err(StoreError::from)?;
    book.forgive(cause, wallet.owed).map_err(StoreError::from)?;
    ledger::store::write(conn, now, &book).await?;
    let details = json!({
        "forfeited": wallet.available.to_string(),
        "forgiven": wallet.owed.to_string(),
        "pending": wallet.pending.to_string(),
    });
    audit::record(conn, now, &[Record { details, ..account_record(&account, "USER_DELETED") }]).await?;
    store::anonymise(conn, now, account.id).await?;
    tracing::info!(user.id = %account.id, "Account deleted");
    Ok(())
}

//! A shopper's bank account, sealed at rest (AES-256-GCM) and bound to its user.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::auth::seal::{DataKeys, SealError};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

/// Where the money goes. Never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAccount {
    /// Account number, upper case without spaces.
    pub iban: String,
    /// Whose account it is.
    pub holder: String,
}

impl BankAccount {
    /// Checks both and brings them into their normal form.
    ///
    /// # Errors
    /// [`BankError::Iban`] or [`BankError::Holder`].
    pub fn new(iban: &str, holder: &str) -> Result<Self, BankError> {
        Ok(Self { iban: normal_iban(iban)?, holder: normal_holder(holder)? })
    }

    /// What a screen may show of the number: country and last four characters.
    #[must_use]
    pub fn masked_iban(&self) -> String {
        mask(&self.iban)
    }

    /// What a screen may show of the name: the first letter of each word.
    #[must_use]
    pub fn masked_holder(&self) -> String {
        let hidden = |word: &str| word.chars().take(1).chain("•••".chars()).collect::<String>();
        self.holder.split(' ').map(hidden).collect::<Vec<_>>().join(" ")
    }
}

/// Whether the text is an account number by form and check digits (ISO 13616).
#[must_use]
pub fn is_iban(text: &str) -> bool {
    normal_iban(text).is_ok()
}

/// Whether the text is a name a bank takes.
#[must_use]
pub fn is_holder(text: &str) -> bool {
    normal_holder(text).is_ok()
}

impl Drop for BankAccount {
    fn drop(&mut self) {
        self.iban.zeroize();
        self.holder.zeroize();
    }
}

impl std::fmt::Debug for BankAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BankAccount(…)")
    }
}

/// Why bank details were not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// The account number fails ISO 13616: form, length or check digits.
    #[error("the IBAN is not valid")]
    Iban,
    /// No name, or one that no bank takes.
    #[error("the account holder needs 1 to 70 printable characters")]
    Holder,
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user is deleted.
    #[error("the account is deleted")]
    Gone,
    /// What was sealed is no bank account.
    #[error("sealed bank details cannot be read")]
    Unreadable,
}

/// Checks, seals and stores a user's bank account; replaces an earlier one. Returns the masked form that a screen
/// may show.
///
/// # Errors
/// [`BankError`].
pub async fn set_bank_account(
    conn: &mut Conn,
    now: Timestamp,
    keys: &DataKeys,
    user: UserId,
    iban: &str,
    holder: &str,
) -> Result<String, BankError> {
    store_bank_account(conn, now, keys, user, &BankAccount::new(iban, holder)?).await
}

/// Seals and stores a user's bank account; replaces an earlier one. Returns the masked form that a screen may show.
///
/// # Errors
/// [`BankError`] when it cannot be sealed, the user is deleted or the database refuses.
pub async fn store_bank_account(
    conn: &mut Conn,
    now: Timestamp,
    keys: &DataKeys,
    user: UserId,
    account: &BankAccount,
) -> Result<String, BankError> {
    let masked = mask(&account.iban);
    let plain = Zeroizing::new(serde_json::to_vec(account).map_err(|_| BankError::Unreadable)?);
    let (key_id, sealed) = keys.seal(user.0.as_bytes(), &plain)?;
    // The user's row is locked and read again under the lock: nothing is stored beside a deletion.
    let stored = sqlx::query!(
        "INSERT INTO bank_accounts (user_id, key_id, sealed, masked, updated_at)
         SELECT id, $2, $3, $4, $5 FROM users WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
         ON CONFLICT (user_id) DO UPDATE
         SET key_id = excluded.key_id, sealed = excluded.sealed, masked = excluded.masked,
             updated_at = excluded.updated_at",
        user.0,
        key_id,
        sealed,
        masked,
        now,
    )
    .execute(conn)
    .await
    .map_err(StoreError::from)?;
    if stored.rows_affected() == 1 { Ok(masked) } else { Err(BankError::Gone) }
}

/// A user's bank account, opened; none if there is none.
///
/// # Errors
/// [`BankError`] when the database refuses or it does not open.
pub async fn bank_account(conn: &mut Conn, keys: &DataKeys, user: UserId) -> Result<Option<BankAccount>, BankError> {
    let row = sqlx::query!("SELECT key_id, sealed FROM bank_accounts WHERE user_id = $1", user.0)
        .fetch_optional(conn)
        .await
        .map_err(StoreError::from)?;
    row.map(|row| open_bank_account(keys, user, &row.key_id, &row.sealed)).transpose()
}

/// Removes a user's bank account. Answers whether there was one.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn remove_bank_account(conn: &mut Conn, user: UserId) -> Result<bool, StoreError> {
    let gone = sqlx::query!("DELETE FROM bank_accounts WHERE user_id = $1", user.0).execute(conn).await?;
    Ok(gone.rows_affected() == 1)
}

/// Opens what [`set_bank_account`] sealed for `user`.
///
/// # Errors
/// [`BankError::Seal`] when it was changed, belongs to another user or needs a key we do not have.
pub fn open_bank_account(keys: &DataKeys, user: UserId, key_id: &str, sealed: &[u8]) -> Result<BankAccount, BankError> {
    let plain = keys.open(key_id, user.0.as_bytes(), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| BankError::Unreadable)
}

/// Country and last four characters.
fn mask(iban: &str) -> String {
    let country = iban.get(..2).unwrap_or_default();
    let end = iban.get(iban.len().saturating_sub(4)..).unwrap_or_default();
    format!("{country} •••• {end}")
}

fn normal_iban(text: &str) -> Result<String, BankError> {
    let iban: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
    let bytes = iban.as_bytes();
    let form = (15..=34).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes.iter().take(2).all(u8::is_ascii_uppercase)
        && bytes.iter().skip(2).take(2).all(u8::is_ascii_digit);
    // ISO 7064 mod 97-10: country and check digits go to the end, letters count from ten.
    let remainder = bytes.iter().skip(4).chain(bytes.iter().take(4)).fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        b'A'..=b'Z' => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
        _ => rest,
    });
    if form && remainder == 1 { Ok(iban) } else { Err(BankError::Iban) }
}

fn normal_holder(text: &str) -> Result<String, BankError> {
    let holder = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = holder.chars().count();
    if (1..=70).contains(&length) && !holder.chars().any(char::is_control) {
        Ok(holder)
    } else {
        Err(BankError::Holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iban_is_checked_and_masked() {
        assert_eq!(normal_iban("de89 3704 0044 0532 0130 00").unwrap(), "DE89370400440532013000");
        for bad in ["", "DE89370400440532013001", "DE8", "8937DE0400440532013000", "DE89-3704-0044-0532-0130-00"] {
            assert!(normal_iban(bad).is_err(), "{bad}");
        }
        assert_eq!(mask("DE89370400440532013000"), "DE •••• 3000");
        assert!(normal_holder(" \n ").is_err());
        assert_eq!(normal_holder(" Ann  Lee ").unwrap(), "Ann Lee");
        let account = BankAccount::new("DE89370400440532013000", "Ann Lee").unwrap();
        assert_eq!(account.masked_holder(), "A••• L•••");
    }
}

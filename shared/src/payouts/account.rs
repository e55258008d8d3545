//! Where a shopper's money goes: account number and holder, checked at the door, encrypted at rest.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::auth::seal::{DataKeys, SealError};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::UserId;

/// An account to pay to. Never shown in full, never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAccount {
    iban: String,
    holder: String,
}

/// The account cannot be right. The values themselves are not repeated: they are personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAccount {
    /// Wrong length, characters or check digits (ISO 13616).
    #[error("not a valid IBAN")]
    Iban,
    /// Empty, longer than 70 characters, or with control characters.
    #[error("the account holder's name must have 1 to 70 characters")]
    Holder,
}

/// Storing an account failed.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl BankAccount {
    /// Reads an account; spaces in the IBAN are ignored.
    ///
    /// # Errors
    /// [`NotAnAccount`] saying which part cannot be right.
    pub fn parse(iban: &str, holder: &str) -> Result<Self, NotAnAccount> {
        let iban: String = iban.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
        let holder = holder.trim();
        if !is_iban(&iban) {
            return Err(NotAnAccount::Iban);
        }
        if holder.is_empty() || holder.chars().count() > 70 || holder.chars().any(char::is_control) {
            return Err(NotAnAccount::Holder);
        }
        Ok(Self { iban, holder: holder.to_owned() })
    }

    /// The account number, without spaces.
    #[must_use]
    pub fn iban(&self) -> &str {
        &self.iban
    }

    /// Whose account it is.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// What a screen may show: country and last four.
    #[must_use]
    pub fn masked(&self) -> String {
        let (country, last) = (self.iban.get(..2), self.iban.get(self.iban.len().saturating_sub(4)..));
        format!("{}…{}", country.unwrap_or_default(), last.unwrap_or_default())
    }
}

impl std::fmt::Debug for BankAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

/// ISO 13616: country, check digits, up to thirty more; the rearranged number is 1 modulo 97.
fn is_iban(iban: &str) -> bool {
    let bytes = iban.as_bytes();
    let form = (15..=34).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && bytes.iter().take(2).all(u8::is_ascii_uppercase)
        && bytes.iter().skip(2).take(2).all(u8::is_ascii_digit);
    let rearranged = bytes.iter().skip(4).chain(bytes.iter().take(4));
    let remainder = rearranged.fold(0_u32, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    });
    form && remainder == 1
}

/// Stores a shopper's account, replacing an earlier one.
///
/// # Errors
/// [`SaveError`] when it cannot be sealed or the database refuses.
pub async fn save(
    conn: &mut Conn,
    now: Timestamp,
    keys: &DataKeys,
    user: UserId,
    account: &BankAccount,
) -> Result<(), SaveError> {
    let plain = Zeroizing::new(serde_json::json!({ "iban": account.iban, "holder": account.holder }).to_string());
    let (key_id, sealed) = keys.seal(user.0.as_bytes(), plain.as_bytes())?;
    sqlx::query!(
        "INSERT INTO bank_accounts (user_id, key_id, sealed, masked, updated_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (user_id) DO UPDATE
         SET key_id = excluded.key_id, sealed = excluded.sealed, masked = excluded.masked, updated_at = excluded.updated_at",
        user.0,
        key_id,
        sealed,
        account.masked(),
        now,
    )
    .execute(conn)
    .await
    .map_err(StoreError::from)?;
    Ok(())
}

/// The shopper's account, opened; none if there is none.
///
/// # Errors
/// [`StoreError`] when the database refuses or the account does not open.
pub async fn open(conn: &mut Conn, keys: &DataKeys, user: UserId) -> Result<Option<BankAccount>, StoreError> {
    let row = sqlx::query!("SELECT key_id, sealed FROM bank_accounts WHERE user_id = $1", user.0)
        .fetch_optional(conn)
        .await?;
    let corrupt = |found: String| StoreError::Corrupt { table: "bank_accounts", column: "sealed", id: user.0, found };
    row.map(|row| {
        let plain =
            keys.open(&row.key_id, user.0.as_bytes(), &row.sealed).map_err(|error| corrupt(error.to_string()))?;
        // The parser's message would repeat what it read.
        serde_json::from_slice(&plain).map_err(|_| corrupt("not an account".to_owned()))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_checked_at_the_door_and_masked() {
        let account = BankAccount::parse("de89 3704 0044 0532 0130 00", " Ada Lovelace ").unwrap();
        assert_eq!((account.iban(), account.holder()), ("DE89370400440532013000", "Ada Lovelace"));
        assert_eq!(format!("{account:?}"), "DE…3000");
        for wrong in ["", "DE89370400440532013001", "8937040044053201300", "DE89 é", "DE893704004405320130000000000000000000"] {
            assert_eq!(BankAccount::parse(wrong, "Ada"), Err(NotAnAccount::Iban), "{wrong}");
        }
        assert_eq!(BankAccount::parse("DE89370400440532013000", " "), Err(NotAnAccount::Holder));
        assert_eq!(BankAccount::parse("DE89370400440532013000", "a\nb"), Err(NotAnAccount::Holder));
    }
}

//! The flag `purchase_auto_confirm`: whether a verifier's yes may confirm a purchase without a person (contract §7).

use std::collections::HashMap;

use uuid::Uuid;

use crate::db::{Conn, StoreError};
use crate::ids::{MerchantId, UserId};

/// The flag's key.
pub const KEY: &str = "purchase_auto_confirm";

/// The flag as it stands for the shoppers and merchants of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoConfirm {
    global: Option<bool>,
    users: HashMap<UserId, bool>,
    merchants: HashMap<MerchantId, bool>,
}

impl AutoConfirm {
    /// Whether a purchase may be confirmed without a person: the shopper's scope and the merchant's scope must both
    /// say yes, each by its own row, else by the global one, else by default.
    #[must_use]
    pub fn allows(&self, user: UserId, merchant: MerchantId) -> bool {
        let otherwise = self.global.unwrap_or(true);
        self.users.get(&user).copied().unwrap_or(otherwise)
            && self.merchants.get(&merchant).copied().unwrap_or(otherwise)
    }
}

/// Keeps the flag as it is until the transaction ends. Any number of transactions may do so at once.
///
/// Comes before every other lock of a transaction: [`change`] waits here for the decisions under way, so that a purchase
/// is never parked by a flag that has been switched on meanwhile.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn hold_still(conn: &mut Conn) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_advisory_xact_lock_shared(hashtext($1))", KEY).execute(conn).await?;
    Ok(())
}

/// Waits until no decision is under way and lets none begin until the transaction ends. Comes before purchases and jobs
/// are locked.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn change(conn: &mut Conn) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext($1))", KEY).execute(conn).await?;
    Ok(())
}

/// Reads the flag for these shoppers and merchants, in one statement.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn read(conn: &mut Conn, users: &[UserId], merchants: &[MerchantId]) -> Result<AutoConfirm, StoreError> {
    let users: Vec<Uuid> = distinct(users.iter().map(|id| id.0));
    let merchants: Vec<Uuid> = distinct(merchants.iter().map(|id| id.0));
    let rows = sqlx::query!(
        r#"SELECT scope_type AS "scope_type!", scope_id, enabled AS "enabled!" FROM feature_flags
           WHERE key = $1 AND scope_type = 'global' AND scope_id IS NULL
           UNION ALL
           SELECT scope_type, scope_id, enabled FROM feature_flags
           WHERE key = $1 AND scope_type = 'user' AND scope_id = ANY ($2)
           UNION ALL
           SELECT scope_type, scope_id, enabled FROM feature_flags
           WHERE key = $1 AND scope_type = 'merchant' AND scope_id = ANY ($3)"#,
        KEY,
        &users,
        &merchants,
    )
    .fetch_all(conn)
    .await?;
    let mut flag = AutoConfirm::default();
    for row in rows {
        match (row.scope_type.as_str(), row.scope_id) {
            ("user", Some(id)) => drop(flag.users.insert(UserId(id), row.enabled)),
            ("merchant", Some(id)) => drop(flag.merchants.insert(MerchantId(id), row.enabled)),
            _ => flag.global = Some(row.enabled),
        }
    }
    Ok(flag)
}

fn distinct(ids: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Contract §7: exact scope → global → true, and both scopes must resolve to true.
        #[test]
        fn both_scopes_must_resolve_to_true(global: Option<bool>, of_user: Option<bool>, of_merchant: Option<bool>) {
            let (user, merchant) = (UserId::new(), MerchantId::new());
            let flag = AutoConfirm {
                global,
                users: of_user.map(|on| (user, on)).into_iter().collect(),
                merchants: of_merchant.map(|on| (merchant, on)).into_iter().collect(),
            };
            let resolves = |exact: Option<bool>| exact.or(global).unwrap_or(true);
            prop_assert_eq!(flag.allows(user, merchant), resolves(of_user) && resolves(of_merchant));
            prop_assert_eq!(flag.allows(UserId::new(), MerchantId::new()), global.unwrap_or(true));
        }
    }
}

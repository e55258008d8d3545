//! SQL of networks as an operator sets them, their secrets and their advertisers.

use uuid::Uuid;

use super::{Network, secrets};
use crate::auth::seal::{DataKeys, SealError};
use crate::clock::Timestamp;
use crate::db::{Conn, StoreError};
use crate::ids::MerchantId;
use crate::money::Money;

/// A secret could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The signing key could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Inserts a network, or changes its rules to these.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn save(conn: &mut Conn, now: Timestamp, network: &Network) -> Result<(), StoreError> {
    let rule = network.confirm_rule;
    sqlx::query!(
        "INSERT INTO networks (name, adapter, active, verifier, mature_on, hold_seconds, may_reduce,
                               confirm_after_seconds, confirm_max_amount, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (name) DO UPDATE
         SET adapter = excluded.adapter, active = excluded.active, verifier = excluded.verifier,
             mature_on = excluded.mature_on, hold_seconds = excluded.hold_seconds, may_reduce = excluded.may_reduce,
             confirm_after_seconds = excluded.confirm_after_seconds, confirm_max_amount = excluded.confirm_max_amount",
        network.name,
        network.adapter,
        network.active,
        network.verifier.as_str(),
        network.mature_on.as_str(),
        network.hold.whole_seconds(),
        network.may_reduce,
        rule.map(|rule| rule.after.whole_seconds()),
        rule.and_then(|rule| rule.max_amount).map(Money::decimal),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a path secret: only its digest is stored. It lives beside the others until `expires_at`.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn add_path_secret(
    conn: &mut Conn,
    now: Timestamp,
    network: &str,
    secret: &str,
    expires_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO network_secrets (id, network, kind, digest, created_at, expires_at)
         VALUES ($1, $2, 'path', $3, $4, $5)",
        Uuid::now_v7(),
        network,
        &secrets::digest(secret.as_bytes()),
        now,
        expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds a signing key, encrypted. It lives beside the others until `expires_at`.
///
/// # Errors
/// [`AddError`] when it cannot be encrypted or the database refuses.
pub async fn add_webhook_key(
    conn: &mut Conn,
    now: Timestamp,
    data_keys: &DataKeys,
    network: &str,
    key: &[u8],
    expires_at: Option<Timestamp>,
) -> Result<(), AddError> {
    let (key_id, sealed) = data_keys.seal(network.as_bytes(), key)?;
    sqlx::query!(
        "INSERT INTO network_secrets (id, network, kind, key_id, sealed, created_at, expires_at)
         VALUES ($1, $2, 'webhook', $3, $4, $5, $6)",
        Uuid::now_v7(),
        network,
        key_id,
        sealed,
        now,
        expires_at,
    )
    .execute(conn)
    .await
    .map_err(StoreError::from)?;
    Ok(())
}

/// Says which merchant a network's advertiser is.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn map_advertiser(
    conn: &mut Conn,
    network: &str,
    advertiser: &str,
    merchant_id: MerchantId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO network_merchants (network, advertiser, merchant_id)
         VALUES ($1, $2, $3)
         ON CONFLICT (network, advertiser) DO UPDATE SET merchant_id = excluded.merchant_id",
        network,
        advertiser,
        merchant_id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A stored secret, not yet opened.
pub(super) struct StoredSecret {
    pub(super) id: Uuid,
    pub(super) network: String,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) key_id: Option<String>,
    pub(super) sealed: Option<Vec<u8>>,
    pub(super) expires_at: Option<Timestamp>,
}

/// All secrets that have not expired at `now`.
pub(super) async fn live_secrets(conn: &mut Conn, now: Timestamp) -> Result<Vec<StoredSecret>, StoreError> {
    Ok(sqlx::query_as!(
        StoredSecret,
        "SELECT id, network, digest, key_id, sealed, expires_at
         FROM network_secrets
         WHERE expires_at IS NULL OR expires_at > $1
         ORDER BY network, id",
        now,
    )
    .fetch_all(conn)
    .await?)
}

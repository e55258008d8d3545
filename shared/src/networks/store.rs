//! Networks, their secrets and their advertisers in PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use time::Duration;
use uuid::Uuid;

use super::{ConfirmRule, MatureOn, Network, Verifier, secrets};
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

/// All networks, active or not.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn networks(conn: &mut Conn) -> Result<Vec<Network>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT name, adapter, active, verifier, mature_on, hold_seconds, may_reduce, confirm_after_seconds,
                confirm_max_amount
         FROM networks
         ORDER BY name"
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Network::try_from).collect()
}

/// All networks by name, as a transaction needs their rules. There are tens of them at most.
///
/// # Errors
/// [`StoreError`] when the database refuses or a row cannot be read.
pub async fn by_name(conn: &mut Conn) -> Result<HashMap<String, Arc<Network>>, StoreError> {
    Ok(networks(conn).await?.into_iter().map(|network| (network.name.clone(), Arc::new(network))).collect())
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

/// The merchants behind advertisers, by network and the network's number; unknown ones are left out.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub async fn merchants(
    conn: &mut Conn,
    advertisers: &[(String, String)],
) -> Result<HashMap<(String, String), MerchantId>, StoreError> {
    let (networks, numbers): (Vec<String>, Vec<String>) = advertisers.iter().cloned().unzip();
    let rows = sqlx::query!(
        r#"SELECT network, advertiser, merchant_id as "merchant_id: MerchantId"
           FROM network_merchants
           JOIN (SELECT DISTINCT * FROM UNNEST($1::text[], $2::text[]) AS a (network, advertiser)) asked
               USING (network, advertiser)"#,
        &networks,
        &numbers,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.network, row.advertiser), row.merchant_id)).collect())
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

struct Row {
    name: String,
    adapter: String,
    active: bool,
    verifier: String,
    mature_on: String,
    hold_seconds: i64,
    may_reduce: bool,
    confirm_after_seconds: Option<i64>,
    confirm_max_amount: Option<Decimal>,
}

impl TryFrom<Row> for Network {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        // A network has a name for a key; the nil id stands for it, and the name is told beside the value.
        let corrupt = |column, found: &str| StoreError::Corrupt {
            table: "networks",
            column,
            id: Uuid::nil(),
            found: format!("{found} ({})", row.name),
        };
        let max_amount = row.confirm_max_amount.map(Money::try_from).transpose();
        Ok(Self {
            verifier: Verifier::parse(&row.verifier).ok_or_else(|| corrupt("verifier", &row.verifier))?,
            mature_on: MatureOn::parse(&row.mature_on).ok_or_else(|| corrupt("mature_on", &row.mature_on))?,
            confirm_rule: match row.confirm_after_seconds {
                None => None,
                Some(seconds) => Some(ConfirmRule {
                    after: Duration::seconds(seconds),
                    max_amount: max_amount.map_err(|_| corrupt("confirm_max_amount", "more than cents"))?,
                }),
            },
            hold: Duration::seconds(row.hold_seconds),
            adapter: row.adapter,
            active: row.active,
            may_reduce: row.may_reduce,
            name: row.name,
        })
    }
}

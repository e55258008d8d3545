//! Puts the demo's world into a migrated database. Running it twice changes nothing.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};
use shared::auth::seal::DataKeys;
use shared::clock::{Clock, Timestamp};
use sqlx::{Connection, PgConnection};
use time::Duration;
use uuid::Uuid;

use super::catalogue::{Catalogue, RATES, Reward};

/// What the networks prove themselves with.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct NetworkSecrets {
    /// The signing key of `reference`, as its owner sees it: `whsec_…`.
    pub reference: String,
    /// The path secret of `awin`.
    pub awin: String,
}

impl NetworkSecrets {
    /// Fresh ones.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            reference: format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>())),
            awin: hex::encode(rand::random::<[u8; 24]>()),
        }
    }

    /// The bytes that sign for `reference`.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn reference_key(&self) -> Result<Vec<u8>> {
        Ok(STANDARD.decode(self.reference.strip_prefix("whsec_").context("whsec_ expected")?)?)
    }
}

/// Fills the database once.
///
/// # Errors
/// When the database refuses.
pub async fn seed(database_url: &str, world: &Catalogue, secrets: &NetworkSecrets, keys: &DataKeys) -> Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    let mut tx = connection.begin().await?;
    let seeded: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM network_secrets)").fetch_one(&mut *tx).await?;
    if seeded {
        return Ok(());
    }
    let now = Clock::System.now();
    shops(&mut tx, world, now).await?;
    shoppers(&mut tx, world, keys, now).await?;
    networks(&mut tx, world, secrets, keys, now).await?;
    clicks(&mut tx, world, now).await?;
    rates(&mut tx, now).await?;
    tx.commit().await?;
    // Plans made for empty tables are bad ones.
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await?;
    Ok(())
}

async fn shops(conn: &mut PgConnection, world: &Catalogue, now: Timestamp) -> Result<()> {
    let today = now.date();
    for shop in &world.shops {
        sqlx::query("INSERT INTO merchants (id, name, active, award_above_commission, created_at) VALUES ($1, $2, $3, true, $4)")
            .bind(shop.id)
            .bind(&shop.name)
            .bind(shop.active)
            .bind(now)
            .execute(&mut *conn)
            .await?;
        let Some(offer) = shop.offer else { continue };
        let (kind, value) = match offer.reward {
            Reward::Percent(hundredths) => ("percent", Decimal::new(hundredths, 2)),
            Reward::Fixed(cents) => ("fixed", Decimal::new(cents, 2)),
        };
        sqlx::query(
            "INSERT INTO offers (id, merchant_id, kind, value, monthly_cap, start_date, end_date, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(offer.id)
        .bind(shop.id)
        .bind(kind)
        .bind(value)
        .bind(offer.cap.map(|cents| Decimal::new(cents, 2)))
        .bind(today - Duration::days(60))
        .bind(today + Duration::days(365))
        .bind(now)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn shoppers(conn: &mut PgConnection, world: &Catalogue, keys: &DataKeys, now: Timestamp) -> Result<()> {
    for shopper in &world.shoppers {
        sqlx::query("INSERT INTO users (id, email, email_verified_at, created_at) VALUES ($1, $2, $3, $3)")
            .bind(shopper.id)
            .bind(&shopper.email)
            .bind(now)
            .execute(&mut *conn)
            .await?;
        let plain = serde_json::json!({ "iban": shopper.iban, "holder": shopper.holder }).to_string();
        let (key_id, sealed) = keys.seal(shopper.id.as_bytes(), plain.as_bytes())?;
        sqlx::query(
            "INSERT INTO bank_accounts (user_id, key_id, sealed, masked, updated_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(shopper.id)
        .bind(key_id)
        .bind(sealed)
        .bind(format!("DE…{}", &shopper.iban[shopper.iban.len() - 4..]))
        .bind(now)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn networks(
    conn: &mut PgConnection,
    world: &Catalogue,
    secrets: &NetworkSecrets,
    keys: &DataKeys,
    now: Timestamp,
) -> Result<()> {
    // Reference is signed and so trusted. Awin is not; the operator's rule lets it confirm up to 500.00 EUR.
    sqlx::query(
        "INSERT INTO networks (name, adapter, verifier, hold_seconds, may_reduce, confirm_after_seconds,
                               confirm_max_amount, created_at)
         VALUES ('reference', 'reference', 'as_reported', 2, false, NULL, NULL, $1),
                ('awin', 'awin', 'as_reported', 2, true, 2, 500.00, $1)
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(now)
    .execute(&mut *conn)
    .await?;
    let (key_id, sealed) = keys.seal(b"reference", &secrets.reference_key()?)?;
    sqlx::query(
        "INSERT INTO network_secrets (id, network, kind, key_id, sealed, created_at)
         VALUES ($1, 'reference', 'webhook', $2, $3, $4)",
    )
    .bind(Uuid::now_v7())
    .bind(key_id)
    .bind(sealed)
    .bind(now)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO network_secrets (id, network, kind, digest, created_at) VALUES ($1, 'awin', 'path', $2, $3)",
    )
    .bind(Uuid::now_v7())
    .bind(Sha256::digest(secrets.awin.as_bytes()).to_vec())
    .bind(now)
    .execute(&mut *conn)
    .await?;
    for shop in &world.shops {
        sqlx::query(
            "INSERT INTO network_merchants (network, advertiser, merchant_id)
             SELECT network, $1, $2 FROM UNNEST(ARRAY['reference', 'awin']) AS network",
        )
        .bind(&shop.advertiser)
        .bind(shop.id)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn clicks(conn: &mut PgConnection, world: &Catalogue, now: Timestamp) -> Result<()> {
    for click in &world.clicks {
        let shop = world.shop(click).context("a click leads to a shop")?;
        let shopper = world.shoppers.get(click.shopper).context("a click has a shopper")?;
        sqlx::query(
            "INSERT INTO clicks (click_ref, user_id, merchant_id, network, offer_id, kind, value, basis, monthly_cap, clicked_at)
             SELECT $1, $2, $3, $4, o.id, o.kind, o.value, o.basis, o.monthly_cap, $6
             FROM (SELECT) AS one LEFT JOIN offers o ON o.id = $5",
        )
        .bind(&click.click_ref)
        .bind(shopper.id)
        .bind(shop.id)
        .bind(click.network)
        .bind(world.promise(click).map(|offer| offer.id))
        .bind(now - Duration::days(8))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn rates(conn: &mut PgConnection, now: Timestamp) -> Result<()> {
    for (currency, rate) in RATES {
        for day in 0..12 {
            sqlx::query("INSERT INTO exchange_rates (currency, day, rate) VALUES ($1, $2, $3)")
                .bind(currency)
                .bind(now.date() - Duration::days(day))
                .bind(Decimal::new(rate, 8))
                .execute(&mut *conn)
                .await?;
        }
    }
    Ok(())
}

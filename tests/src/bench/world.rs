//! Who buys where: enough shoppers that no wallet is hot, enough shops, and a click of everybody in both networks.

use anyhow::Result;
use shared::auth::seal::DataKeys;
use shared::clock::{Clock, Timestamp};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::demo::catalogue::iban;

/// Shoppers.
pub const SHOPPERS: u32 = 10_000;
/// Shops; everybody clicks at one of them.
const SHOPS: u32 = 50;
/// Percent of the sale that every shop gives back.
const PERCENT: i32 = 5;

/// The shoppers and shops of a site that was filled for measuring.
#[derive(Debug, Clone)]
pub struct World {
    /// Shoppers, by number.
    pub shoppers: Vec<Uuid>,
    /// Shops, by number.
    pub shops: Vec<Uuid>,
}

/// What the network hands back for a click of a shopper.
#[must_use]
pub fn click_ref(network: &str, shopper: usize) -> String {
    format!("bench-{network}-{shopper}")
}

/// A shop's number in both networks.
#[must_use]
pub fn advertiser(shopper: usize) -> String {
    format!("bench-{}", shopper % SHOPS as usize)
}

impl World {
    /// Fills the migrated database at `url`, whose networks are there.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fill(url: &str, keys: &DataKeys) -> Result<Self> {
        let new = Self {
            shoppers: (0..SHOPPERS).map(|_| Uuid::now_v7()).collect(),
            shops: (0..SHOPS).map(|_| Uuid::now_v7()).collect(),
        };
        let mut conn = PgConnection::connect(url).await?;
        let mut tx = conn.begin().await?;
        let now = Clock::System.now();
        new.catalogue(&mut tx, now).await?;
        new.people(&mut tx, keys, now).await?;
        tx.commit().await?;
        // Plans made for empty tables are bad ones.
        sqlx::raw_sql("ANALYZE").execute(&mut conn).await?;
        Ok(new)
    }

    /// The one that a database was filled with.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn present(pool: &PgPool) -> Result<Self> {
        let shoppers = "SELECT id FROM users WHERE email LIKE 'bench%@example.test' ORDER BY substr(email, 6, length(email) - 18)::int";
        let shops = "SELECT id FROM merchants WHERE name LIKE 'Bench shop %' ORDER BY substr(name, 12)::int";
        Ok(Self {
            shoppers: sqlx::query_scalar(shoppers).fetch_all(pool).await?,
            shops: sqlx::query_scalar(shops).fetch_all(pool).await?,
        })
    }

    async fn catalogue(&self, conn: &mut PgConnection, now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO merchants (id, name, award_above_commission, created_at)
             SELECT id, 'Bench shop ' || n, true, $2 FROM UNNEST($1::uuid[]) WITH ORDINALITY AS shop (id, n)",
        )
        .bind(&self.shops)
        .bind(now)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "INSERT INTO offers (id, merchant_id, kind, value, start_date, end_date, created_at)
             SELECT gen_random_uuid(), id, 'percent', $3, $2::date - 30, $2::date + 365, $2
             FROM UNNEST($1::uuid[]) AS shop (id)",
        )
        .bind(&self.shops)
        .bind(now)
        .bind(PERCENT)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "INSERT INTO network_merchants (network, advertiser, merchant_id)
             SELECT network, 'bench-' || n - 1, id
             FROM UNNEST($1::uuid[]) WITH ORDINALITY AS shop (id, n)
             CROSS JOIN UNNEST(ARRAY['reference', 'awin']) AS network",
        )
        .bind(&self.shops)
        .execute(&mut *conn)
        .await?;
        Ok(())
    }

    async fn people(&self, conn: &mut PgConnection, keys: &DataKeys, now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO users (id, email, email_verified_at, created_at)
             SELECT id, 'bench' || n || '@example.test', $2, $2 FROM UNNEST($1::uuid[]) WITH ORDINALITY AS shopper (id, n)",
        )
        .bind(&self.shoppers)
        .bind(now)
        .execute(&mut *conn)
        .await?;
        let (mut key_ids, mut sealed) = (Vec::new(), Vec::new());
        for (number, shopper) in self.shoppers.iter().enumerate() {
            let account = iban(&format!("{:018}", 370_400_440_532_000_000_u64 + number as u64));
            let plain = serde_json::json!({ "iban": account, "holder": format!("Shopper {number}") }).to_string();
            let (key_id, bytes) = keys.seal(shopper.as_bytes(), plain.as_bytes())?;
            key_ids.push(key_id);
            sealed.push(bytes);
        }
        sqlx::query(
            "INSERT INTO bank_accounts (user_id, key_id, sealed, masked, updated_at)
             SELECT id, key_id, sealed, 'DE…0000', $4 FROM UNNEST($1::uuid[], $2::text[], $3::bytea[]) AS a (id, key_id, sealed)",
        )
        .bind(&self.shoppers)
        .bind(&key_ids)
        .bind(&sealed)
        .bind(now)
        .execute(&mut *conn)
        .await?;
        sqlx::query(
            "INSERT INTO clicks (click_ref, user_id, merchant_id, network, offer_id, kind, value, basis, monthly_cap, clicked_at)
             SELECT 'bench-' || network || '-' || shopper.n - 1, shopper.id, o.merchant_id, network, o.id, o.kind, o.value, o.basis,
                    o.monthly_cap, $3 - interval '8 days'
             FROM UNNEST($1::uuid[]) WITH ORDINALITY AS shopper (id, n)
             JOIN UNNEST($2::uuid[]) WITH ORDINALITY AS shop (id, s) ON shop.s - 1 = (shopper.n - 1) % cardinality($2)
             JOIN offers o ON o.merchant_id = shop.id
             CROSS JOIN UNNEST(ARRAY['reference', 'awin']) AS network",
        )
        .bind(&self.shoppers)
        .bind(&self.shops)
        .bind(now)
        .execute(&mut *conn)
        .await?;
        Ok(())
    }
}

//! The accounts, shops and rules of profile contract (contract §11).

use anyhow::Result;
use shared::clock::Timestamp;
use shared::users::hash_password;
use sqlx::PgPool;
use tokio::sync::OnceCell;
use uuid::{Uuid, uuid};

/// The password of every seeded account.
pub const PASSWORD: &str = "Str0ng!Pass";

/// Alice's address.
pub const USER_EMAIL: &str = "alice@clicknback.com";
/// Carol's address.
pub const ADMIN_EMAIL: &str = "carol@clicknback.com";

/// A shopper.
pub const ALICE: Uuid = uuid!("b7e2c1a2-4f3a-4e2b-9c1a-8d2e3f4b5c6d");
/// A shopper.
pub const BOB: Uuid = uuid!("c8d3e2b1-5a4b-4c3d-8b2a-7e6f5d4c3b2a");
/// An administrator.
pub const CAROL: Uuid = uuid!("d9f4b3c2-6b5c-5d4e-7c3b-6a5e4d3c2b1a");
/// An administrator without a wallet.
pub const JERO: Uuid = uuid!("d9f4b3c2-6b5c-5d4e-7c3b-6a5e4d3c2b1b");
/// A shopper whose purchases wait for a person.
pub const DAVE: Uuid = uuid!("e0e1e2e3-f4a5-4b6c-7d8e-9f0a1b2c3d4e");
/// 5 percent.
pub const SHOPLY: Uuid = uuid!("a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d");
/// 3.00 a purchase.
pub const QUICKCART: Uuid = uuid!("b2c3d4e5-f6a7-4b8c-9d0e-1f2a3b4c5d6e");
/// Its purchases are never found at the bank.
pub const BANK_SIM_FAIL: Uuid = uuid!("f0000000-0000-0000-0000-000000000001");

static HASH: OnceCell<String> = OnceCell::const_new();

/// Fills a migrated database.
///
/// # Errors
/// When the database refuses.
pub async fn seed(pool: &PgPool, now: Timestamp) -> Result<()> {
    let hash = HASH.get_or_try_init(|| hash_password(PASSWORD.to_owned().into())).await?;
    for (id, name, role) in [
        (ALICE, "alice", "user"),
        (BOB, "bob", "user"),
        (CAROL, "carol", "admin"),
        (JERO, "jero", "admin"),
        (DAVE, "dave", "user"),
    ] {
        sqlx::query(
            "INSERT INTO users (id, email, password_hash, role, email_verified_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $5)",
        )
        .bind(id)
        .bind(format!("{name}@clicknback.com"))
        .bind(hash)
        .bind(role)
        .bind(now)
        .execute(pool)
        .await?;
    }
    for (id, name, percent, kind, value) in [
        (SHOPLY, "Shoply", 5, "percent", 5),
        (QUICKCART, "QuickCart", 3, "fixed", 3),
        (BANK_SIM_FAIL, "BankSimFail", 5, "percent", 5),
    ] {
        sqlx::query(
            "INSERT INTO merchants (id, name, default_cashback_percentage, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(id)
        .bind(name)
        .bind(percent)
        .bind(now)
        .execute(pool)
        .await?;
        sqlx::query(
            "INSERT INTO offers (id, merchant_id, kind, value, monthly_cap, start_date, end_date, created_at)
             VALUES ($1, $2, $3, $4, 100, '2020-01-01', '2099-12-31', $5)",
        )
        .bind(Uuid::now_v7())
        .bind(id)
        .bind(kind)
        .bind(value)
        .bind(now)
        .execute(pool)
        .await?;
    }
    sqlx::query("UPDATE networks SET verifier = 'simulated', hold_seconds = 0 WHERE name = 'self'")
        .execute(pool)
        .await?;
    sqlx::query(
        "INSERT INTO feature_flags (id, key, scope_type, scope_id, enabled, created_at, updated_at)
         VALUES ($1, 'purchase_auto_confirm', 'user', $2, false, $3, $3)",
    )
    .bind(Uuid::now_v7())
    .bind(DAVE)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

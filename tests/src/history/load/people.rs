//! The people of the contract: shoppers who buy on their own word, and administrators. The stories know none of them.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::clock::Clock;
use shared::users::hash_password;
use sqlx::PgPool;
use uuid::Uuid;

use crate::demo::catalogue::{iban, stable_id};

/// The password of every shopper here.
pub(super) const PASSWORD: &str = "Aa1-buyers";
/// How many decide.
const ADMINS: usize = 3;

/// A shopper of the contract.
#[derive(Debug, Clone)]
pub(super) struct Buyer {
    pub(super) id: Uuid,
    pub(super) email: String,
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct People {
    pub(super) shoppers: Vec<Buyer>,
    pub(super) admins: Vec<Uuid>,
}

impl People {
    pub(super) fn new(seed: u64, shoppers: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x0062_7579_6572_7300);
        let admins = (0..ADMINS).map(|_| stable_id(&mut random)).collect();
        let buyer = |index| Buyer { id: stable_id(&mut random), email: format!("buyer{index:02}-{seed}@example.org") };
        Self { shoppers: (0..shoppers).map(buyer).collect(), admins }
    }

    /// Puts them into the database; twice changes nothing.
    pub(super) async fn store(&self, owner: &PgPool) -> Result<()> {
        let (hash, now) = (hash_password(PASSWORD.to_owned().into()).await?, Clock::System.now());
        let shoppers = self.shoppers.iter().map(|buyer| (buyer.id, buyer.email.clone(), "user"));
        let admins = self.admins.iter().map(|id| (*id, format!("{id}@example.org"), "admin"));
        for (id, email, role) in shoppers.chain(admins) {
            sqlx::query(
                "INSERT INTO users (id, email, password_hash, role, email_verified_at, created_at)
                 VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO NOTHING",
            )
            .bind(id)
            .bind(email)
            .bind(&hash)
            .bind(role)
            .bind(now)
            .execute(owner)
            .await?;
        }
        sqlx::query("UPDATE networks SET hold_seconds = 2 WHERE name = 'self'").execute(owner).await?;
        Ok(())
    }
}

/// A new account number.
pub(super) fn new_iban(random: &mut StdRng) -> String {
    let (bank, account): (u64, u64) =
        (random.random_range(10_000_000..99_999_999), random.random_range(0..10_000_000_000));
    iban(&format!("{bank:08}{account:010}"))
}

//! Everything that profile contract has (contract §11): the accounts and shops of [`seed`], more shops,
//! and fifteen purchases that explain every balance but what was paid out before.
//!
//! The purchases that pend stay so: their shop, or Dave, has `purchase_auto_confirm` switched off. So the balances
//! are those of §11 until somebody does something.

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use shared::clock::Timestamp;
use shared::ids::{PurchaseId, UserId};
use shared::jobs::{self, Kind, NewJob, Room};
use shared::ledger::{Account, Cause, store};
use shared::money::Money;
use sqlx::{PgConnection, PgPool};
use time::Duration;
use uuid::Uuid;

use super::seed::{self, ALICE, BANK_SIM_FAIL, BOB, CAROL, DAVE, QUICKCART, SHOPLY};

/// A shop whose purchases wait for a person.
pub const SLOWBOAT: Uuid = shop_id(0);

/// Names, percentages in hundredths, whether the shop is active, and how many days ago its offer began.
const SHOPS: [(&str, i64, bool, i64); 25] = [
    ("Slowboat Books", 500, true, 400),
    ("Alder & Ash", 250, true, 300),
    ("Beanstalk Coffee", 800, true, 200),
    ("Cobalt Cycles", 150, true, 200),
    ("Dandelion Toys", 600, true, 200),
    ("Ember Kitchen", 400, true, 200),
    ("Fjord Outdoor", 700, true, 200),
    ("Gable Garden", 350, true, 200),
    ("Harbour Hotels", 1000, true, 200),
    ("Inkwell Stationery", 500, true, 200),
    ("Juniper Spirits", 450, true, 200),
    ("Kestrel Optics", 900, true, 200),
    ("Lantern Lighting", 300, true, 200),
    ("Meridian Travel", 200, true, 200),
    ("Nettle Naturals", 1200, true, 200),
    ("Opal Jewellers", 1500, true, 200),
    ("Pebble Pets", 550, true, 200),
    ("Quarry Tiles", 275, true, 200),
    ("Rookery Games", 650, true, 200),
    ("Saffron Foods", 425, true, 200),
    ("Thistle Textiles", 750, true, 200),
    ("Umber Art", 1100, true, 200),
    // Begins in two months, is over, is closed.
    ("Vesper Audio", 500, true, -60),
    ("Willow Baby", 500, true, 800),
    ("Yarrow Pharmacy", 500, false, 200),
];

/// Who, where, sale in cents, cashback in cents, state, days ago.
const PURCHASES: [(Uuid, Uuid, i64, i64, &str, i64); 15] = [
    (ALICE, SLOWBOAT, 16_100, 805, "pending", 36),
    (ALICE, SLOWBOAT, 22_000, 1_100, "pending", 38),
    (ALICE, SHOPLY, 20_000, 1_000, "confirmed", 70),
    (ALICE, QUICKCART, 2_599, 300, "confirmed", 72),
    (ALICE, SHOPLY, 4_000, 200, "confirmed", 75),
    (ALICE, SHOPLY, 10_000, 500, "reversed", 80),
    (ALICE, BANK_SIM_FAIL, 5_000, 250, "rejected", 82),
    (BOB, SLOWBOAT, 21_760, 1_088, "pending", 40),
    (BOB, QUICKCART, 1_250, 300, "confirmed", 60),
    (BOB, QUICKCART, 8_999, 300, "confirmed", 65),
    (BOB, BANK_SIM_FAIL, 3_000, 150, "rejected", 68),
    (CAROL, SLOWBOAT, 24_000, 1_200, "pending", 42),
    (DAVE, SHOPLY, 12_500, 625, "pending", 44),
    (DAVE, SHOPLY, 10_000, 500, "pending", 46),
    (DAVE, SHOPLY, 6_000, 300, "reversed", 90),
];

const fn shop_id(index: u128) -> Uuid {
    Uuid::from_u128(0x5a0b_0000_0000_4000_8000_0000_0000_0000 + index)
}

/// Fills a migrated database once.
///
/// # Errors
/// When the database refuses.
pub async fn fill(pool: &PgPool, now: Timestamp) -> Result<()> {
    let filled: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM users WHERE id = $1)").bind(ALICE).fetch_one(pool).await?;
    if filled {
        return Ok(());
    }
    seed::seed(pool, now).await?;
    extend(pool, now).await?;
    // Plans made for empty tables are bad ones.
    sqlx::raw_sql("ANALYZE").execute(pool).await?;
    Ok(())
}

/// Adds the further shops, flags and purchases to a database with the accounts of [`seed`].
///
/// # Errors
/// When the database refuses.
pub async fn extend(pool: &PgPool, now: Timestamp) -> Result<()> {
    let mut tx = pool.begin().await?;
    shops(&mut tx, now).await?;
    flags(&mut tx, now).await?;
    purchases(&mut tx, now).await?;
    Ok(tx.commit().await?)
}

async fn shops(conn: &mut PgConnection, now: Timestamp) -> Result<()> {
    for (index, (name, hundredths, active, begun)) in (0_u32..).zip(SHOPS) {
        let (id, percent) = (shop_id(index.into()), Decimal::new(hundredths, 2));
        sqlx::query(
            "INSERT INTO merchants (id, name, default_cashback_percentage, active, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(name)
        .bind(percent)
        .bind(active)
        .bind(now - Duration::minutes(i64::from(index) + 1))
        .execute(&mut *conn)
        .await?;
        let start = now.date() - Duration::days(begun);
        let end = if begun == 800 { format!("{}", now.date() - Duration::days(30)) } else { "2099-12-31".to_owned() };
        offer(conn, (id, percent, true), &start.to_string(), &end, now).await?;
    }
    // What Shoply gave last year.
    offer(conn, (SHOPLY, Decimal::from(4), false), "2024-01-01", "2099-12-31", now).await
}

async fn offer(
    conn: &mut PgConnection,
    (merchant, percent, active): (Uuid, Decimal, bool),
    start: &str,
    end: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO offers (id, merchant_id, kind, value, monthly_cap, start_date, end_date, active, created_at)
         VALUES ($1, $2, 'percent', $3, 100, $4::date, $5::date, $6, $7)",
    )
    .bind(Uuid::now_v7())
    .bind(merchant)
    .bind(percent)
    .bind(start)
    .bind(end)
    .bind(active)
    .bind(now)
    .execute(conn)
    .await?;
    Ok(())
}

async fn flags(conn: &mut PgConnection, now: Timestamp) -> Result<()> {
    for (key, scope_type, scope, enabled) in
        [("purchase_auto_confirm", "merchant", Some(SLOWBOAT), false), ("fraud_check", "global", None, true)]
    {
        sqlx::query(
            "INSERT INTO feature_flags (id, key, scope_type, scope_id, enabled, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(Uuid::now_v7())
        .bind(key)
        .bind(scope_type)
        .bind(scope)
        .bind(enabled)
        .bind(now)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn purchases(conn: &mut PgConnection, now: Timestamp) -> Result<()> {
    let mut made = Vec::new();
    for (number, purchase) in (1..).zip(PURCHASES) {
        made.push((PurchaseId(Uuid::from_u128(0x9c00_0000_0000_4000_8000_0000_0000_0000 + number)), purchase));
    }
    let mut waiting = Vec::new();
    for (number, (id, (user, merchant, sale, cashback, state, ago))) in (1..).zip(&made) {
        insert(conn, now, *id, number, (*user, *merchant, *sale, *cashback, *state, *ago))
            .await
            .with_context(|| format!("purchase {number}"))?;
        if *state == "pending" {
            waiting.push(NewJob { kind: Kind::ConfirmPurchase, subject_id: id.0, run_at: now, traceparent: None });
        }
    }
    sqlx::query(
        "INSERT INTO cashback_caps (user_id, offer_id, month, used)
         SELECT user_id, offer_id, cap_month, sum(cashback_amount) FROM purchases
         WHERE term_cap IS NOT NULL GROUP BY user_id, offer_id, cap_month",
    )
    .execute(&mut *conn)
    .await?;
    let mut book = store::lock_wallets(conn, &[ALICE, BOB, CAROL, DAVE].map(UserId)).await?;
    for (id, (user, _, _, cashback, state, _)) in &made {
        let amount = Money::from_cents(*cashback);
        let cause = |version| Cause::purchase(UserId(*user), *id, version);
        book.track(cause(1), amount)?;
        match *state {
            "confirmed" => book.mature(cause(2), amount)?,
            "rejected" | "reversed" => book.lower_pending(cause(2), shared::ledger::Code::Reverse, amount)?,
            _ => {}
        }
    }
    // What Alice was paid in earlier years.
    let earlier = Uuid::from_u128(0x9d00_0000_0000_4000_8000_0000_0000_0001);
    let cause = Cause { user: UserId(ALICE), subject: earlier, version: 1, purchase: None, payout: None };
    book.open(cause, Account::Paid, Money::from_cents(5_000))?;
    store::write(conn, now, &book).await?;
    let _ = jobs::enqueue(conn, now, &Room::closed(), &waiting).await?;
    Ok(())
}

async fn insert(
    conn: &mut PgConnection,
    now: Timestamp,
    id: PurchaseId,
    number: i64,
    (user, merchant, sale, cashback, state, ago): (Uuid, Uuid, i64, i64, &str, i64),
) -> Result<()> {
    let at = now - Duration::days(ago) - Duration::minutes(number * 7);
    let key = format!("seed-{number:03}");
    let (sale, cashback) = (Decimal::new(sale, 2), Decimal::new(cashback, 2));
    let (word, cashback_state) = match state {
        "pending" => ("tracked", "pending"),
        "confirmed" => ("approved", "available"),
        "rejected" => ("declined", "reversed"),
        _ => ("reversed", "reversed"),
    };
    sqlx::query(
        "INSERT INTO orders (network, group_key, purchase_id, parts)
         VALUES ('self', $1, $2, jsonb_build_object($1, jsonb_build_object('word', $3, 'sale', $4::text, 'trusted', false)))",
    )
    .bind(&key)
    .bind(id.0)
    .bind(word)
    .bind(sale)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted,
             trusted_heard, sale_amount, currency, rate, offer_id, term_kind, term_value, term_basis, term_cap, cap_month,
             raw_award, cashback_state, cashback_amount, occurred_at, created_at, updated_at, confirmed_at, mature_on,
             matures_at, matured_at, awarded)
         SELECT $1, 'self', $2, $3, $4, $5, CASE $5 WHEN 'pending' THEN 1 ELSE 2 END, $6, false, false, $7, 'EUR', 1,
                o.id, o.kind, o.value, o.basis, o.monthly_cap, date_trunc('month', $8 AT TIME ZONE 'UTC')::date, $9, $10,
                CASE WHEN $5 IN ('pending', 'confirmed') THEN $9 ELSE 0 END, $8, $8, $8, c.at, c.mature_on, c.at, c.at, $9
         FROM offers o
         CROSS JOIN (SELECT CASE $5 WHEN 'confirmed' THEN $8 + interval '1 minute' END AS at,
                            CASE $5 WHEN 'confirmed' THEN 'approved' END AS mature_on) AS c
         WHERE o.merchant_id = $4 AND o.active",
    )
    .bind(id.0)
    .bind(&key)
    .bind(user)
    .bind(merchant)
    .bind(state)
    .bind(word)
    .bind(sale)
    .bind(at)
    .bind(cashback)
    .bind(cashback_state)
    .execute(conn)
    .await?;
    Ok(())
}

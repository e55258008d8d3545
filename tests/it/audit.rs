//! The audit finds what is planted, and names it.

use anyhow::Result;
use shared::ledger::audit::{Class, run};
use shared::networks::Word;
use tests::world::{NOON, World, says, shopnet};

/// A world with one matured and one pending purchase, both sound.
async fn sound() -> Result<World> {
    let world = World::new(shopnet()).await?;
    world.shopper("c1").await?;
    sqlx::query("UPDATE offers SET monthly_cap = 100").execute(&world.pool).await?;
    world.hear(says("o1", "c1", Word::Approved, 40_000)).await?;
    world.confirm_and_mature().await?;
    world.hear(says("o2", "c1", Word::Tracked, 20_000)).await?;
    world.books_agree().await?;
    Ok(world)
}

/// Breaks something and says which checks notice.
async fn planted(sql: &'static str) -> Result<Vec<(Class, &'static str)>> {
    let world = sound().await?;
    // Transfers cannot be changed even by their owner: a fault of the disk or a person with root can.
    sqlx::raw_sql("ALTER TABLE transfers DISABLE TRIGGER ALL; ALTER TABLE wallets DROP CONSTRAINT wallets_owed_check")
        .execute(&world.pool)
        .await?;
    sqlx::raw_sql(sql).execute(&world.pool).await?;
    let found = run(&mut *world.pool.acquire().await?, NOON).await?;
    let mut checks: Vec<_> = found.iter().map(|violation| (violation.class, violation.check)).collect();
    checks.sort_unstable();
    checks.dedup();
    Ok(checks)
}

#[tokio::test]
async fn planted_faults_are_found_and_named() -> Result<()> {
    let wallet = (Class::Money, "a wallet's buckets equal its transfers");
    let cashback = (Class::Money, "a purchase's transfers equal its cashback");
    let cap = (Class::Money, "a monthly cap's use equals the cashback given under it, within the cap");
    let payout = (Class::Money, "a payout's transfers are those of its state");
    let held = (Class::Money, "what is held equals the open payouts");
    for (fault, sql, expected) in [
        ("a credit without a transfer", "UPDATE wallets SET available = available + 1", vec![wallet]),
        ("an edited transfer", "UPDATE transfers SET amount = amount + 1 WHERE code = 'mature'", vec![wallet, cashback]),
        (
            "a transfer twice",
            "INSERT INTO transfers (id, user_id, debit_account, credit_account, amount, code, subject_id, version,
                                    purchase_id, created_at)
             SELECT gen_random_uuid(), user_id, debit_account, credit_account, amount, code, subject_id, version + 7,
                    purchase_id, created_at FROM transfers WHERE code = 'track'",
            vec![wallet, cashback],
        ),
        (
            "a negative bucket",
            "UPDATE wallets SET owed = -1",
            vec![wallet, (Class::Money, "no bucket is below zero")],
        ),
        (
            "a wrong pair of accounts",
            "UPDATE transfers SET debit_account = 'fees' WHERE code = 'track'",
            vec![cashback, (Class::Money, "a transfer moves between the accounts of its code")],
        ),
        (
            "a movement under another subject",
            "UPDATE transfers SET subject_id = md5(id::text)::uuid WHERE code = 'track'",
            vec![(Class::Money, "what moves a purchase's cashback has the purchase as its subject")],
        ),
        ("an edited cashback", "UPDATE purchases SET cashback_amount = 1 WHERE state = 'pending'", vec![cap, cashback]),
        ("an edited cap", "UPDATE cashback_caps SET used = 1", vec![cap]),
        (
            "a state from nowhere",
            "UPDATE purchases SET state = 'rejected' WHERE state = 'pending'",
            vec![(Class::Money, "a purchase and its cashback are in states that go together")],
        ),
        (
            "a payout without a hold",
            "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, requested_at, updated_at)
             SELECT gen_random_uuid(), id, 5, 'bank_transfer', 'manual', 'auto', 'requested', 1, now(), now() FROM users",
            vec![payout, held],
        ),
        (
            "a lost purchase",
            "UPDATE orders SET purchase_id = NULL WHERE group_key = 'o2'",
            vec![(Class::Money, "an order and its purchase name each other")],
        ),
        (
            "a lost job",
            "DELETE FROM jobs WHERE queue = 'confirm'",
            vec![(Class::Liveness, "what is under way has a job")],
        ),
    ] {
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(planted(sql).await?, expected, "{fault}");
    }
    Ok(())
}

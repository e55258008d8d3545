//! What profile contract brings (contract §11).

use anyhow::Result;
use tests::contract::profile::fill;
use tests::database::fresh;
use tests::world::NOON;

#[tokio::test]
async fn profile_contract_has_the_accounts_balances_and_shops_of_section_11() -> Result<()> {
    let pool = fresh().await?.pool;
    fill(&pool, NOON).await?;
    // Once more changes nothing.
    fill(&pool, NOON).await?;
    let wallets: Vec<(String, String)> = sqlx::query_as(
        "SELECT split_part(u.email, '@', 1), CASE WHEN w.user_id IS NULL THEN 'none' ELSE format('%s/%s/%s', w.pending, w.available, w.paid) END
         FROM users u LEFT JOIN wallets w ON w.user_id = u.id WHERE u.email_verified_at IS NOT NULL ORDER BY 1",
    )
    .fetch_all(&pool)
    .await?;
    let expected = [
        ("alice", "19.05/15.00/50.00"),
        ("bob", "10.88/6.00/0.00"),
        ("carol", "12.00/0.00/0.00"),
        ("dave", "11.25/0.00/0.00"),
        ("jero", "none"),
    ];
    assert_eq!(wallets, expected.map(|(name, wallet)| (name.to_owned(), wallet.to_owned())));
    let counts: (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM merchants), (SELECT count(*) FROM offers), (SELECT count(*) FROM purchases),
                (SELECT count(*) FROM feature_flags)",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(counts, (28, 29, 15, 3));
    let violations = shared::ledger::audit::whole(&pool, shared::clock::Clock::System.now()).await?;
    assert!(
        violations.iter().all(|found| found.check == "no due job waits for longer than ten minutes"),
        "{violations:?}"
    );
    Ok(())
}

//! The wallet (contract §1, §2 rows 20 and 21, §19).

use anyhow::Result;
use serde_json::json;
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB, CAROL, JERO, SHOPLY};

use super::{admin, balances, buy, hold, keys, refused, run, shopper};

#[tokio::test]
async fn row_20_three_balances_and_zero_without_a_wallet() -> Result<()> {
    let site = Site::start().await?;
    let none = admin(&site, JERO).get("/users/me/wallet").await?;
    assert_eq!(
        none.body,
        json!({"pending_balance": "0", "available_balance": "0", "paid_balance": "0"}),
        "contract §1"
    );
    buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let wallet = shopper(&site, ALICE).get("/users/me/wallet").await?;
    assert_eq!(
        (wallet.status, wallet.body),
        (200, json!({"pending_balance": "5.00", "available_balance": "0.00", "paid_balance": "0.00"}))
    );
    site.work().await?;
    buy(&site, "o-2", ALICE, SHOPLY, "20").await?;
    assert_eq!(balances(&site, ALICE).await?, ["1.00", "5.00", "0.00"]);
    assert_eq!(refused(&site.anonymous().get("/users/me/wallet").await?), (401, "INVALID_TOKEN"));
    site.books_agree().await
}

#[tokio::test]
async fn row_21_one_transaction_a_purchase_in_its_cashbacks_state() -> Result<()> {
    let site = Site::start().await?;
    let matured = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    site.work().await?;
    let reversed = buy(&site, "o-2", ALICE, SHOPLY, "60").await?;
    admin(&site, CAROL).patch(&format!("/purchases/{reversed}/reverse"), json!(null)).await?;
    let nothing = buy(&site, "o-3", ALICE, SHOPLY, "0.10").await?;
    buy(&site, "o-4", BOB, SHOPLY, "100").await?;
    let page = shopper(&site, ALICE).get("/users/me/wallet/transactions").await?;
    assert_eq!(page.body["pagination"], json!({"offset": 0, "limit": 10, "total": 3}));
    assert_eq!(keys(&page.body["data"][0]), ["amount", "id", "related_purchase_id", "status", "type"]);
    let row = |id: &str, amount: &str, status: &str| json!({"id": id, "type": "cashback_credit", "amount": amount, "status": status, "related_purchase_id": id});
    let mut expected =
        [row(&nothing, "0.00", "pending"), row(&reversed, "3.00", "reversed"), row(&matured, "5.00", "available")];
    // All of one moment: the newest id first.
    expected.sort_by_key(|row| std::cmp::Reverse(row["id"].to_string()));
    assert_eq!(page.body["data"], json!(expected));
    let part = shopper(&site, ALICE).get("/users/me/wallet/transactions?offset=1&limit=1").await?;
    assert_eq!(part.body["data"], json!([expected[1]]));
    let wrong = shopper(&site, ALICE).get("/users/me/wallet/transactions?limit=101").await?;
    assert_eq!(refused(&wrong), (422, "VALIDATION_ERROR"));
    Ok(())
}

#[tokio::test]
async fn details_tell_every_balance_and_why() -> Result<()> {
    let site = Site::start().await?;
    let none = admin(&site, JERO).get("/users/me/wallet/details").await?.body;
    assert_eq!((&none["owed"], &none["held_by"]), (&json!("0.00"), &json!([])));
    buy(&site, "o-1", ALICE, SHOPLY, "1000").await?;
    site.work().await?;
    let payout = hold(&site, ALICE, 20, "requested").await?;
    run(
        &site,
        "UPDATE networks SET verifier = 'manual', hold_seconds = 10 * 86400, mature_on = 'paid'
                WHERE name = 'self'",
    )
    .await?;
    let waits = buy(&site, "o-2", ALICE, SHOPLY, "40").await?;
    admin(&site, CAROL).post(&format!("/purchases/{waits}/confirmation"), json!({})).await?;
    let details = shopper(&site, ALICE).get("/users/me/wallet/details").await?.body;
    assert_eq!(
        details,
        json!({
            "pending": "2.00", "available": "30.00", "held": "20.00", "paid": "0.00", "owed": "0.00",
            "held_by": [{
                "payout_id": payout, "amount": "20.00", "status": "requested", "requested_at": "2026-11-22T12:00:00Z",
            }],
            "owed_for": [],
            "next_available": [{
                "purchase_id": waits, "merchant_name": "Shoply", "amount": "2.00",
                "expected_at": "2026-12-02T12:00:00Z", "waits_for_payment": true,
            }],
        })
    );
    assert_eq!(refused(&site.anonymous().get("/users/me/wallet/details").await?), (401, "INVALID_TOKEN"));
    site.books_agree().await
}

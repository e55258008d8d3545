//! Cashback through HTTP: rounding, freezing, the monthly cap (contract §6, §18.7; design §7).

use anyhow::Result;
use rust_decimal::Decimal;
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB, QUICKCART, SHOPLY};
use tokio::task::JoinSet;

use super::{balances, body, buy, run, shopper};

async fn cashback(site: &Site, key: &str, amount: &str) -> Result<String> {
    let answer = shopper(site, ALICE).post("/purchases/", body(key, ALICE, SHOPLY, amount)).await?;
    Ok(answer.body["cashback_amount"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn section_6_cashback_is_rounded_half_to_even() -> Result<()> {
    let site = Site::start().await?;
    for (key, amount, expected) in [("a", "100.50", "5.02"), ("b", "12.30", "0.62"), ("c", "0.10", "0.00")] {
        assert_eq!(cashback(&site, key, amount).await?, expected, "{amount} at 5 %");
    }
    for (key, value, expected) in [("d", "7.555", "7.56"), ("e", "1.005", "1.00")] {
        sqlx::query("UPDATE offers SET kind = 'fixed', value = $1::numeric").bind(value).execute(&site.pool).await?;
        // Independent of the amount, which it may exceed.
        assert_eq!(cashback(&site, key, "0.01").await?, expected, "{value} fixed");
    }
    assert_eq!(balances(&site, ALICE).await?, ["14.20", "0.00", "0.00"]);
    site.books_agree().await
}

#[tokio::test]
async fn section_6_cashback_is_frozen_when_the_purchase_comes() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    run(&site, "UPDATE offers SET value = 20, active = false; UPDATE merchants SET active = false").await?;
    site.work().await?;
    let seen = shopper(&site, ALICE).get(&format!("/purchases/{id}")).await?;
    assert_eq!((&seen.body["status"], &seen.body["cashback_amount"]), (&"confirmed".into(), &"5.00".into()));
    site.books_agree().await
}

#[tokio::test]
async fn section_6_the_monthly_cap_shortens_the_cashback_and_the_purchase_is_accepted() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE offers SET monthly_cap = 7.50").await?;
    for (key, expected) in [("a", "5.00"), ("b", "2.50"), ("c", "0.00")] {
        assert_eq!(cashback(&site, key, "100").await?, expected);
    }
    // Another shopper, and another offer, have room of their own.
    buy(&site, "d", BOB, SHOPLY, "100").await?;
    assert_eq!(balances(&site, BOB).await?[0], "5.00");
    buy(&site, "e", ALICE, QUICKCART, "100").await?;
    assert_eq!(balances(&site, ALICE).await?[0], "10.50");
    // The next month, by the time of receipt, begins anew.
    site.clock.advance(time::Duration::days(9));
    assert_eq!(cashback(&site, "f", "100").await?, "5.00");
    site.books_agree().await
}

#[tokio::test]
async fn section_6_many_purchases_at_once_share_one_cap_to_the_cent() -> Result<()> {
    let site = Site::start().await?;
    run(&site, "UPDATE offers SET monthly_cap = 33.33").await?;
    let alice = shopper(&site, ALICE);
    let mut all = JoinSet::new();
    for index in 0..32 {
        let alice = alice.clone();
        all.spawn(async move { alice.post("/purchases/", body(&format!("o-{index}"), ALICE, SHOPLY, "55.50")).await });
    }
    let mut given = Decimal::ZERO;
    for answer in all.join_all().await {
        let answer = answer?;
        assert_eq!(answer.status, 201, "{}", answer.body);
        given += answer.body["cashback_amount"].as_str().unwrap_or_default().parse::<Decimal>()?;
    }
    assert_eq!(given, Decimal::new(3333, 2));
    site.books_agree().await
}

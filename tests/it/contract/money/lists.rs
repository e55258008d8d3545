//! Lists of purchases, and one (contract §1, §2 rows 15, 16 and 19, §19).

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::seed::{ALICE, BOB, CAROL, DAVE, QUICKCART, SHOPLY};
use tests::contract::{Answer, Site};

use super::{admin, buy, keys, refused, run, shopper};

fn ids(answer: &Answer) -> Vec<String> {
    let rows = answer.body["data"].as_array().cloned().unwrap_or_default();
    rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect()
}

/// Six purchases of two shoppers at two shops, one a day; the newest first.
async fn some(site: &Site) -> Result<Vec<String>> {
    let mut made = Vec::new();
    for (index, (user, merchant)) in
        [(ALICE, SHOPLY), (BOB, SHOPLY), (ALICE, QUICKCART), (ALICE, SHOPLY), (BOB, QUICKCART), (ALICE, SHOPLY)]
            .into_iter()
            .enumerate()
    {
        made.insert(0, buy(site, &format!("o-{index}"), user, merchant, "100").await?);
        site.clock.advance(time::Duration::days(1));
    }
    Ok(made)
}

#[tokio::test]
async fn row_15_administrators_see_all_purchases_newest_first() -> Result<()> {
    let site = Site::start().await?;
    let made = some(&site).await?;
    let page = admin(&site, CAROL).get("/purchases/").await?;
    assert_eq!(page.status, 200);
    assert_eq!(ids(&page), made);
    assert_eq!(page.body["pagination"], json!({"offset": 0, "limit": 10, "total": 6}));
    let row = &page.body["data"][5];
    assert_eq!(
        keys(row),
        ["amount", "created_at", "currency", "external_id", "id", "merchant_id", "offer_id", "status", "user_id"]
    );
    assert_eq!((&row["amount"], &row["external_id"]), (&json!("100.00"), &json!("o-0")));
    assert_eq!((&row["created_at"], &row["currency"]), (&json!("2026-11-22T12:00:00Z"), &json!("EUR")));
    assert!(row["offer_id"].is_string());
    for session in [shopper(&site, ALICE), site.anonymous()] {
        assert_eq!(refused(&session.get("/purchases/").await?), (401, "INVALID_TOKEN"));
    }
    Ok(())
}

#[tokio::test]
async fn row_15_every_filter_narrows_and_they_combine() -> Result<()> {
    let site = Site::start().await?;
    let made = some(&site).await?;
    run(
        &site,
        "UPDATE purchases SET state = 'rejected', cashback_state = 'reversed', cashback_amount = 0
                WHERE group_key IN ('o-0', 'o-1')",
    )
    .await?;
    let carol = admin(&site, CAROL);
    let alice = ALICE;
    for (query, expected) in [
        ("status=rejected".to_owned(), vec![4, 5]),
        (format!("user_id={alice}"), vec![0, 2, 3, 5]),
        (format!("merchant_id={QUICKCART}"), vec![1, 3]),
        (format!("user_id={alice}&merchant_id={SHOPLY}&status=pending"), vec![0, 2]),
        ("start_date=2026-11-23&end_date=2026-11-24".to_owned(), vec![3, 4]),
        ("start_date=2026-11-27".to_owned(), vec![0]),
        ("end_date=2026-11-22T00:00:00".to_owned(), vec![5]),
        ("start_date=2026-11-24&end_date=2026-11-23".to_owned(), vec![]),
        ("end_date=9999-12-31".to_owned(), vec![0, 1, 2, 3, 4, 5]),
        ("user_id=nobody".to_owned(), vec![]),
        ("merchant_id=".to_owned(), vec![]),
        ("offset=4&limit=1".to_owned(), vec![4]),
        ("offset=100".to_owned(), vec![]),
    ] {
        let page = carol.get(&format!("/purchases/?{query}")).await?;
        assert_eq!(page.status, 200, "{query}: {}", page.body);
        assert_eq!(
            ids(&page),
            expected.iter().map(|index: &usize| made[*index].clone()).collect::<Vec<_>>(),
            "{query}"
        );
        let total = &page.body["pagination"]["total"];
        let whole = if query.starts_with("offset") { 6 } else { expected.len() };
        assert_eq!(*total, whole, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_15_and_19_bad_queries_are_told() -> Result<()> {
    let site = Site::start().await?;
    for (session, path) in [(admin(&site, CAROL), "/purchases/"), (shopper(&site, ALICE), "/users/me/purchases")] {
        for word in ["", "PENDING", "paid", "pending%20"] {
            let answer = session.get(&format!("{path}?status={word}")).await?;
            assert_eq!(refused(&answer), (422, "INVALID_PURCHASE_STATUS"), "{path} {word}");
            assert_eq!(answer.details(), &json!({}));
        }
        for wrong in ["limit=0", "limit=101", "offset=-1", "limit=x"] {
            let answer = session.get(&format!("{path}?{wrong}")).await?;
            assert_eq!(refused(&answer), (422, "VALIDATION_ERROR"), "{path} {wrong}");
        }
        for word in ["pending", "confirmed", "rejected", "reversed"] {
            assert_eq!(session.get(&format!("{path}?status={word}&limit=100")).await?.status, 200);
        }
    }
    let carol = admin(&site, CAROL);
    for wrong in ["start_date=yesterday", "end_date=2026-02-30", "end_date=2026-11-22T10:00:00"] {
        let answer = carol.get(&format!("/purchases/?{wrong}")).await?;
        assert_eq!(refused(&answer), (422, "VALIDATION_ERROR"), "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn row_16_only_its_shopper_sees_a_purchase() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let seen = shopper(&site, ALICE).get(&format!("/purchases/{id}")).await?;
    assert_eq!(seen.status, 200);
    assert_eq!(
        seen.body,
        json!({
            "id": id, "merchant_name": "Shoply", "amount": "100.00", "status": "pending", "cashback_amount": "5.00",
            "cashback_status": "pending", "created_at": "2026-11-22T12:00:00Z",
        })
    );
    for (session, current) in [(shopper(&site, BOB), BOB), (admin(&site, CAROL), CAROL)] {
        let answer = session.get(&format!("/purchases/{id}")).await?;
        assert_eq!(refused(&answer), (403, "FORBIDDEN"));
        let details = json!({"purchase_id": id, "resource_owner": ALICE, "current_user": current});
        assert_eq!(answer.details(), &details);
    }
    for unknown in ["nonsense", "7", "00000000-0000-0000-0000-000000000000"] {
        let answer = shopper(&site, BOB).get(&format!("/purchases/{unknown}")).await?;
        assert_eq!(refused(&answer), (404, "NOT_FOUND"), "before any 403");
        assert_eq!(answer.details(), &json!({"resource_type": "purchase", "resource_id": unknown}));
    }
    Ok(())
}

#[tokio::test]
async fn row_16_a_purchase_without_cashback_has_no_cashback_status() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    // As intake leaves a network's purchase at a shop without an offer; its sale is in another currency.
    run(
        &site,
        "UPDATE purchases SET offer_id = NULL, cashback_state = NULL, cashback_amount = 0, awarded = 0,
                              sale_amount = 1234.567, currency = 'KWD'",
    )
    .await?;
    let seen = shopper(&site, ALICE).get(&format!("/purchases/{id}")).await?.body;
    assert_eq!((&seen["cashback_status"], &seen["cashback_amount"]), (&Value::Null, &json!("0.00")));
    assert_eq!(seen["amount"], "1234.567", "as stored");
    assert_eq!(admin(&site, CAROL).get("/purchases/").await?.body["data"][0]["offer_id"], Value::Null);
    assert_eq!(shopper(&site, ALICE).get("/users/me/wallet/transactions").await?.body["data"], json!([]));
    Ok(())
}

#[tokio::test]
async fn row_19_a_shopper_sees_their_own_purchases_only() -> Result<()> {
    let site = Site::start().await?;
    let made = some(&site).await?;
    let alice = shopper(&site, ALICE);
    let mine = alice.get("/users/me/purchases").await?;
    let expected: Vec<_> = [0, 2, 3, 5].map(|index: usize| made[index].clone()).to_vec();
    assert_eq!(ids(&mine), expected);
    assert_eq!(mine.body["pagination"], json!({"offset": 0, "limit": 10, "total": 4}));
    assert_eq!(
        keys(&mine.body["data"][0]),
        ["amount", "cashback_amount", "cashback_status", "created_at", "id", "merchant_name", "status"]
    );
    // §16: paging by rows seen, with a stable order and total.
    let mut seen = Vec::new();
    loop {
        let page = alice.get(&format!("/users/me/purchases?limit=3&offset={}", seen.len())).await?;
        seen.extend(ids(&page));
        if page.body["pagination"]["total"].as_u64() <= Some(seen.len() as u64) {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(alice.get("/users/me/purchases?status=pending").await?.body["pagination"]["total"], 4);
    assert_eq!(alice.get("/users/me/purchases?status=reversed").await?.body["pagination"]["total"], 0);
    assert_eq!(refused(&site.anonymous().get("/users/me/purchases").await?), (401, "INVALID_TOKEN"));
    assert_eq!(shopper(&site, DAVE).get("/users/me/purchases").await?.body["data"], json!([]));
    Ok(())
}

#[tokio::test]
async fn purchases_of_one_moment_have_a_stable_order() -> Result<()> {
    let site = Site::start().await?;
    for index in 0..7 {
        buy(&site, &format!("o-{index}"), ALICE, SHOPLY, "1").await?;
    }
    let carol = admin(&site, CAROL);
    let whole = ids(&carol.get("/purchases/").await?);
    let mut paged = Vec::new();
    for offset in 0..7 {
        paged.extend(ids(&carol.get(&format!("/purchases/?limit=1&offset={offset}")).await?));
    }
    assert_eq!(paged, whole);
    Ok(())
}

#[tokio::test]
async fn section_19_a_total_is_exact_to_100_000_and_a_minute_old_above() -> Result<()> {
    let site = Site::start().await?;
    buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    run(
        &site,
        "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted,
                                trusted_heard, sale_amount, currency, raw_award, cashback_amount, occurred_at, created_at,
                                updated_at)
         SELECT gen_random_uuid(), 'self', 'many-' || n, user_id, merchant_id, 'confirmed', 1, 'tracked', false, false, 1,
                'EUR', 0, 0, occurred_at, created_at - n * interval '1 second', updated_at
         FROM purchases, generate_series(1, 99999) AS n",
    )
    .await?;
    run(&site, "ANALYZE purchases").await?;
    let carol = admin(&site, CAROL);
    let total = async || anyhow::Ok(carol.get("/purchases/?limit=1").await?.body["pagination"]["total"].clone());
    assert_eq!(total().await?, 100_000);
    buy(&site, "o-2", ALICE, SHOPLY, "100").await?;
    assert_eq!(total().await?, 100_001);
    buy(&site, "o-3", ALICE, SHOPLY, "100").await?;
    assert_eq!(total().await?, 100_001, "from the counter");
    assert_eq!(carol.get("/purchases/?status=pending").await?.body["pagination"]["total"], 3, "a counter each filter");
    site.clock.advance(time::Duration::seconds(60));
    assert_eq!(total().await?, 100_002);
    // One's own list is always exact.
    assert_eq!(shopper(&site, ALICE).get("/users/me/purchases").await?.body["pagination"]["total"], 100_002);
    Ok(())
}

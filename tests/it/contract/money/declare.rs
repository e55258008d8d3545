//! `POST /purchases/` step by step (contract §2 row 14, §2.1).

use anyhow::Result;
use serde_json::{Value, json};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB, CAROL, QUICKCART, SHOPLY};

use super::{admin, balances, body, buy, count, keys, refused, run, shopper};

/// What must not change when a call is refused.
async fn stored(site: &Site) -> Result<Vec<i64>> {
    let mut counts = Vec::new();
    for table in
        ["deliveries", "delivery_keys", "delivery_results", "orders", "reports", "purchases", "transfers", "jobs"]
    {
        counts.push(count(site, table).await?);
    }
    Ok(counts)
}

#[tokio::test]
async fn row_14_a_declared_purchase_is_pending_with_its_cashback() -> Result<()> {
    let site = Site::start().await?;
    let answer = shopper(&site, ALICE).post("/purchases/", body("o-1", ALICE, SHOPLY, "100.50")).await?;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(keys(&answer.body), ["cashback_amount", "id", "status"]);
    assert_eq!((&answer.body["status"], &answer.body["cashback_amount"]), (&json!("pending"), &json!("5.02")));
    assert_eq!(balances(&site, ALICE).await?, ["5.02", "0.00", "0.00"]);
    // Every cent walks delivery → report → purchase → transfer, and a job follows.
    assert_eq!(stored(&site).await?, [1, 1, 1, 1, 1, 1, 1, 2]);
    let report: (uuid::Uuid, bool, String) =
        sqlx::query_as("SELECT user_id, trusted, advertiser FROM reports").fetch_one(&site.pool).await?;
    assert_eq!(report, (ALICE, false, SHOPLY.to_string()));
    site.books_agree().await
}

#[tokio::test]
async fn section_1_both_spellings_of_the_collection_are_served() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    assert_eq!(alice.post("/purchases", body("o-1", ALICE, SHOPLY, "1")).await?.status, 201);
    assert_eq!(admin(&site, CAROL).get("/purchases").await?.body["pagination"]["total"], 1);
    assert_eq!(admin(&site, CAROL).get("/purchases/").await?.body["pagination"]["total"], 1);
    Ok(())
}

#[tokio::test]
async fn section_2_1_step_1_every_wrong_field_is_named() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let answer = alice.post("/purchases/", json!({})).await?;
    assert_eq!(refused(&answer), (422, "VALIDATION_ERROR"));
    let fields: Vec<&Value> =
        answer.details()["violations"].as_array().unwrap().iter().map(|violation| &violation["field"]).collect();
    assert_eq!(fields, ["external_id", "user_id", "merchant_id", "amount", "currency"]);
    let long = "x".repeat(501);
    for (field, value) in [
        ("external_id", json!("")),
        ("external_id", json!("a\0b")),
        ("external_id", json!(long)),
        ("external_id", json!(7)),
        ("user_id", json!("not-a-uuid")),
        ("merchant_id", json!(null)),
        ("currency", json!("EU")),
        ("currency", json!("EURO")),
        ("amount", json!(true)),
        ("amount", json!(null)),
        ("amount", json!("NaN")),
        ("amount", json!("Infinity")),
        ("amount", json!("")),
        ("amount", json!(0)),
        ("amount", json!(-1)),
        ("amount", json!(12.345)),
        ("amount", json!("7.00000")),
        ("amount", json!("10000000000")),
        ("amount", json!([1])),
    ] {
        let mut wrong = body("o-1", ALICE, SHOPLY, "10");
        wrong[field] = value.clone();
        let answer = alice.post("/purchases/", wrong).await?;
        assert_eq!(refused(&answer), (422, "VALIDATION_ERROR"), "{field} {value}");
        assert_eq!(answer.details()["violations"][0]["field"], field, "{value}");
    }
    assert_eq!(stored(&site).await?, [0; 8]);
    Ok(())
}

#[tokio::test]
async fn section_2_1_step_1_lax_input_is_taken() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let lax = [json!(1), json!(2.5), json!("7.5"), json!(" 7.50 "), json!("1e2"), json!("9999999999.99")];
    for (index, amount) in lax.into_iter().enumerate() {
        let mut declared = body(&format!("o {index}"), ALICE, QUICKCART, "");
        declared["amount"] = amount.clone();
        declared["user_id"] = json!(format!("{{{}}}", ALICE.to_string().to_uppercase()));
        declared["unknown"] = json!("ignored");
        assert_eq!(alice.post("/purchases/", declared).await?.status, 201, "{amount}");
    }
    let longest = "ä".repeat(500);
    assert_eq!(alice.post("/purchases/", body(&longest, ALICE, SHOPLY, "1")).await?.status, 201);
    let amounts: Vec<String> = sqlx::query_scalar("SELECT sale_amount::numeric(19,2)::text FROM purchases ORDER BY id")
        .fetch_all(&site.pool)
        .await?;
    assert_eq!(amounts, ["1.00", "2.50", "7.50", "7.50", "100.00", "9999999999.99", "1.00"]);
    Ok(())
}

#[tokio::test]
async fn section_2_1_step_2_nobody_buys_for_others_administrators_included() -> Result<()> {
    let site = Site::start().await?;
    for caller in [shopper(&site, BOB), admin(&site, CAROL)] {
        let answer = caller.post("/purchases/", body("o-1", ALICE, SHOPLY, "10")).await?;
        assert_eq!(refused(&answer), (403, "FORBIDDEN"));
        assert_eq!(keys(answer.details()), ["reason"]);
    }
    Ok(())
}

#[tokio::test]
async fn section_2_1_step_3_a_key_is_used_once_by_anyone_whatever_else_is_said() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "Key 1 ", ALICE, SHOPLY, "100.5").await?;
    site.clock.advance(time::Duration::seconds(5));
    let before = stored(&site).await?;
    // Another shopper, currency, merchant and amount: the duplicate is told before any of them is looked at.
    let mut again = body("Key 1 ", BOB, uuid::Uuid::now_v7(), "7");
    again["currency"] = json!("USD");
    let answer = shopper(&site, BOB).post("/purchases/", again).await?;
    assert_eq!(refused(&answer), (409, "DUPLICATE_PURCHASE"));
    let details = answer.details();
    assert_eq!(keys(details), ["action", "external_id", "previously_created_at", "previously_processed_amount"]);
    assert_eq!(details["external_id"], "Key 1 ");
    assert_eq!(details["previously_created_at"], "2026-11-22T12:00:00Z");
    assert_eq!(details["previously_processed_amount"], "100.50");
    assert!(!answer.body.to_string().contains(&id), "the earlier purchase's id is not told");
    assert_eq!(stored(&site).await?, before);
    // Verbatim: another case and another blank are other keys.
    for other in ["key 1 ", "Key 1"] {
        buy(&site, other, BOB, SHOPLY, "1").await?;
    }
    site.books_agree().await
}

#[tokio::test]
async fn section_2_1_step_4_only_euros_stored_as_sent() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let mut dollars = body("o-1", ALICE, uuid::Uuid::now_v7(), "10");
    dollars["currency"] = json!("usd");
    // Before the merchant is looked at.
    let answer = alice.post("/purchases/", dollars).await?;
    assert_eq!(refused(&answer), (422, "UNSUPPORTED_CURRENCY"));
    assert_eq!((keys(answer.details()), &answer.details()["currency"]), (vec!["currency", "reason"], &json!("usd")));
    let mut euros = body("o-1", ALICE, SHOPLY, "10");
    euros["currency"] = json!("eur");
    assert_eq!(alice.post("/purchases/", euros).await?.status, 201);
    assert_eq!(admin(&site, CAROL).get("/purchases/").await?.body["data"][0]["currency"], "eur");
    Ok(())
}

#[tokio::test]
async fn section_2_1_steps_6_and_7_the_merchant_takes_part_and_has_an_offer_today() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let unknown = alice.post("/purchases/", body("o-1", ALICE, uuid::Uuid::now_v7(), "10")).await?;
    assert_eq!(refused(&unknown), (422, "MERCHANT_NOT_ELIGIBLE"));
    assert_eq!(keys(unknown.details()), ["merchant_id", "reason"]);
    for (change, code) in [
        ("UPDATE merchants SET active = false", "MERCHANT_NOT_ELIGIBLE"),
        ("UPDATE merchants SET active = true; UPDATE offers SET active = false", "OFFER_NOT_AVAILABLE"),
        ("UPDATE offers SET active = true, end_date = '2026-11-21'", "OFFER_NOT_AVAILABLE"),
        ("UPDATE offers SET start_date = '2026-11-23', end_date = '2026-12-31'", "OFFER_NOT_AVAILABLE"),
    ] {
        run(&site, change).await?;
        let answer = alice.post("/purchases/", body("o-1", ALICE, SHOPLY, "10")).await?;
        assert_eq!(refused(&answer), (422, code), "{change}");
        assert_eq!(
            (keys(answer.details()), &answer.details()["merchant_id"]),
            (vec!["merchant_id", "reason"], &json!(SHOPLY))
        );
        assert_eq!(stored(&site).await?, [0; 8], "a refused call stores nothing: {change}");
    }
    // Both days of an offer are inside, and the key is still free.
    run(&site, "UPDATE offers SET start_date = '2026-11-22', end_date = '2026-11-22'").await?;
    buy(&site, "o-1", ALICE, SHOPLY, "10").await?;
    Ok(())
}

#[tokio::test]
async fn section_1_who_calls_is_checked_before_what_is_said() -> Result<()> {
    let site = Site::start().await?;
    let answer = site.anonymous().post("/purchases/", json!({"nonsense": 1})).await?;
    assert_eq!(refused(&answer), (401, "INVALID_TOKEN"));
    run(&site, "UPDATE users SET active = false WHERE email LIKE 'bob@%'").await?;
    let answer = shopper(&site, BOB).post("/purchases/", body("o-1", BOB, SHOPLY, "10")).await?;
    assert_eq!(refused(&answer), (401, "USER_INACTIVE"));
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_gives_the_first_answer_again_and_stays_with_its_request() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let send = async |key: &str, said: Value| {
        alice.call(reqwest::Method::POST, "/purchases/", Some(said.to_string()), &[("idempotency-key", key)]).await
    };
    let first = send("k1", body("o-1", ALICE, SHOPLY, "10")).await?;
    let again = send("k1", body("o-1", ALICE, SHOPLY, "10")).await?;
    assert_eq!((first.status, again.status, &first.body), (201, 201, &again.body));
    assert_eq!(count(&site, "purchases").await?, 1);
    let other = send("k1", body("o-2", ALICE, SHOPLY, "10")).await?;
    assert_eq!(refused(&other), (422, "IDEMPOTENCY_KEY_REUSED"));
    // Without the key, or under another one, it is a duplicate as ever.
    let plain = send("k2", body("o-1", ALICE, SHOPLY, "10")).await?;
    assert_eq!(refused(&plain), (409, "DUPLICATE_PURCHASE"));
    site.books_agree().await
}

#[tokio::test]
async fn section_19_keys_of_other_networks_are_their_own() -> Result<()> {
    let site = Site::start().await?;
    run(
        &site,
        "INSERT INTO networks (name, adapter, verifier, hold_seconds, created_at)
         VALUES ('awin', 'awin', 'as_reported', 0, now());
         INSERT INTO orders (network, group_key) VALUES ('awin', 'o-1')",
    )
    .await?;
    buy(&site, "o-1", ALICE, SHOPLY, "10").await?;
    Ok(())
}

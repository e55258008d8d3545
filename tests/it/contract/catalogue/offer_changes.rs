//! Contract §2 row 13, §13 O-02, §15, §18.6.

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::contract::{Session, Site, seed};
use time::Duration;
use uuid::Uuid;

use super::offers::{draft, draft_with, offer};
use super::{admin, audited, fields, merchant, purchase};

async fn switch(admin: &Session, id: &str, status: &str) -> Result<tests::contract::Answer> {
    admin.patch(&format!("/offers/{id}/status"), json!({"status": status})).await
}

/// Two offers of one merchant, the second active.
async fn two(site: &Site, admin: &Session) -> Result<(String, String)> {
    let nook = merchant(admin, "Nook").await?;
    let first = offer(site, admin, &nook).await?;
    switch(admin, &first, "inactive").await?;
    Ok((first, offer(site, admin, &nook).await?))
}

#[tokio::test]
async fn row_13_switching_is_idempotent_and_audited_once() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let nook = merchant(&admin, "Nook").await?;
    let id = offer(&site, &admin, &nook).await?;
    for status in ["active", "inactive", "inactive", "active"] {
        let answer = switch(&admin, &id, status).await?;
        assert_eq!((answer.status, answer.body), (200, json!({"id": id, "status": status})));
    }
    assert_eq!(audited(&site, &id).await?, ["OFFER_CREATED", "OFFER_DEACTIVATED", "OFFER_ACTIVATED"]);
    assert_eq!(fields(&switch(&admin, &id, "paused").await?), ["status"]);
    let nobody = Uuid::now_v7().to_string();
    let answer = switch(&admin, &nobody, "active").await?;
    assert_eq!((answer.status, answer.details()), (404, &json!({"resource_type": "offer", "resource_id": nobody})));
    Ok(())
}

#[tokio::test]
async fn section_18_6_a_second_active_offer_is_refused() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (first, second) = two(&site, &admin).await?;
    let refused = switch(&admin, &first, "active").await?;
    assert_eq!((refused.status, refused.code()), (409, "ACTIVE_OFFER_ALREADY_EXISTS"));
    switch(&admin, &second, "inactive").await?;
    assert_eq!(switch(&admin, &first, "active").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn section_18_6_of_32_callers_who_activate_two_offers_one_offer_wins() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (first, second) = two(&site, &admin).await?;
    for _ in 0..3 {
        switch(&admin, &first, "inactive").await?;
        switch(&admin, &second, "inactive").await?;
        let calls = (0..32).map(|n| switch(&admin, if n % 2 == 0 { &first } else { &second }, "active"));
        let answers = try_join_all(calls).await?;
        // All callers of the one that won are told so, all others that there is one.
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        let lost = answers.iter().filter(|answer| answer.code() == "ACTIVE_OFFER_ALREADY_EXISTS").count();
        assert_eq!((won, lost), (16, 16));
        let active: i64 = sqlx::query_scalar("SELECT count(*) FROM offers WHERE active AND id::text IN ($1, $2)")
            .bind(&first)
            .bind(&second)
            .fetch_one(&site.pool)
            .await?;
        assert_eq!(active, 1);
    }
    Ok(())
}

#[tokio::test]
async fn section_15_an_offer_is_changed_under_the_rules_of_new_ones() -> Result<()> {
    let site = Site::start().await?;
    let nook = merchant(&admin(&site), "Nook").await?;
    let id = offer(&site, &admin(&site), &nook).await?;
    let path = format!("/offers/{id}");
    let first = site.now().date();
    site.clock.advance(Duration::days(3));
    let admin = admin(&site);
    let day = |days: i64| (first + Duration::days(days)).to_string();
    // Its first day is past and stays.
    let changed = admin
        .patch(&path, json!({"cashback_value": "6.25", "end_date": day(40), "monthly_cap": 12.5, "start_date": null}))
        .await?;
    let expected = json!({
        "id": id, "merchant_id": nook, "cashback_type": "percent", "cashback_value": 6.25, "start_date": day(0),
        "end_date": day(40), "monthly_cap_per_user": 12.5, "status": "active",
    });
    assert_eq!((changed.status, &changed.body), (200, &expected));
    assert_eq!(admin.patch(&path, json!({})).await?.body, expected);
    for (body, status, broken) in [
        (json!({"cashback_value": 21}), 400, "cashback_value"),
        (json!({"cashback_value": 0}), 400, "cashback_value"),
        (json!({"start_date": day(2)}), 400, "start_date"),
        (json!({"start_date": day(50)}), 400, "end_date"),
        (json!({"end_date": "2020-01-01"}), 400, "end_date"),
        (json!({"monthly_cap": -1}), 400, "monthly_cap"),
        (json!({"monthly_cap": 0.001}), 422, "monthly_cap"),
        (json!({"cashback_value": 0.00001}), 422, "cashback_value"),
        (json!({"cashback_value": "9e12"}), 422, "cashback_value"),
    ] {
        let answer = admin.patch(&path, body.clone()).await?;
        assert_eq!(
            (answer.status, answer.code(), fields(&answer)),
            (status, "VALIDATION_ERROR", vec![broken]),
            "{body}"
        );
    }
    // Null takes the cap away; it shows as the largest amount there is.
    let uncapped = admin.patch(&path, json!({"monthly_cap": null})).await?;
    assert_eq!(uncapped.body["monthly_cap_per_user"].to_string(), "9999999999.99");
    let stored: Option<i64> = sqlx::query_scalar("SELECT count(monthly_cap) FROM offers WHERE id::text = $1")
        .bind(&id)
        .fetch_one(&site.pool)
        .await?;
    assert_eq!(stored, Some(0));
    assert_eq!(audited(&site, &id).await?, ["OFFER_CREATED", "OFFER_UPDATED", "OFFER_UPDATED"]);
    Ok(())
}

#[tokio::test]
async fn section_15_only_an_offer_without_purchases_is_deleted() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (first, second) = two(&site, &admin).await?;
    let nook = admin.get("/offers/?limit=1&offset=3").await?.body["data"][0]["merchant_id"].clone();
    let nook = nook.as_str().unwrap_or_default().to_owned();
    purchase(&site, &nook, Some(&first)).await?;
    let kept = admin.delete(&format!("/offers/{first}"), Value::Null).await?;
    assert_eq!((kept.status, kept.code(), &kept.details()["offer_id"]), (409, "OFFER_HAS_PURCHASES", &json!(first)));
    let gone = admin.delete(&format!("/offers/{second}"), Value::Null).await?;
    assert_eq!((gone.status, gone.body), (204, Value::Null));
    assert_eq!(admin.get(&format!("/offers/{second}")).await?.status, 404);
    assert_eq!(admin.delete(&format!("/offers/{second}"), Value::Null).await?.status, 404);
    assert_eq!(switch(&admin, &second, "active").await?.status, 404);
    assert_eq!(audited(&site, &second).await?, ["OFFER_CREATED", "OFFER_DELETED"]);
    // The deleted one is no longer the merchant's active offer.
    assert_eq!(admin.post("/offers/", draft(&site, &nook)).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn section_18_6_creating_switching_and_deleting_at_once_leaves_at_most_one_active_offer() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let (first, second) = two(&site, &admin).await?;
    let nook = sqlx::query_scalar::<_, String>("SELECT merchant_id::text FROM offers WHERE id::text = $1")
        .bind(&first)
        .fetch_one(&site.pool)
        .await?;
    let calls = (0..40).map(|n| {
        let (admin, site, nook, first, second) = (&admin, &site, &nook, &first, &second);
        async move {
            match n % 5 {
                0 => admin.post("/offers/", draft_with(site, nook, &json!({"cashback_value": 1}))).await,
                1 => switch(admin, first, "active").await,
                2 => switch(admin, second, "inactive").await,
                3 => admin.delete(&format!("/offers/{second}"), Value::Null).await,
                _ => admin.patch(&format!("/merchants/{nook}/status"), json!({"status": "active"})).await,
            }
        }
    });
    for answer in try_join_all(calls).await? {
        assert!(answer.status < 500, "{} {}", answer.status, answer.body);
    }
    let active: i64 = sqlx::query_scalar("SELECT count(*) FROM offers WHERE active AND merchant_id::text = $1")
        .bind(&nook)
        .fetch_one(&site.pool)
        .await?;
    assert!(active <= 1, "{active}");
    Ok(())
}

#[tokio::test]
async fn section_15_a_purchase_keeps_the_terms_it_was_made_under() -> Result<()> {
    let site = Site::start().await?;
    let admin = admin(&site);
    let alice = site.sign_in("alice").await?;
    let buy = async |external: &str| {
        let body = json!({
            "external_id": external, "user_id": seed::ALICE, "merchant_id": seed::SHOPLY, "amount": 100, "currency": "EUR",
        });
        alice.post("/purchases/", body).await
    };
    let before = buy("before").await?;
    assert_eq!((before.status, &before.body["cashback_amount"]), (201, &json!("5.00")));
    let offers = admin.get(&format!("/offers/?merchant_id={}", seed::SHOPLY)).await?;
    let offer = offers.body["data"][0]["id"].as_str().unwrap_or_default().to_owned();
    let changed = admin.patch(&format!("/offers/{offer}"), json!({"cashback_value": 10, "monthly_cap": 12})).await?;
    assert_eq!(changed.status, 200, "{}", changed.body);
    site.work().await?;
    let path = format!("/purchases/{}", before.body["id"].as_str().unwrap_or_default());
    assert_eq!(alice.get(&path).await?.body["cashback_amount"], "5.00");
    // The next one is made under the new terms: 10 percent, of which the month's cap leaves 7.00.
    assert_eq!(buy("after").await?.body["cashback_amount"], "7.00");
    // What was bought there is bought under it: neither the offer nor the shop can go.
    assert_eq!(admin.delete(&format!("/offers/{offer}"), Value::Null).await?.code(), "OFFER_HAS_PURCHASES");
    let shop = admin.delete(&format!("/merchants/{}", seed::SHOPLY), Value::Null).await?;
    assert_eq!(shop.code(), "MERCHANT_HAS_PURCHASES");
    site.books_agree().await
}

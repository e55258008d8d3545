//! GET /users/payouts, /users/me/payouts and /admin/payouts (contract §12, PA-03, PA-04).

use anyhow::Result;
use serde_json::json;
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB, CAROL};
use time::Duration;
use uuid::Uuid;

use super::counter::{admin, bank, grant, requested, shopper};

/// One payout of Alice in every state, the newest last, a day apart; and one of Bob.
async fn stocked() -> Result<(Site, Vec<Uuid>, Uuid)> {
    let site = Site::start().await?;
    for user in [ALICE, BOB] {
        grant(&site, user, 20_000).await?;
        bank(&site, user).await?;
    }
    let mut payouts = Vec::new();
    for state in ["requested", "in_review", "processing", "completed", "failed", "returned", "cancelled"] {
        let payout = requested(&site, ALICE, "10.00").await?;
        sqlx::query("UPDATE payouts SET state = $2, external_reference = $1::text WHERE id = $1")
            .bind(payout)
            .bind(state)
            .execute(&site.pool)
            .await?;
        payouts.push(payout);
        site.clock.advance(Duration::DAY);
    }
    sqlx::query("UPDATE payouts SET unknown = true WHERE state = 'processing'").execute(&site.pool).await?;
    let bobs = requested(&site, BOB, "12.00").await?;
    Ok((site, payouts, bobs))
}

fn ids(body: &serde_json::Value) -> Vec<Uuid> {
    let list = body["payouts"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|payout| payout["id"].as_str()?.parse().ok()).collect()
}

#[tokio::test]
async fn section_12_ones_own_list_is_newest_first_in_the_contracts_words() -> Result<()> {
    let (site, payouts, _) = stocked().await?;
    // The tokens of the first day have expired.
    let alice = shopper(&site, ALICE);
    for route in ["/users/payouts", "/users/me/payouts"] {
        let all = alice.get(route).await?;
        assert_eq!(all.status, 200);
        assert_eq!(ids(&all.body), payouts.iter().rev().copied().collect::<Vec<_>>());
        let words: Vec<&str> =
            all.body["payouts"].as_array().unwrap().iter().filter_map(|p| p["status"].as_str()).collect();
        let shown = ["failed", "failed", "failed", "completed", "processing", "requested", "requested"];
        assert_eq!(words, shown, "§19: in_review, unknown, returned and cancelled have no word of their own");
        assert_eq!(all.body["total"], 7);
        assert_eq!(all.body["payouts"][0], json!({"id": payouts[6], "status": "failed", "amount": "10.00"}));
        for (status, expected) in [("requested", 2), ("processing", 1), ("completed", 1), ("failed", 3)] {
            let some = alice.get(&format!("{route}?status={status}")).await?;
            assert_eq!((some.body["total"].as_i64(), ids(&some.body).len()), (Some(expected), expected as usize));
        }
        let page = alice.get(&format!("{route}?offset=2&limit=3")).await?;
        assert_eq!(ids(&page.body), [payouts[4], payouts[3], payouts[2]]);
        assert_eq!(page.body["total"], 7);
        let past = alice.get(&format!("{route}?offset=100")).await?;
        assert_eq!((ids(&past.body).len(), past.body["total"].as_i64()), (0, Some(7)), "§1: past the end");
    }
    assert_eq!(site.anonymous().get("/users/payouts").await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn section_12_an_unknown_status_is_400_with_the_words_there_are() -> Result<()> {
    let site = Site::start().await?;
    for (caller, route) in [
        (shopper(&site, ALICE), "/users/payouts"),
        (shopper(&site, ALICE), "/users/me/payouts"),
        (admin(&site, CAROL), "/admin/payouts"),
    ] {
        for word in ["paid", "", "REQUESTED", "in_review"] {
            let answer = caller.get(&format!("{route}?status={word}")).await?;
            assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"), "{route} {word}");
            assert_eq!(
                answer.details(),
                &json!({
                    "field": "status", "received": word,
                    "supported_values": ["requested", "processing", "completed", "failed"],
                })
            );
        }
        for bad in ["limit=0", "limit=101", "offset=-1", "limit=x"] {
            assert_eq!(caller.get(&format!("{route}?{bad}")).await?.status, 422, "{route} {bad}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn pa_03_administrators_filter_by_status_days_and_user() -> Result<()> {
    let (site, payouts, bobs) = stocked().await?;
    let carol = admin(&site, CAROL);
    let all = carol.get("/admin/payouts").await?;
    assert_eq!((all.status, all.body["total"].as_i64()), (200, Some(8)));
    assert_eq!(ids(&all.body), [bobs].into_iter().chain(payouts.iter().rev().copied()).collect::<Vec<_>>());
    assert_eq!(all.body["payouts"][0], json!({"id": bobs, "user_id": BOB, "amount": "12.00", "status": "requested"}));
    let first = (site.now() - Duration::days(7)).date();
    let day = |n: i64| (first + Duration::days(n)).to_string();
    for (query, expected) in [
        (format!("user_id={BOB}"), vec![bobs]),
        (format!("user_id={}", ALICE.simple()), payouts.iter().rev().copied().collect()),
        ("status=requested".into(), vec![bobs, payouts[1], payouts[0]]),
        (format!("status=failed&from={}", day(5)), vec![payouts[6], payouts[5]]),
        (format!("from={}&to={}", day(2), day(3)), vec![payouts[3], payouts[2]]),
        (format!("to={}", day(0)), vec![payouts[0]]),
        (format!("user_id={ALICE}&to={}&limit=1&offset=1", day(1)), vec![payouts[0]]),
        (format!("from={}&to={}", day(3), day(2)), vec![]),
        ("to=9999-12-31&limit=1".into(), vec![bobs]),
    ] {
        let answer = carol.get(&format!("/admin/payouts?{query}")).await?;
        assert_eq!((answer.status, ids(&answer.body)), (200, expected), "{query}: {}", answer.body);
    }
    let total = carol.get("/admin/payouts?status=requested&limit=1").await?;
    assert_eq!(total.body["total"], 3);
    for bad in ["user_id=x", "from=yesterday", "to=2026-13-01"] {
        assert_eq!(carol.get(&format!("/admin/payouts?{bad}")).await?.status, 422, "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn section_19_a_shopper_on_an_administrators_route_of_section_12_is_403() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let list = alice.get("/admin/payouts?status=nonsense").await?;
    assert_eq!((list.status, list.code()), (403, "FORBIDDEN"), "§1: before the query");
    let process = alice.patch(&format!("/admin/payouts/{ALICE}/process"), json!({})).await?;
    assert_eq!((process.status, process.code()), (403, "FORBIDDEN"));
    Ok(())
}

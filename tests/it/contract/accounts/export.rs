//! The export of one's own data (our own route).

use anyhow::Result;
use serde_json::{Value, json};
use shared::ids::UserId;
use tests::contract::{Site, seed};
use uuid::Uuid;

use super::give;

#[tokio::test]
async fn the_export_holds_everything_about_one_person_and_nothing_of_others() -> Result<()> {
    let site = Site::start().await?;
    let (alice, _bob) = (site.sign_in("alice").await?, site.sign_in("bob").await?);
    for user in [seed::ALICE, seed::BOB] {
        give(&site, user, "available", "12.50").await?;
        let (mut conn, keys) = (site.pool.acquire().await?, &site.state.data_keys);
        let user = UserId(user);
        shared::users::set_bank_account(&mut conn, site.now(), keys, user, "DE89370400440532013000", "Ann").await?;
        let statements = [
            "INSERT INTO clicks (click_ref, user_id, merchant_id, network, clicked_at)
             SELECT 'click-' || $1::text, $1, id, 'self', now() FROM merchants WHERE name = 'Shoply'",
            "INSERT INTO notifications (id, user_id, event, subject_id, version, sent_at)
             VALUES (gen_random_uuid(), $1, 'tracked', gen_random_uuid(), 1, now())",
            "INSERT INTO payouts (id, user_id, amount, method, rail, origin, state, version, requested_at, updated_at)
             VALUES (gen_random_uuid(), $1, 10, 'bank_transfer', 'manual', 'user', 'cancelled', 2, now(), now())",
            "INSERT INTO purchases (id, network, group_key, user_id, merchant_id, state, version, word, word_trusted,
                 trusted_heard, sale_amount, currency, raw_award, cashback_amount, occurred_at, created_at, updated_at)
             SELECT gen_random_uuid(), 'self', 'order-' || $1::text, $1, id, 'rejected', 2, 'declined', false, false,
                 100, 'EUR', 0, 0, now(), now(), now() FROM merchants WHERE name = 'Shoply'",
        ];
        for statement in statements {
            sqlx::query(statement).bind(user.0).execute(&site.pool).await?;
        }
    }
    let answer = alice.get("/users/me/export").await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let export = &answer.body;
    assert_eq!(export["profile"]["email"], "alice@clicknback.com");
    assert_eq!(export["profile"]["bank_account"], "DE •••• 3000");
    assert_eq!(export["profile"]["wallet"]["available"], "12.50");
    for part in ["clicks", "purchases", "transfers", "payouts", "mails", "sessions"] {
        assert_eq!(export[part].as_array().map(Vec::len), Some(1), "{part}: {}", export[part]);
    }
    assert_eq!(export["clicks"][0]["merchant_name"], "Shoply");
    assert_eq!(export["purchases"][0]["external_id"], format!("order-{}", seed::ALICE));
    assert_eq!(export["transfers"][0]["amount"], "12.50");
    let text = export.to_string();
    for secret in ["argon2", "DE89", "clicknback.com\",\"bob", &seed::BOB.to_string()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_account_exports_empty_lists() -> Result<()> {
    let site = Site::start().await?;
    let jero = site.sign_in("jero").await?;
    let export = jero.get("/users/me/export").await?.body;
    assert_eq!(export["profile"]["wallet"], Value::Null);
    assert_eq!(export["purchases"], json!([]));
    let id: Uuid = export["profile"]["id"].as_str().unwrap().parse()?;
    assert_eq!(id, seed::JERO);
    Ok(())
}

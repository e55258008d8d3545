//! Deleting one's own account (contract §15; our own route).

use anyhow::Result;
use serde_json::json;
use shared::auth::seal::DataKeys;
use shared::ids::{PayoutId, UserId};
use shared::jobs::Room;
use shared::payouts::{self, Ask};
use tests::contract::{Answer, Session, Site, seed};

use super::{audited, give, malformed, refused};

async fn leave(session: &Session, forfeit: bool) -> Result<Answer> {
    session.delete("/users/me", json!({ "password": seed::PASSWORD, "forfeit": forfeit })).await
}

#[tokio::test]
async fn everything_personal_goes_and_the_row_stays() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let keys = DataKeys::parse(&DataKeys::generate_line())?;
    let (mut conn, user) = (site.pool.acquire().await?, UserId(seed::ALICE));
    shared::users::set_bank_account(&mut conn, site.now(), &keys, user, "DE89370400440532013000", "Ann").await?;
    session
        .put("/users/me/password", json!({ "current_password": seed::PASSWORD, "new_password": super::GOOD }))
        .await?;
    site.anonymous().post("/auth/password-reset", json!({ "email": "alice@clicknback.com" })).await?;
    let session = site.sign_in_as("alice@clicknback.com", super::GOOD).await?;
    let refresh = session.refresh.clone().unwrap();

    let answer = session.delete("/users/me", json!({ "password": super::GOOD })).await?;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let row: (String, Option<String>, bool, bool, bool) = sqlx::query_as(
        "SELECT email, password_hash, active, email_verified_at IS NULL, deleted_at IS NOT NULL FROM users WHERE id = $1",
    )
    .bind(seed::ALICE)
    .fetch_one(&site.pool)
    .await?;
    assert_eq!(row, (format!("{}@deleted.invalid", seed::ALICE), None, false, true, true));
    for table in ["bank_accounts", "refresh_tokens", "one_time_tokens", "account_notices"] {
        let statement = format!("SELECT count(*) FROM {table} WHERE user_id = $1");
        let left: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(seed::ALICE).fetch_one(&site.pool).await?;
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(audited(&site, seed::ALICE).await?.last().map(String::as_str), Some("USER_DELETED"));

    // Gone for every route (contract §3: user row gone).
    refused(&session.get("/users/me").await?, 401, "INVALID_TOKEN", &json!({}));
    let answer = site.anonymous().post("/auth/refresh", json!({ "refresh_token": refresh })).await?;
    refused(&answer, 401, "INVALID_REFRESH_TOKEN", &json!({}));
    for email in ["alice@clicknback.com", &row.0] {
        let login = json!({ "email": email, "password": super::GOOD });
        assert_ne!(site.anonymous().post("/auth/login", login).await?.status, 200);
    }
    let carol = site.sign_in("carol").await?;
    let list = carol.get("/users/").await?;
    assert_eq!(list.body["pagination"]["total"], 4);
    let status = carol.patch(&format!("/users/{}/status", seed::ALICE), json!({ "status": "active" })).await?;
    assert_eq!(status.status, 404);
    // The address is free again.
    let again = json!({ "email": "alice@clicknback.com", "password": super::GOOD });
    assert_eq!(site.anonymous().post("/users/", again).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn the_password_is_asked_for() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let wrong = session.delete("/users/me", json!({ "password": "Wr0ng!Pass", "forfeit": true })).await?;
    refused(&wrong, 400, "WRONG_PASSWORD", &json!({}));
    malformed(&session.delete("/users/me", json!({ "forfeit": "perhaps" })).await?, &["password", "forfeit"]);
    assert_eq!(session.get("/users/me").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn available_money_forbids_it_unless_it_is_given_up() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    give(&site, seed::ALICE, "available", "12.50").await?;
    give(&site, seed::ALICE, "pending", "3.00").await?;
    let amounts =
        json!({ "available": "12.50", "held": "0.00", "owed": "0.00", "pending": "3.00", "forfeitable": true });
    refused(&leave(&session, false).await?, 409, "ACCOUNT_NOT_EMPTY", &amounts);
    let without = session.delete("/users/me", json!({ "password": seed::PASSWORD })).await?;
    refused(&without, 409, "ACCOUNT_NOT_EMPTY", &amounts);
    assert_eq!(leave(&session, true).await?.status, 204);
    let (code, amount): (String, String) =
        sqlx::query_as("SELECT code, amount::text FROM transfers WHERE user_id = $1 ORDER BY id DESC LIMIT 1")
            .bind(seed::ALICE)
            .fetch_one(&site.pool)
            .await?;
    assert_eq!((code.as_str(), amount.as_str()), ("forfeit", "12.50"));
    site.books_agree().await
}

#[tokio::test]
async fn a_debt_forbids_it_unless_it_is_let_go() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    give(&site, seed::ALICE, "owed", "4.00").await?;
    let amounts =
        json!({ "available": "0.00", "held": "0.00", "owed": "4.00", "pending": "0.00", "forfeitable": true });
    refused(&leave(&session, false).await?, 409, "ACCOUNT_NOT_EMPTY", &amounts);
    assert_eq!(leave(&session, true).await?.status, 204);
    let owed: String = sqlx::query_scalar("SELECT owed::text FROM wallets WHERE user_id = $1")
        .bind(seed::ALICE)
        .fetch_one(&site.pool)
        .await?;
    assert_eq!(owed, "0.00");
    site.books_agree().await
}

/// Pending cashback alone does not forbid it; paid money is history.
#[tokio::test]
async fn pending_and_paid_money_do_not_forbid_it() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    give(&site, seed::ALICE, "pending", "3.00").await?;
    give(&site, seed::ALICE, "paid", "50.00").await?;
    assert_eq!(leave(&session, false).await?.status, 204);
    site.books_agree().await
}

/// Cashback that was pending goes its way: it becomes available without an owner, is neither paid out nor mailed, and
/// can still be reversed.
#[tokio::test]
async fn cashback_that_matures_afterwards_stays_in_the_books_unpaid() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    payable(&site).await?;
    let purchase = json!({
        "external_id": "O-1", "user_id": seed::ALICE, "merchant_id": seed::SHOPLY, "amount": "400.00", "currency": "EUR",
    });
    let purchase = session.post("/purchases/", purchase).await?;
    assert_eq!(purchase.status, 201, "{}", purchase.body);
    assert_eq!(leave(&session, true).await?.status, 204);

    site.work().await?;
    let available = async || -> Result<String> {
        Ok(sqlx::query_scalar("SELECT available::text FROM wallets WHERE user_id = $1")
            .bind(seed::ALICE)
            .fetch_one(&site.pool)
            .await?)
    };
    assert_eq!(available().await?, "20.00");
    assert!(!request(&site, "20.00").await?, "nobody can have it paid out");
    site.books_agree().await?;

    let carol = site.sign_in("carol").await?;
    let path = format!("/purchases/{}/reverse", purchase.body["id"].as_str().unwrap());
    assert_eq!(carol.patch(&path, serde_json::Value::Null).await?.status, 200);
    assert_eq!(available().await?, "0.00");
    site.books_agree().await
}

async fn payable(site: &Site) -> Result<()> {
    give(site, seed::ALICE, "available", "20.00").await?;
    let (mut conn, user) = (site.pool.acquire().await?, UserId(seed::ALICE));
    let keys = &site.state.data_keys;
    shared::users::set_bank_account(&mut conn, site.now(), keys, user, "DE89370400440532013000", "Ann").await?;
    Ok(())
}

async fn request(site: &Site, amount: &str) -> Result<bool> {
    let ask = Ask { id: PayoutId::new(), user: UserId(seed::ALICE), amount: amount.parse()?, details: None };
    let mut tx = site.pool.begin().await?;
    let asked = payouts::request(&mut tx, site.now(), &Room::open(), &site.state.settings.payouts, &ask).await;
    let opened = asked.is_ok();
    tx.commit().await?;
    Ok(opened)
}

#[tokio::test]
async fn a_payout_under_way_is_never_given_up() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    payable(&site).await?;
    assert!(request(&site, "20.00").await?);
    let amounts =
        json!({ "available": "0.00", "held": "20.00", "owed": "0.00", "pending": "0.00", "forfeitable": false });
    for forfeit in [false, true] {
        refused(&leave(&session, forfeit).await?, 409, "ACCOUNT_NOT_EMPTY", &amounts);
    }
    site.books_agree().await
}

/// Where earlier payouts went is known no longer; what a screen may show of it stays with the payout.
#[tokio::test]
async fn the_accounts_of_ended_payouts_go_too() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    payable(&site).await?;
    assert!(request(&site, "20.00").await?);
    let payout: uuid::Uuid = sqlx::query_scalar("SELECT id FROM payouts").fetch_one(&site.pool).await?;
    let carol = site.sign_in("carol").await?;
    let paid = carol.patch(&format!("/admin/payouts/{payout}/process"), json!({ "status": "completed" })).await?;
    assert_eq!(paid.status, 200, "{}", paid.body);
    assert_eq!(leave(&session, false).await?.status, 204);
    let left: (bool, bool, Option<String>) =
        sqlx::query_as("SELECT account_sealed IS NULL, account_key_id IS NULL, account_masked FROM payouts")
            .fetch_one(&site.pool)
            .await?;
    assert_eq!(left, (true, true, Some("DE •••• 3000".to_owned())));
    site.books_agree().await
}

/// Waits until somebody in this database waits for a lock.
async fn somebody_waits(site: &Site) -> Result<()> {
    for _ in 0..500 {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
        )
        .fetch_one(&site.pool)
        .await?;
        if waits {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("nobody waits")
}

/// A call that was let in before the deletion stores nothing after it.
#[tokio::test]
async fn an_account_stored_beside_the_deletion_does_not_outlive_it() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    let password = seed::PASSWORD.to_owned().into();
    let proof =
        shared::users::prove(&site.state.places.hashers, &site.pool, UserId(seed::ALICE), password).await?.unwrap();
    let mut tx = site.pool.begin().await?;
    shared::users::leave(&mut tx, site.now(), &proof, true).await?;
    let details = json!({ "iban": "DE89370400440532013000", "account_holder": "Ann" });
    let store = tokio::spawn(async move { session.put("/users/me/bank-account", details).await });
    somebody_waits(&site).await?;
    tx.commit().await?;
    refused(&store.await??, 401, "INVALID_TOKEN", &json!({}));
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM bank_accounts").fetch_one(&site.pool).await?;
    assert_eq!(left, 0);
    Ok(())
}

/// Leaving and asking for the same money at once: one of them happens, the books agree, and nobody sees a 5xx.
#[tokio::test]
async fn leaving_and_a_payout_at_once_share_no_cent() -> Result<()> {
    for _ in 0..4 {
        let site = Site::start().await?;
        let session = site.sign_in("alice").await?;
        payable(&site).await?;
        let (left, opened) = tokio::join!(leave(&session, true), request(&site, "20.00"));
        let (left, opened) = (left?, opened?);
        assert_eq!((left.status, left.code()), if opened { (409, "ACCOUNT_NOT_EMPTY") } else { (204, "") });
        site.books_agree().await?;
    }
    Ok(())
}

#[tokio::test]
async fn leaving_32_times_at_once_deletes_once() -> Result<()> {
    let site = Site::start().await?;
    let session = site.sign_in("alice").await?;
    give(&site, seed::ALICE, "available", "5.00").await?;
    let answers = super::race(|_| leave(&session, true)).await?;
    let left = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!(left, 1);
    assert!(answers.iter().all(|answer| [204, 400, 401].contains(&answer.status)), "{answers:?}");
    let forfeits: i64 =
        sqlx::query_scalar("SELECT count(*) FROM transfers WHERE code = 'forfeit'").fetch_one(&site.pool).await?;
    assert_eq!(forfeits, 1);
    site.books_agree().await
}

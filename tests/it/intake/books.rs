//! What intake does to the books: a good delivery once, whatever comes beside it.

use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use shared::ids::{MerchantId, OfferId, UserId};
use shared::networks::store;

use super::{Api, reported};

/// A shopper with a click at a shop that gives five percent, through both networks.
async fn seed(api: &Api) -> UserId {
    let (user, merchant, offer) = (UserId::new(), MerchantId::new(), OfferId::new());
    let (pool, now) = (&api.database.pool, api.clock.now());
    let statements = [
        "INSERT INTO users (id, email, created_at) SELECT $1, 'a@example.com', $4 WHERE $2 <> $3",
        "INSERT INTO merchants (id, name, created_at) SELECT $2, 'Shoply', $4 WHERE $1 <> $3",
        "INSERT INTO offers (id, merchant_id, kind, value, start_date, end_date, created_at)
         SELECT $3, $2, 'percent', 5, '2026-01-01', '2026-12-31', $4 WHERE $1 <> $2",
        "INSERT INTO clicks (click_ref, user_id, merchant_id, network, clicked_at)
         SELECT 'click-' || name, $1, $2, name, $4 FROM networks WHERE $2 <> $3",
    ];
    for statement in statements {
        sqlx::query(statement).bind(user.0).bind(merchant.0).bind(offer.0).bind(now).execute(pool).await.unwrap();
    }
    let mut conn = pool.acquire().await.unwrap();
    store::map_advertiser(&mut conn, "awin", "4411", merchant).await.unwrap();
    user
}

async fn pending(api: &Api, user: UserId) -> Option<Decimal> {
    sqlx::query_scalar("SELECT pending FROM wallets WHERE user_id = $1")
        .bind(user.0)
        .fetch_optional(&api.database.pool)
        .await
        .unwrap()
}

fn order(id: &str) -> String {
    reported(&json!({
        "order_id": id, "status": "tracked", "amount": "48.00", "currency": "EUR", "click_ref": "click-reference",
    }))
}

#[tokio::test]
async fn a_purchase_is_booked_once_however_often_and_among_whatever_it_is_sent() {
    let api = Api::start().await;
    let user = seed(&api).await;
    let status = async |id: &str, body: String| {
        let answer = api.signed(id, body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status("msg_1", order("SO-1")).await, "accepted");
    let booked = (api.count("purchases").await, api.count("transfers").await, pending(&api, user).await);
    assert_eq!(booked, (1, 1, Some("2.40".parse().unwrap())));
    assert_eq!(status("msg_1", order("SO-1")).await, "duplicate");
    assert_eq!(status("msg_1", order("SO-2")).await, "quarantined");
    assert_eq!(status("msg_2", order("SO-1")).await, "accepted");
    let mut negative = order("SO-1").replace("48.00", "-48.00");
    assert_eq!(status("msg_3", negative.clone()).await, "quarantined");
    negative = negative.replace("tracked", "perhaps");
    assert_eq!(status("msg_4", negative).await, "quarantined");
    let late = reported(&json!({"order_id": "SO-9", "status": "reversed", "amount": "48.00", "currency": "EUR"}));
    assert_eq!(status("msg_5", late).await, "waiting");
    assert_eq!((api.count("purchases").await, api.count("transfers").await, pending(&api, user).await), booked);
}

#[tokio::test]
async fn awins_three_forms_of_one_transaction_make_one_purchase() {
    let api = Api::start().await;
    let user = seed(&api).await;
    let json = r#"{"transactionId":"900","transactionDate":"2026-03-01 10:15:00","transactionCurrency":"EUR",
        "transactionAmount":"48.00","commission":"2.43","merchantId":"4411","clickRef":"click-awin"}"#;
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("AwinTransactionPush", json).finish();
    let path = format!("/in/awin/{}", super::PATH_SECRET);
    let query = "tid=900&at=2026-03-01+10%3A15%3A00&cur=EUR&amt=48.00&com=2.43&adv=4411&ref=click-awin";
    for call in [api.awin(form), api.awin(json), api.get(&format!("{path}?{query}"))] {
        assert_eq!(call.send().await.unwrap().text().await.unwrap(), "OK");
    }
    assert_eq!((api.count("deliveries").await, api.count("purchases").await, api.count("transfers").await), (3, 1, 1));
    assert_eq!(pending(&api, user).await, Some("2.40".parse().unwrap()));
}

#[tokio::test]
async fn what_the_database_refuses_is_kept_in_quarantine_and_hinders_nobody() {
    let api = Api::start().await;
    seed(&api).await;
    sqlx::query("ALTER TABLE purchases ADD CONSTRAINT test_refuses CHECK (group_key <> 'SO-BAD')")
        .execute(&api.database.pool)
        .await
        .unwrap();
    let calls = ["SO-1", "SO-BAD", "SO-2", "SO-3"].map(|id| api.signed(&format!("msg_{id}"), order(id)).send());
    let mut answers = Vec::new();
    for answer in futures::future::join_all(calls).await {
        answers.push(answer.unwrap().json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(answers, ["accepted", "quarantined", "accepted", "accepted"]);
    assert_eq!((api.count("deliveries").await, api.count("purchases").await), (4, 3));
    let body: Vec<u8> = sqlx::query_scalar(
        "SELECT body FROM deliveries JOIN delivery_results ON delivery_id = id WHERE answer = 'quarantined'",
    )
    .fetch_one(&api.database.pool)
    .await
    .unwrap();
    assert_eq!(body, order("SO-BAD").into_bytes());
}

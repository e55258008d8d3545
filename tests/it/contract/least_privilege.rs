//! Every operation of the contract works with the role that answers HTTP in production (design §9), and none of them
//! was forgotten here: the document is the list.

use std::collections::BTreeSet;

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use shared::auth::link::LinkTokens;
use tests::contract::seed::{self, SHOPLY};
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

/// Calls, and remembers which operations were called.
struct Journey {
    site: Site,
    called: BTreeSet<String>,
}

impl Journey {
    /// `path` with what stands in `{}` given by `names`, in order; the answer must have `status`.
    async fn call(
        &mut self,
        who: &Session,
        method: Method,
        path: &str,
        names: &str,
        body: Value,
        status: u16,
    ) -> Result<Answer> {
        self.called.insert(format!("{method} {}", path.split('?').next().unwrap_or(path)));
        let url = match path.split_once('{') {
            Some((before, after)) => format!("{before}{names}{}", after.split_once('}').map_or("", |(_, rest)| rest)),
            None => path.to_owned(),
        };
        let body = (!body.is_null()).then(|| body.to_string());
        let answer = who.call(method.clone(), &url, body, &[]).await?;
        assert_eq!(answer.status, status, "{method} {url}: {}", answer.body);
        Ok(answer)
    }

    async fn link(&self, email: &str, purpose: &str) -> Result<String> {
        let id: Uuid = sqlx::query_scalar(
            "SELECT id FROM one_time_tokens WHERE email = $1 AND purpose = $2 ORDER BY created_at DESC, id DESC LIMIT 1",
        )
        .bind(email)
        .bind(purpose)
        .fetch_one(&self.site.pool)
        .await?;
        Ok(LinkTokens::new(&self.site.state.data_keys).make(id))
    }
}

const EMAIL: &str = "least@example.com";
const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

#[tokio::test]
async fn design_9_the_role_that_answers_http_can_carry_out_every_operation() -> Result<()> {
    let site = Site::start_as("clicknback_api").await?;
    let mut journey = Journey { site, called: BTreeSet::new() };
    let role: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&journey.site.state.pool).await?;
    assert_eq!(role, "clicknback_api");
    let anyone = journey.site.anonymous();
    let carol = journey.site.sign_in("carol").await?;
    accounts(&mut journey, &anyone, &carol).await?;
    catalogue(&mut journey, &carol).await?;
    let alice = journey.site.sign_in("alice").await?;
    money(&mut journey, &alice, &carol).await?;
    leaving(&mut journey, &anyone).await?;
    journey.site.books_agree().await?;

    let document: Value = reqwest::get(format!("{}/openapi.json", journey.site.url)).await?.json().await?;
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<String> = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1"))
        .flat_map(|(path, item)| item.as_object().into_iter().flatten().map(move |(method, _)| (path, method)))
        .map(|(path, method)| format!("{} {}", method.to_uppercase(), path.trim_start_matches("/api/v1")))
        .collect();
    let forgotten: Vec<&String> = documented.difference(&journey.called).collect();
    assert!(forgotten.is_empty(), "not called here: {forgotten:?}");
    let undocumented: Vec<&String> = journey.called.difference(&documented).collect();
    assert!(undocumented.is_empty(), "not in the document: {undocumented:?}");
    Ok(())
}

async fn accounts(journey: &mut Journey, anyone: &Session, carol: &Session) -> Result<()> {
    let login = json!({"email": EMAIL, "password": seed::PASSWORD});
    let registered = journey.call(anyone, POST, "/users/", "", login.clone(), 201).await?;
    let user = registered.body["id"].as_str().unwrap_or_default().to_owned();
    let pair = journey.call(anyone, POST, "/auth/login", "", login.clone(), 200).await?;
    let refresh = json!({"refresh_token": pair.body["refresh_token"]});
    let next = journey.call(anyone, POST, "/auth/refresh", "", refresh.clone(), 200).await?;
    journey.call(anyone, POST, "/auth/refresh", "", refresh, 401).await?;
    journey.site.clock.advance(time::Duration::minutes(1));
    let late = json!({"refresh_token": pair.body["refresh_token"]});
    journey.call(anyone, POST, "/auth/refresh", "", late, 401).await?;
    journey.call(anyone, POST, "/auth/logout", "", json!({"refresh_token": next.body["refresh_token"]}), 204).await?;
    let me = journey.site.sign_in_as(EMAIL, seed::PASSWORD).await?;
    journey.call(&me, GET, "/users/me", "", Value::Null, 200).await?;
    journey.call(&me, POST, "/users/me/email-verification", "", Value::Null, 202).await?;
    let token = journey.link(EMAIL, "verify_email").await?;
    journey.call(anyone, POST, "/auth/verify-email", "", json!({"token": token}), 204).await?;
    journey.call(anyone, POST, "/auth/password-reset", "", json!({"email": EMAIL}), 202).await?;
    let reset = json!({"token": journey.link(EMAIL, "reset_password").await?, "new_password": seed::PASSWORD});
    journey.call(anyone, POST, "/auth/password-reset/confirm", "", reset, 204).await?;
    let passwords = json!({"current_password": seed::PASSWORD, "new_password": seed::PASSWORD});
    journey.call(&me, PUT, "/users/me/password", "", passwords, 204).await?;
    let change = json!({"email": format!("x{EMAIL}"), "current_password": seed::PASSWORD});
    journey.call(&me, PATCH, "/users/me", "", change, 200).await?;
    journey.call(&me, GET, "/users/me/notifications", "", Value::Null, 200).await?;
    journey.call(&me, PUT, "/users/me/notifications", "", json!({"tracked": false}), 200).await?;
    journey.call(&me, GET, "/users/me/export", "", Value::Null, 200).await?;
    let account = json!({"iban": "DE89370400440532013000", "account_holder": "Ada Lovelace"});
    journey.call(&me, PUT, "/users/me/bank-account", "", account, 200).await?;
    journey.call(&me, GET, "/users/me/bank-account", "", Value::Null, 200).await?;
    journey.call(&me, DELETE, "/users/me/bank-account", "", Value::Null, 204).await?;
    journey.call(carol, GET, "/users/", "", Value::Null, 200).await?;
    for status in ["inactive", "active"] {
        journey.call(carol, PATCH, "/users/{id}/status", &user, json!({"status": status}), 200).await?;
    }
    Ok(())
}

async fn catalogue(journey: &mut Journey, carol: &Session) -> Result<()> {
    let shop = json!({"name": "Least", "default_cashback_percentage": 5});
    let shop = journey.call(carol, POST, "/merchants/", "", shop, 201).await?.body["id"].clone();
    let shop = shop.as_str().unwrap_or_default();
    journey.call(carol, GET, "/merchants/", "", Value::Null, 200).await?;
    journey.call(carol, GET, "/merchants/{id}", shop, Value::Null, 200).await?;
    journey.call(carol, PATCH, "/merchants/{id}", shop, json!({"name": "Least of all"}), 200).await?;
    journey.call(carol, PATCH, "/merchants/{id}/status", shop, json!({"status": "active"}), 200).await?;
    let today = journey.site.now().date().to_string();
    let offer = json!({"merchant_id": shop, "cashback_type": "percent", "cashback_value": 5, "start_date": today,
                       "end_date": "2099-12-31", "monthly_cap": 50});
    let offer = journey.call(carol, POST, "/offers/", "", offer, 201).await?.body["id"].clone();
    let offer = offer.as_str().unwrap_or_default();
    journey.call(carol, GET, "/offers/", "", Value::Null, 200).await?;
    journey.call(carol, GET, "/offers/active", "", Value::Null, 200).await?;
    journey.call(carol, GET, "/offers/{id}", offer, Value::Null, 200).await?;
    journey.call(carol, PATCH, "/offers/{id}", offer, json!({"cashback_value": 6}), 200).await?;
    for status in ["inactive", "active"] {
        journey.call(carol, PATCH, "/offers/{id}/status", offer, json!({"status": status}), 200).await?;
    }
    journey.call(carol, DELETE, "/offers/{id}", offer, Value::Null, 204).await?;
    journey.call(carol, DELETE, "/merchants/{id}", shop, Value::Null, 204).await?;
    let key = "purchase_auto_confirm";
    journey.call(carol, PUT, "/feature-flags/{key}", key, json!({"enabled": false}), 200).await?;
    journey.call(carol, GET, "/feature-flags", "", Value::Null, 200).await?;
    journey.call(carol, GET, "/feature-flags/{key}/evaluate", key, Value::Null, 200).await?;
    let answer = carol.delete(&format!("/feature-flags/{key}?scope_type=global"), Value::Null).await?;
    assert_eq!(answer.status, 204, "{}", answer.body);
    journey.called.insert("DELETE /feature-flags/{key}".to_owned());
    Ok(())
}

async fn money(journey: &mut Journey, alice: &Session, carol: &Session) -> Result<()> {
    let mut purchases = Vec::new();
    for key in ["least-1", "least-2"] {
        let said = json!({"external_id": key, "user_id": seed::ALICE, "merchant_id": SHOPLY, "amount": 800,
                          "currency": "EUR"});
        let made = alice.call(POST, "/purchases/", Some(said.to_string()), &[("idempotency-key", key)]).await?;
        assert_eq!(made.status, 201, "{}", made.body);
        journey.called.insert("POST /purchases/".to_owned());
        purchases.push(made.body["id"].as_str().unwrap_or_default().to_owned());
    }
    let (first, second) = (purchases[0].as_str(), purchases[1].as_str());
    journey.call(carol, GET, "/purchases/", "", Value::Null, 200).await?;
    journey.call(alice, GET, "/purchases/{id}", first, Value::Null, 200).await?;
    journey.call(alice, GET, "/users/me/purchases", "", Value::Null, 200).await?;
    journey.call(carol, POST, "/purchases/{id}/confirmation", first, Value::Null, 200).await?;
    journey.call(carol, PATCH, "/purchases/{id}/reverse", second, Value::Null, 200).await?;
    journey.call(alice, GET, "/users/me/purchases/{id}/timeline", first, Value::Null, 200).await?;
    journey.site.work().await?;
    for path in ["/users/me/wallet", "/users/me/wallet/transactions", "/users/me/wallet/details"] {
        journey.call(alice, GET, path, "", Value::Null, 200).await?;
    }
    let wish = |amount: u32| {
        json!({"amount": amount, "method": "bank_transfer",
                       "details": {"iban": "DE89370400440532013000", "account_holder": "Ada Lovelace"}})
    };
    let payout = journey.call(alice, POST, "/users/payouts", "", wish(10), 201).await?.body["id"].clone();
    journey.call(alice, POST, "/users/me/payouts", "", wish(11), 201).await?;
    journey.call(alice, POST, "/users/wallet/withdraw", "", wish(12), 201).await?;
    journey.call(alice, GET, "/users/payouts", "", Value::Null, 200).await?;
    journey.call(alice, GET, "/users/me/payouts", "", Value::Null, 200).await?;
    journey.call(carol, GET, "/admin/payouts", "", Value::Null, 200).await?;
    let payout = payout.as_str().unwrap_or_default();
    let failed = json!({"status": "failed"});
    journey.call(carol, PATCH, "/admin/payouts/{id}/process", payout, failed, 200).await?;
    // What takes from available money ends requested payouts.
    journey.call(carol, PATCH, "/purchases/{id}/reverse", first, Value::Null, 200).await?;
    Ok(())
}

async fn leaving(journey: &mut Journey, anyone: &Session) -> Result<()> {
    let email = format!("x{EMAIL}");
    let me = journey.site.sign_in_as(&email, seed::PASSWORD).await?;
    let leave = json!({"password": seed::PASSWORD, "forfeit": true});
    journey.call(&me, DELETE, "/users/me", "", leave, 204).await?;
    let login = json!({"email": email, "password": seed::PASSWORD});
    journey.call(anyone, POST, "/auth/login", "", login, 401).await?;
    Ok(())
}

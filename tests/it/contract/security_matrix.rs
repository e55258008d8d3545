//! Who may do what: every route, as the router and its document list them, tried by everybody. A route without a row here
//! fails the test, and so does a row without a route.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use api::limits::Rates;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::ids::UserId;
use shared::users::Role;
use tests::contract::seed::{self, ALICE, SHOPLY};
use tests::contract::{Answer, Session, Site};
use uuid::Uuid;

/// A call, the body it is made with (by the number of the call), and what an anonymous caller, the owner, another shopper
/// and an administrator hear. The owner is Alice: hers are the purchase and the payout whose ids stand in the paths.
pub(super) type Row = (&'static str, fn(usize) -> Value, [&'static str; 4]);

const TOKEN: &str = "401 INVALID_TOKEN";
const ROLE: &str = "403 FORBIDDEN";
const EVERYBODY: fn(&'static str) -> [&'static str; 4] = |answer| [answer; 4];
const SIGNED_IN: fn(&'static str) -> [&'static str; 4] = |answer| [TOKEN, answer, answer, answer];
/// On a route of the contract a role too low is 401, on one of ours 403.
const ADMIN: fn(&'static str) -> [&'static str; 4] = |answer| [TOKEN, TOKEN, TOKEN, answer];
const OWN_ADMIN: fn(&'static str) -> [&'static str; 4] = |answer| [TOKEN, ROLE, ROLE, answer];

fn none(_: usize) -> Value {
    Value::Null
}

fn wrong_password(n: usize) -> Value {
    let password = "Wr0ng!Pass";
    json!({"email": format!("new{n}@example.com"), "current_password": password, "password": password,
           "new_password": seed::PASSWORD})
}

fn wish(_: usize) -> Value {
    json!({"amount": 5_000, "method": "bank_transfer",
           "details": {"iban": "DE89370400440532013000", "account_holder": "Ada Lovelace"}})
}

fn offer(_: usize) -> Value {
    json!({"merchant_id": SHOPLY, "cashback_type": "percent", "cashback_value": 5, "start_date": "2099-01-01",
           "end_date": "2099-12-31", "monthly_cap": 50})
}

/// In this order: what is deleted comes last.
pub(super) fn rows() -> Vec<Row> {
    vec![
        (
            "POST /users/",
            |n| json!({"email": format!("matrix{n}@example.com"), "password": seed::PASSWORD}),
            EVERYBODY("201"),
        ),
        ("POST /auth/login", |_| json!({"email": seed::USER_EMAIL, "password": seed::PASSWORD}), EVERYBODY("200")),
        ("POST /auth/refresh", |_| json!({"refresh_token": "x"}), EVERYBODY("401 INVALID_REFRESH_TOKEN")),
        ("POST /auth/logout", |_| json!({"refresh_token": "x"}), EVERYBODY("204")),
        ("POST /auth/password-reset", |_| json!({"email": "nobody@example.com"}), EVERYBODY("202")),
        (
            "POST /auth/password-reset/confirm",
            |_| json!({"token": "x", "new_password": seed::PASSWORD}),
            EVERYBODY("400 INVALID_ONE_TIME_TOKEN"),
        ),
        ("POST /auth/verify-email", |_| json!({"token": "x"}), EVERYBODY("400 INVALID_ONE_TIME_TOKEN")),
        ("GET /users/me", none, SIGNED_IN("200")),
        ("PATCH /users/me", wrong_password, SIGNED_IN("400 WRONG_PASSWORD")),
        ("PUT /users/me/password", wrong_password, SIGNED_IN("400 WRONG_PASSWORD")),
        ("DELETE /users/me", wrong_password, SIGNED_IN("400 WRONG_PASSWORD")),
        ("POST /users/me/email-verification", none, SIGNED_IN("202")),
        ("GET /users/me/notifications", none, SIGNED_IN("200")),
        ("PUT /users/me/notifications", |_| json!({"tracked": true}), SIGNED_IN("200")),
        ("GET /users/me/export", none, SIGNED_IN("200")),
        ("GET /users/me/bank-account", none, [TOKEN, "200", "404 NOT_FOUND", "404 NOT_FOUND"]),
        (
            "PUT /users/me/bank-account",
            |_| json!({"iban": "GB33BUKB20201555555555", "account_holder": "Somebody"}),
            SIGNED_IN("200"),
        ),
        ("DELETE /users/me/bank-account", none, [TOKEN, "409 BANK_ACCOUNT_IN_USE", "204", "204"]),
        ("GET /users/", none, OWN_ADMIN("200")),
        ("PATCH /users/{id}/status", |_| json!({"status": "active"}), OWN_ADMIN("200")),
        ("GET /users/me/wallet", none, SIGNED_IN("200")),
        ("GET /users/me/wallet/transactions", none, SIGNED_IN("200")),
        ("GET /users/me/wallet/details", none, SIGNED_IN("200")),
        ("POST /users/payouts", wish, SIGNED_IN("409 INSUFFICIENT_BALANCE")),
        ("POST /users/me/payouts", wish, SIGNED_IN("409 INSUFFICIENT_BALANCE")),
        ("POST /users/wallet/withdraw", wish, SIGNED_IN("409 INSUFFICIENT_BALANCE")),
        ("GET /users/payouts", none, SIGNED_IN("200")),
        ("GET /users/me/payouts", none, SIGNED_IN("200")),
        ("GET /admin/payouts", none, OWN_ADMIN("200")),
        ("PATCH /admin/payouts/{id}/process", |_| json!({"status": "failed"}), OWN_ADMIN("200")),
        ("GET /purchases/", none, ADMIN("200")),
        (
            "POST /purchases/",
            |n| json!({"external_id": format!("matrix-{n}"), "user_id": ALICE, "merchant_id": SHOPLY, "amount": 10, "currency": "EUR"}),
            [TOKEN, "201", ROLE, ROLE],
        ),
        ("GET /purchases/{id}", none, [TOKEN, "200", ROLE, ROLE]),
        ("GET /users/me/purchases", none, SIGNED_IN("200")),
        ("GET /users/me/purchases/{id}/timeline", none, [TOKEN, "200", ROLE, ROLE]),
        ("POST /purchases/{id}/confirmation", none, ADMIN("200")),
        ("PATCH /purchases/{id}/reverse", none, ADMIN("200")),
        ("GET /merchants/", none, ADMIN("200")),
        (
            "POST /merchants/",
            |n| json!({"name": format!("Matrix {n}"), "default_cashback_percentage": 5}),
            ADMIN("201"),
        ),
        ("GET /merchants/{id}", none, OWN_ADMIN("200")),
        ("PATCH /merchants/{id}", |n| json!({"name": format!("Matrix again {n}")}), OWN_ADMIN("200")),
        ("PATCH /merchants/{id}/status", |_| json!({"status": "active"}), ADMIN("200")),
        ("GET /offers/", none, SIGNED_IN("200")),
        ("GET /offers/active", none, SIGNED_IN("200")),
        ("POST /offers/", offer, ADMIN("409 ACTIVE_OFFER_ALREADY_EXISTS")),
        ("GET /offers/{id}", none, SIGNED_IN("200")),
        ("PATCH /offers/{id}", |_| json!({"cashback_value": 6}), OWN_ADMIN("200")),
        ("PATCH /offers/{id}/status", |_| json!({"status": "active"}), ADMIN("200")),
        ("DELETE /offers/{id}", none, OWN_ADMIN("204")),
        ("DELETE /merchants/{id}", none, OWN_ADMIN("204")),
        ("PUT /feature-flags/{key}", |_| json!({"enabled": true}), ADMIN("200")),
        ("GET /feature-flags", none, ADMIN("200")),
        ("GET /feature-flags/{key}/evaluate", none, ADMIN("200")),
        ("DELETE /feature-flags/{key}", none, OWN_ADMIN("204")),
    ]
}

/// Routes beside the contract, which know no accounts: whoever calls hears this.
const BESIDE: &[(&str, u16)] = &[
    ("GET /openapi.json", 200),
    ("GET /docs", 200),
    ("GET /docs/page.css", 200),
    ("GET /docs/page.js", 200),
    ("GET /redoc", 307),
    ("GET /health/live", 200),
    ("GET /health/ready", 200),
    // Each network has its own proof; tests/it/intake/admission.rs tries them.
    ("POST /in/{network}", 404),
    ("POST /in/{network}/{secret}", 404),
];

/// What stands on the private listener, and nowhere else.
const PRIVATE: &[(&str, u16)] = &[("GET /healthz", 200), ("GET /readyz", 200), ("GET /metrics", 404)];

/// A site with everything the paths name.
pub(super) struct Scene {
    pub(super) site: Site,
    pub(super) alice: Session,
    pub(super) bob: Session,
    pub(super) carol: Session,
    purchase: String,
    payout: String,
    merchant: String,
    offer: String,
}

impl Scene {
    pub(super) async fn new() -> Result<Self> {
        let rates = Rates::local(shared::limits::Rules::generous());
        let site = Site::start_with(tests::contract::contract_settings(), rates).await?;
        let session = |user: Uuid, role| site.with_token(&site.state.tokens.access(site.now(), UserId(user), role));
        let (alice, bob) = (session(ALICE, Role::User), session(seed::BOB, Role::User));
        let carol = session(seed::CAROL, Role::Admin);
        let id = |answer: &Answer| answer.body["id"].as_str().map(str::to_owned).context("an id");
        let declared = |key: &'static str| {
            let said =
                json!({"external_id": key, "user_id": ALICE, "merchant_id": SHOPLY, "amount": 800, "currency": "EUR"});
            let alice = alice.clone();
            async move { id(&alice.post("/purchases/", said).await?) }
        };
        declared("first").await?;
        site.work().await?;
        let purchase = declared("second").await?;
        let mut wish = wish(0);
        wish["amount"] = json!(12);
        let payout = id(&alice.post("/users/payouts", wish).await?)?;
        let merchant = json!({"name": "Matrix", "default_cashback_percentage": 5});
        let merchant = id(&carol.post("/merchants/", merchant).await?)?;
        let mut offer = offer(0);
        offer["merchant_id"] = json!(merchant);
        offer["start_date"] = json!(site.now().date().to_string());
        let offer = id(&carol.post("/offers/", offer).await?)?;
        Ok(Self { site, alice, bob, carol, purchase, payout, merchant, offer })
    }

    /// The path with the ids of this scene.
    pub(super) fn path(&self, path: &str) -> String {
        let (area, dave) = (path.split('/').nth(1).unwrap_or_default(), seed::DAVE.to_string());
        let id = match area {
            "merchants" => &self.merchant,
            "offers" => &self.offer,
            "admin" => &self.payout,
            _ if path.contains("purchases") => &self.purchase,
            _ => &dave,
        };
        let query = if area == "feature-flags" { "?scope_type=global" } else { "" };
        path.replace("{id}", id).replace("{key}", "matrix") + query
    }
}

pub(super) fn split(call: &str) -> (Method, &str) {
    let (method, path) = call.split_once(' ').unwrap();
    (method.parse().unwrap(), path)
}

fn heard(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.code()).trim_end().to_owned()
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() -> Result<()> {
    let scene = Scene::new().await?;
    let callers = [scene.site.anonymous(), scene.alice.clone(), scene.bob.clone(), scene.carol.clone()];
    let (mut wrong, mut number) = (Vec::new(), 0);
    for (call, body, expected) in rows() {
        let (method, path) = split(call);
        for (who, (session, expected)) in callers.iter().zip(expected).enumerate() {
            number += 1;
            let body = Some(body(number)).filter(|body| !body.is_null()).map(|body| body.to_string());
            let answer = session.call(method.clone(), &scene.path(path), body, &[]).await?;
            if heard(&answer) != expected {
                wrong.push(format!("{call}, caller {who}: {} and not {expected}", heard(&answer)));
            }
            let text = answer.body.to_string();
            // Nothing of Alice's in what Bob hears, except what he said himself.
            let hers = [seed::USER_EMAIL, scene.payout.as_str(), "3000", "Lovelace"];
            if who == 2 && !path.starts_with("/auth") && hers.iter().any(|secret| text.contains(secret)) {
                wrong.push(format!("{call}: another shopper reads {text}"));
            }
            if answer.status == 401 && answer.code() == "INVALID_TOKEN" {
                assert_eq!(answer.headers["www-authenticate"], "Bearer", "{call}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    scene.site.books_agree().await
}

/// The paths of a router, from its own description of itself; both spellings of a collection are one.
fn paths(router: &axum::Router) -> BTreeSet<String> {
    let described = format!("{router:?}");
    let path = regex_lite::Regex::new("\"(/[^\"]*)\"").unwrap();
    let found = path.captures_iter(&described).map(|found| found[1].to_owned());
    // A fallback stands at the root and below it.
    let found = found.filter(|path| path != "/" && !path.contains("__private__"));
    found.map(|path| path.trim_end_matches('/').to_owned()).collect()
}

#[tokio::test]
async fn every_route_has_a_row_and_every_row_a_route() -> Result<()> {
    let site = Site::start().await?;
    let document: Value = reqwest::get(format!("{}/openapi.json", site.url)).await?.json().await?;
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .context("paths")?
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1"))
        .flat_map(|(path, item)| item.as_object().into_iter().flatten().map(move |(method, _)| (path, method)))
        .map(|(path, method)| format!("{} {}", method.to_uppercase(), path.trim_start_matches("/api/v1")))
        .collect();
    let in_rows: BTreeSet<String> = rows().iter().map(|(call, ..)| (*call).to_owned()).collect();
    assert_eq!(in_rows, documented);

    let known = |calls: &mut dyn Iterator<Item = (&str, &str)>| -> BTreeSet<String> {
        calls.map(|(prefix, call)| format!("{prefix}{}", split(call).1.trim_end_matches('/'))).collect()
    };
    let public = paths(&api::router(site.state.clone()));
    let of_the_contract = in_rows.iter().map(|call| ("/api/v1", call.as_str()));
    assert_eq!(public, known(&mut of_the_contract.chain(BESIDE.iter().map(|(call, _)| ("", *call)))));
    let private = paths(&api::private_router(site.state.clone(), None));
    assert_eq!(private, known(&mut PRIVATE.iter().map(|(call, _)| ("", *call))));

    // A path takes the methods of its rows, and no others.
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    for path in public.iter().filter(|path| !path.starts_with("/in/")) {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE] {
            let in_table = |prefix: &str, call: &str| {
                let (of_row, row) = split(call);
                of_row == method && format!("{prefix}{}", row.trim_end_matches('/')) == *path
            };
            let taken = in_rows.iter().any(|call| in_table("/api/v1", call))
                || BESIDE.iter().any(|(call, _)| in_table("", call));
            let url = format!("{}{}", site.url, path.replace(['{', '}'], "x"));
            let status = client.request(method.clone(), url).send().await?.status();
            assert_eq!(status != StatusCode::METHOD_NOT_ALLOWED, taken, "{method} {path}: {status}");
        }
    }
    for (call, expected) in BESIDE {
        let (method, path) = split(call);
        let url = format!("{}{}", site.url, path.replace(['{', '}'], ""));
        assert_eq!(client.request(method, url).send().await?.status(), *expected, "{call}");
    }
    for (call, _) in PRIVATE {
        assert_eq!(client.get(format!("{}{}", site.url, split(call).1)).send().await?.status(), 404, "{call}");
    }
    Ok(())
}

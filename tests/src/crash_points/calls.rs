//! The writing routes of the contract that the load of `history` does not call: accounts, mails, shops, offers, flags.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use shared::clock::Clock;

use crate::stack::{Profile, environment};

const PASSWORD: &str = "Str0ng!Pass";
const OTHER_PASSWORD: &str = "An0ther!Pass";
/// How long one call is repeated, and one mail awaited.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is called.
#[derive(Debug, Clone)]
pub(super) struct Contract {
    client: reqwest::Client,
    api_url: String,
    mail_url: String,
    admin: (String, String),
}

/// What a call was answered in the end.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Contract {
    /// Of a stack that is up.
    ///
    /// # Errors
    /// When the stack does not say where.
    pub(super) fn new(profile: Profile) -> Result<Self> {
        let told = environment(profile)?;
        let at = |name: &str| told.get(name).cloned().with_context(|| format!("stack.env: {name}"));
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?,
            api_url: at("API_URL")?,
            mail_url: at("MAIL_URL")?,
            admin: (at("ADMIN_EMAIL")?, at("ADMIN_PASSWORD")?),
        })
    }

    /// Once through all of them, with people and shops of its own.
    ///
    /// # Errors
    /// When a call is refused that must not be, or nobody answers.
    pub(super) async fn round(&self, round: usize) -> Result<()> {
        let admin = self.sign_in(&self.admin.0, &self.admin.1).await?;
        self.shops(&admin, round).await?;
        let email = format!("shopper-{round}@example.org");
        let registration = json!({"email": email, "password": PASSWORD});
        self.call(None, Method::POST, "/users/", registration, &[201, 409]).await?;
        self.call(
            None,
            Method::POST,
            "/auth/verify-email",
            json!({"token": self.token(&email, "verify-email").await?}),
            &[204, 200, 400],
        )
        .await?;
        let shopper = self.sign_in(&email, PASSWORD).await?;
        let access = Some(shopper.as_str());
        self.call(access, Method::PUT, "/users/me/notifications", json!({"tracked": false}), &[200]).await?;
        let account = json!({"iban": "DE89370400440532013000", "account_holder": "Ada Lovelace"});
        self.call(access, Method::PUT, "/users/me/bank-account", account.clone(), &[200]).await?;
        self.call(access, Method::DELETE, "/users/me/bank-account", Value::Null, &[204, 404]).await?;
        self.call(access, Method::PUT, "/users/me/bank-account", account, &[200]).await?;
        self.accounts(&admin, &shopper, &email, round).await
    }

    /// What an administrator can do to shops, offers and flags.
    async fn shops(&self, admin: &str, round: usize) -> Result<()> {
        let access = Some(admin);
        let make = |name: String| json!({"name": name, "default_cashback_percentage": 5});
        // Under another name at each attempt: the first may have been stored although it was not answered.
        let other = self.made(access, "/merchants/", |n| make(format!("Shop {round}-{n}"))).await?;
        let at = format!("/merchants/{other}");
        self.call(access, Method::PATCH, &format!("{at}/status"), json!({"status": "inactive"}), &[200]).await?;
        self.call(access, Method::PATCH, &at, json!({"default_cashback_percentage": 6}), &[200]).await?;
        let today = Clock::System.now().date();
        let draft = |merchant: &str| {
            json!({
                "merchant_id": merchant, "cashback_type": "percent", "cashback_value": 5, "monthly_cap": 500,
                "start_date": today.to_string(), "end_date": "2099-12-31",
            })
        };
        self.call(access, Method::PATCH, &format!("{at}/status"), json!({"status": "active"}), &[200]).await?;
        self.call(access, Method::POST, "/offers/", draft(&other), &[201, 409]).await?;
        let listed =
            self.call(access, Method::GET, &format!("/offers/?merchant_id={other}"), Value::Null, &[200]).await?;
        let offer = listed.body.pointer("/data/0/id").and_then(Value::as_str).context("its offer")?.to_owned();
        let offer = format!("/offers/{offer}");
        self.call(access, Method::PATCH, &offer, json!({"cashback_value": 4}), &[200]).await?;
        self.call(access, Method::PATCH, &format!("{offer}/status"), json!({"status": "inactive"}), &[200]).await?;
        self.call(access, Method::DELETE, &offer, Value::Null, &[204, 404]).await?;
        self.call(access, Method::DELETE, &at, Value::Null, &[204, 404]).await?;
        let flag = format!("/feature-flags/rehearsal_{round}");
        self.call(access, Method::PUT, &flag, json!({"enabled": true}), &[200]).await?;
        self.call(access, Method::DELETE, &format!("{flag}?scope_type=global"), Value::Null, &[204, 404]).await?;
        Ok(())
    }

    /// What one can do to one's account, up to leaving.
    async fn accounts(&self, admin: &str, shopper: &str, email: &str, round: usize) -> Result<()> {
        let access = Some(shopper);
        self.call(access, Method::POST, "/users/me/email-verification", Value::Null, &[200, 202, 204, 400, 409])
            .await?;
        let passing = format!("passing-{round}@example.org");
        self.call(None, Method::POST, "/users/", json!({"email": passing, "password": PASSWORD}), &[201, 409]).await?;
        let answer = self.login(&passing, PASSWORD).await?;
        let refresh = answer.get("refresh_token").cloned().context("a refresh token")?;
        let mut token = access_token(&answer)?;
        let refreshed =
            self.call(None, Method::POST, "/auth/refresh", json!({"refresh_token": refresh}), &[200, 401]).await?;
        let refresh = refreshed.body.get("refresh_token").cloned().unwrap_or(refresh);
        self.call(None, Method::POST, "/auth/logout", json!({"refresh_token": refresh}), &[200, 204, 401]).await?;
        self.call(Some(&token), Method::POST, "/users/me/email-verification", Value::Null, &[200, 202, 204, 400, 409])
            .await?;
        let moved = format!("moved-{round}@example.org");
        let change = json!({"email": moved, "current_password": PASSWORD});
        self.call(Some(&token), Method::PATCH, "/users/me", change, &[200]).await?;
        let change = json!({"current_password": PASSWORD, "new_password": OTHER_PASSWORD});
        self.call(Some(&token), Method::PUT, "/users/me/password", change, &[200, 204, 400, 401, 403, 422]).await?;
        self.call(None, Method::POST, "/auth/password-reset", json!({"email": email}), &[202]).await?;
        let link = self.token(email, "reset-password").await?;
        let reset = json!({"token": link, "new_password": PASSWORD});
        self.call(None, Method::POST, "/auth/password-reset/confirm", reset, &[200, 204, 400]).await?;
        // A changed password ends all sessions.
        token = self.sign_in(&moved, OTHER_PASSWORD).await?;
        let me = self.call(Some(&token), Method::GET, "/users/me", Value::Null, &[200]).await?;
        let id = me.body.get("id").and_then(Value::as_str).context("its id")?.to_owned();
        for status in ["inactive", "active"] {
            let at = format!("/users/{id}/status");
            self.call(Some(admin), Method::PATCH, &at, json!({"status": status}), &[200]).await?;
        }
        token = self.sign_in(&moved, OTHER_PASSWORD).await?;
        let leave = json!({"password": OTHER_PASSWORD, "forfeit": true});
        self.call(Some(&token), Method::DELETE, "/users/me", leave, &[204, 401]).await?;
        Ok(())
    }

    /// An administrator refuses a payout that has not begun.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn refuse_payout(&self, id: &str) -> Result<()> {
        let admin = self.sign_in(&self.admin.0, &self.admin.1).await?;
        let at = format!("/admin/payouts/{id}/process");
        self.call(Some(&admin), Method::PATCH, &at, json!({"status": "failed"}), &[200, 400]).await?;
        Ok(())
    }

    async fn sign_in(&self, email: &str, password: &str) -> Result<String> {
        access_token(&self.login(email, password).await?)
    }

    async fn login(&self, email: &str, password: &str) -> Result<Value> {
        let body = json!({"email": email, "password": password});
        Ok(self.call(None, Method::POST, "/auth/login", body, &[200]).await?.body)
    }

    /// The token of the newest link of a kind that came by mail.
    async fn token(&self, email: &str, kind: &str) -> Result<String> {
        let (begun, start) = (Instant::now(), format!("/{kind}?token="));
        while begun.elapsed() < PATIENCE {
            let got: Value = self.client.get(format!("{}/messages", self.mail_url)).send().await?.json().await?;
            let messages = got.get("messages").unwrap_or(&got).as_array().cloned().unwrap_or_default();
            let text = |message: &Value, field: &str| message.get(field)?.as_str().map(str::to_owned);
            let mine = messages.iter().filter(|message| text(message, "to").as_deref() == Some(email));
            let mut tokens = mine.filter_map(|message| text(message, "text")).filter_map(|text| {
                let token = text.split_once(&start)?.1.split_whitespace().next()?.to_owned();
                Some(token)
            });
            if let Some(token) = tokens.next_back() {
                return Ok(token);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("no mail with a link {kind} came to {email}")
    }

    /// Makes something under a name of its own at each attempt; its id.
    async fn made(&self, access: Option<&str>, path: &str, body: impl Fn(usize) -> Value) -> Result<String> {
        for attempt in 0..20 {
            if let Some(answer) = self.once(access, &Method::POST, path, &body(attempt)).await
                && answer.status == 201
            {
                return Ok(answer.body.get("id").and_then(Value::as_str).context("id")?.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        bail!("{path}: nothing could be made")
    }

    async fn call(
        &self,
        access: Option<&str>,
        method: Method,
        path: &str,
        body: Value,
        good: &[u16],
    ) -> Result<Answer> {
        self.until_answered(access, &method, path, &body, good).await
    }

    /// Repeats the same call until there is an answer.
    async fn until_answered(
        &self,
        access: Option<&str>,
        method: &Method,
        path: &str,
        body: &Value,
        good: &[u16],
    ) -> Result<Answer> {
        let begun = Instant::now();
        loop {
            match self.once(access, method, path, body).await {
                Some(answer) if good.contains(&answer.status) => return Ok(answer),
                // Under way: the process that did it is gone, its connection not yet.
                Some(answer) if !(answer.status >= 500 || matches!(answer.status, 429 | 409)) => {
                    bail!("{method} {path}: {} {}", answer.status, answer.body)
                }
                Some(answer) if begun.elapsed() > PATIENCE => {
                    bail!("{method} {path}: still {} {}", answer.status, answer.body)
                }
                None if begun.elapsed() > PATIENCE => bail!("{method} {path}: no answer"),
                Some(_) | None => tokio::time::sleep(Duration::from_millis(150)).await,
            }
        }
    }

    async fn once(&self, access: Option<&str>, method: &Method, path: &str, body: &Value) -> Option<Answer> {
        let mut request = self.client.request(method.clone(), format!("{}/api/v1{path}", self.api_url));
        if let Some(access) = access {
            request = request.bearer_auth(access);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some(Answer { status, body: serde_json::from_str(&text).unwrap_or_default() })
    }
}

fn access_token(answer: &Value) -> Result<String> {
    Ok(answer.get("access_token").and_then(Value::as_str).context("an access token")?.to_owned())
}

//! What a shopper of the contract does, turn by turn, and what administrators decide about it. Whatever is asked may
//! be asked twice on purpose: at the same moment, late, or under another key.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use shared::users::Role;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::caller::{Caller, Request};
use super::people::{Buyer, PASSWORD, People, new_iban};
use crate::demo::catalogue::{Catalogue, Shop};
use crate::history::{Answer, Intent, cents};
use crate::network::reference::hundredths;

/// What everybody here shares.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) caller: Arc<Caller>,
    pub(super) world: Arc<Catalogue>,
    pub(super) people: People,
    pub(super) seed: u64,
    pub(super) think: Duration,
    pub(super) stop: CancellationToken,
}

impl Setting {
    /// Pauses; false: told to stop.
    async fn goes_on(&self, pause: Duration) -> bool {
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }

    /// Shops whose reward is the same for every purchase of a price: open and without a cap.
    fn shops(&self) -> Vec<&Shop> {
        let plain = |shop: &&Shop| shop.active && shop.offer.is_some_and(|offer| offer.cap.is_none());
        self.world.shops.iter().filter(plain).collect()
    }
}

/// Switches `purchase_auto_confirm` of one shop after another off and on again, until told to stop. It is on in the end.
pub(super) async fn switch_flags(setting: Setting) -> Result<()> {
    let mut random = StdRng::seed_from_u64(setting.seed ^ 0x666c_6167);
    let admin = *setting.people.admins.first().context("an administrator")?;
    while setting.goes_on(Duration::from_secs(4)).await {
        let shops = setting.shops();
        let merchant = shops.get(random.random_range(0..shops.len())).context("a shop")?.id;
        for enabled in [false, true] {
            let request = Request {
                caller: Some((admin, Role::Admin)),
                method: Method::PUT,
                path: "/feature-flags/purchase_auto_confirm".to_owned(),
                body: json!({"enabled": enabled, "scope_type": "merchant", "scope_id": merchant}),
                key: None,
            };
            setting.caller.call(Intent::Flag { admin, merchant, enabled }, &request).await?;
            setting.goes_on(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// Lives as the shopper with this index until told to stop.
pub(super) async fn shopper(setting: Setting, index: usize) -> Result<()> {
    let me = setting.people.shoppers.get(index).context("a shopper")?.clone();
    let random = StdRng::seed_from_u64(setting.seed ^ (0x6c69_6665 + index as u64));
    let mut life = Life { me, setting, random, count: 0, last: None, confirmed: Vec::new() };
    // Without an account nothing is paid.
    life.store_account().await?;
    loop {
        match life.random.random_range(0..100) {
            0..45 => life.buy().await?,
            45..70 => life.withdraw().await?,
            70..80 => life.regret().await?,
            80..90 => drop(life.look().await?),
            90..96 => life.store_account().await?,
            _ => life.sign_in().await?,
        }
        let pause = life.setting.think.mul_f32(life.random.random_range(0.5..1.5));
        if !life.setting.goes_on(pause).await {
            return Ok(());
        }
    }
}

struct Life {
    me: Buyer,
    setting: Setting,
    random: StdRng,
    /// Makes keys of one's own.
    count: usize,
    /// A call that succeeded, to be repeated late.
    last: Option<(Intent, Request)>,
    /// Purchases that were confirmed, of which some are taken back later.
    confirmed: Vec<Uuid>,
}

impl Life {
    fn new_key(&mut self, of: &str) -> String {
        self.count += 1;
        format!("{of}-{}-{}-{}", self.setting.seed, self.me.id.simple(), self.count)
    }

    fn admin(&mut self) -> Result<Uuid> {
        let admins = &self.setting.people.admins;
        admins.get(self.random.random_range(0..admins.len())).copied().context("an administrator")
    }

    async fn call(&self, (intent, request): &(Intent, Request)) -> Result<Option<Answer>> {
        self.setting.caller.call(intent.clone(), request).await
    }

    /// Makes a call, sometimes twice at the same moment; of two the first success counts.
    async fn call_perhaps_twice(&mut self, call: (Intent, Request)) -> Result<Option<Answer>> {
        let answer = if self.random.random_range(0..10) == 0 {
            let (one, two) = tokio::try_join!(self.call(&call), self.call(&call))?;
            if one.as_ref().is_some_and(succeeded) { one } else { two }
        } else {
            self.call(&call).await?
        };
        let answer = answer.filter(succeeded);
        if answer.is_some() {
            self.last = Some(call);
        }
        Ok(answer)
    }

    fn mine(&self, method: Method, path: &str, body: Value, key: Option<String>) -> Request {
        Request { caller: Some((self.me.id, Role::User)), method, path: path.to_owned(), body, key }
    }

    async fn buy(&mut self) -> Result<()> {
        if self.random.random_range(0..10) == 0
            && let Some(late) = self.last.clone()
        {
            // The same again, long after: the first answer comes again.
            drop(self.call(&late).await?);
        }
        let shops = self.setting.shops();
        let merchant = shops.get(self.random.random_range(0..shops.len())).context("a shop")?.id;
        let cents = self.random.random_range(2_000..30_000);
        let (external_id, key) = (self.new_key("EXT"), self.new_key("key"));
        let declared = self.declaration(&external_id, merchant, cents, key);
        let answer = self.call_perhaps_twice(declared).await?;
        if self.random.random_range(0..20) == 0 {
            // Under another key it is a purchase that was declared before.
            let key = self.new_key("key");
            let again = self.declaration(&external_id, merchant, cents, key);
            drop(self.call(&again).await?);
        }
        let id = answer.and_then(|answer| answer.body.get("id")?.as_str()?.parse().ok());
        match id {
            Some(id) => self.decide(id).await,
            None => Ok(()),
        }
    }

    fn declaration(&self, external_id: &str, merchant: Uuid, cents: i64, key: String) -> (Intent, Request) {
        let body = json!({
            "external_id": external_id, "user_id": self.me.id, "merchant_id": merchant, "amount": hundredths(cents),
            "currency": "EUR",
        });
        let request = self.mine(Method::POST, "/purchases/", body, Some(key.clone()));
        let user = self.me.id;
        (Intent::Purchase { user, external_id: external_id.to_owned(), merchant, cents, key }, request)
    }

    /// What people make of a purchase at once; some of what they confirm is taken back later.
    async fn decide(&mut self, id: Uuid) -> Result<()> {
        let (one, two) = (self.confirmation(id)?, self.confirmation(id)?);
        let back = self.reversal(id)?;
        match self.random.random_range(0..100) {
            0..60 => {
                drop(self.call_perhaps_twice(one).await?);
                self.confirmed.push(id);
            }
            60..70 => {
                // Two at once: one of them finds it decided.
                let _answers = tokio::try_join!(self.call(&one), self.call(&two))?;
                self.confirmed.push(id);
            }
            70..80 => drop(self.call(&back).await?),
            80..88 => {
                let _answers = tokio::try_join!(self.call(&one), self.call(&back))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn confirmation(&mut self, purchase: Uuid) -> Result<(Intent, Request)> {
        let (admin, key) = (self.admin()?, self.new_key("decision"));
        let path = format!("/purchases/{purchase}/confirmation");
        let caller = Some((admin, Role::Admin));
        let request = Request { caller, method: Method::POST, path, body: Value::Null, key: Some(key.clone()) };
        Ok((Intent::Confirm { admin, purchase, key }, request))
    }

    fn reversal(&mut self, purchase: Uuid) -> Result<(Intent, Request)> {
        let admin = self.admin()?;
        let path = format!("/purchases/{purchase}/reverse");
        let caller = Some((admin, Role::Admin));
        let request = Request { caller, method: Method::PATCH, path, body: Value::Null, key: None };
        Ok((Intent::Reverse { admin, purchase }, request))
    }

    /// A confirmed purchase is taken back, whatever became of its cashback.
    async fn regret(&mut self) -> Result<()> {
        if self.confirmed.is_empty() {
            return Ok(());
        }
        let id = self.confirmed.swap_remove(self.random.random_range(0..self.confirmed.len()));
        let back = self.reversal(id)?;
        drop(self.call(&back).await?);
        Ok(())
    }

    /// Asks for some of what is available; now and then for more than that.
    async fn withdraw(&mut self) -> Result<()> {
        let looked = self.look().await?;
        let available = looked.and_then(|answer| cents(answer.body.get("available")?)).unwrap_or_default();
        if available < 100 {
            return Ok(());
        }
        let more = if self.random.random_range(0..12) == 0 { available } else { 0 };
        let amount = more + self.random.random_range(100..=available.min(900));
        let named = self.random.random_range(0..3) == 0;
        let account = named.then(|| self.new_account());
        let path = ["/users/payouts", "/users/me/payouts", "/users/wallet/withdraw"];
        let path = path.get(self.random.random_range(0..path.len())).copied().unwrap_or("/users/payouts");
        let key = self.new_key("payout");
        let wish = self.wish(path, amount, &key, account.clone());
        let asked = self.call_perhaps_twice(wish).await?;
        if asked.is_some() && self.random.random_range(0..10) == 0 {
            // Another amount under the same key is refused.
            let other = self.wish(path, amount + 1, &key, account);
            drop(self.call(&other).await?);
        }
        Ok(())
    }

    fn wish(&self, path: &str, cents: i64, key: &str, account: Option<(String, String)>) -> (Intent, Request) {
        let mut body = json!({"amount": hundredths(cents), "method": "bank_transfer"});
        if let (Some((iban, holder)), Some(body)) = (&account, body.as_object_mut()) {
            body.insert("details".to_owned(), json!({"iban": iban, "account_holder": holder}));
        }
        let request = self.mine(Method::POST, path, body, Some(key.to_owned()));
        let (user, path, key) = (self.me.id, path.to_owned(), key.to_owned());
        (Intent::Payout { user, cents, path, key, account }, request)
    }

    fn new_account(&mut self) -> (String, String) {
        self.count += 1;
        (new_iban(&mut self.random), format!("Buyer {}", self.count))
    }

    async fn store_account(&mut self) -> Result<()> {
        let (iban, holder) = self.new_account();
        let body = json!({"iban": iban, "account_holder": holder});
        let request = self.mine(Method::PUT, "/users/me/bank-account", body, None);
        drop(self.call(&(Intent::Account { user: self.me.id, iban, holder }, request)).await?);
        Ok(())
    }

    async fn look(&mut self) -> Result<Option<Answer>> {
        let request = self.mine(Method::GET, "/users/me/wallet/details", Value::Null, None);
        self.call(&(Intent::Wallet { user: self.me.id }, request)).await
    }

    async fn sign_in(&mut self) -> Result<()> {
        let body = json!({"email": self.me.email, "password": PASSWORD});
        let request = Request { caller: None, method: Method::POST, path: "/auth/login".to_owned(), body, key: None };
        drop(self.call(&(Intent::SignIn { user: self.me.id }, request)).await?);
        Ok(())
    }
}

fn succeeded(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

//! The application's own roles can do all of this, and the limit of declarations (design §9).

use anyhow::Result;
use api::limits::Rates;
use api::settings::Settings;
use rust_decimal::Decimal;
use shared::cashback::by_person;
use shared::cashback::confirm::confirm;
use shared::db::Conn;
use shared::flags::auto_confirm;
use shared::ids::{JobId, MerchantId, PurchaseId, UserId, WorkerId};
use shared::intake::{Declaration, declare};
use shared::jobs::{self, Queue, Room};
use shared::limits::Rules;
use shared::purchases::{Scope, wake_parked};
use tests::contract::Site;
use tests::contract::seed::{ALICE, BANK_SIM_FAIL, CAROL, SHOPLY};
use uuid::Uuid;

use super::{body, hold, refused, shopper};

async fn as_role(conn: &mut Conn, role: &'static str) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET ROLE {role}"))).execute(conn).await?;
    Ok(())
}

async fn declared(site: &Site, conn: &mut Conn, key: &str, merchant: Uuid) -> Result<PurchaseId> {
    let said = Declaration {
        external_id: key.to_owned(),
        buyer: UserId(ALICE),
        merchant: MerchantId(merchant),
        amount: Decimal::from(400),
        currency: "EUR".to_owned(),
    };
    Ok(declare(conn, site.now(), &Room::open(), None, &said).await?.0.purchase)
}

#[tokio::test]
async fn the_role_that_answers_http_declares_confirms_and_reverses() -> Result<()> {
    let site = Site::start().await?;
    let mut conn = site.pool.acquire().await?.detach();
    as_role(&mut conn, "clicknback_api").await?;
    let (now, room, carol) = (site.now(), Room::open(), UserId(CAROL));
    let purchase = declared(&site, &mut conn, "o-1", SHOPLY).await?;
    let _ = by_person::confirm(&mut conn, now, &room, carol, purchase).await?;
    hold(&site, ALICE, 15, "requested").await?;
    let _ = by_person::reverse(&mut conn, now, &room, carol, purchase).await?;
    let _ = wake_parked(&mut conn, now, &room, Scope::All).await?;
    site.books_agree().await
}

#[tokio::test]
async fn the_workers_role_confirms_and_rejects() -> Result<()> {
    let mut site = Site::start().await?;
    site.simulation.attempts = 1;
    let mut conn = site.pool.acquire().await?.detach();
    declared(&site, &mut conn, "o-1", SHOPLY).await?;
    declared(&site, &mut conn, "o-2", BANK_SIM_FAIL).await?;
    as_role(&mut conn, "clicknback_worker").await?;
    let (now, room, worker) = (site.now(), Room::open(), WorkerId::new());
    let ids: Vec<JobId> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE queue = 'confirm'").fetch_all(&mut conn).await?;
    let claimed = jobs::claim::claim(&mut conn, now, worker, Queue::Confirm, &ids).await?;
    let worked = confirm(&mut conn, now, &room, worker, &site.simulation, &claimed).await?;
    let _ = jobs::settle(&mut conn, now, &room, worker, &worked.answers).await?;
    let states: Vec<String> =
        sqlx::query_scalar("SELECT state FROM purchases ORDER BY group_key").fetch_all(&mut conn).await?;
    assert_eq!(states, ["confirmed", "rejected"]);
    auto_confirm::hold_still(&mut conn).await?;
    site.books_agree().await
}

#[tokio::test]
async fn section_19_too_many_declarations_are_429() -> Result<()> {
    let rules = Rules { purchases: Some("3/min".parse()?), ..Rules::generous() };
    let site = Site::start_with(Settings::default(), Rates::local(rules)).await?;
    let alice = shopper(&site, ALICE);
    for key in ["a", "b", "c"] {
        assert_eq!(alice.post("/purchases/", body(key, ALICE, SHOPLY, "10")).await?.status, 201);
    }
    let refusal = alice.post("/purchases/", body("d", ALICE, SHOPLY, "10")).await?;
    assert_eq!(refused(&refusal), (429, "RATE_LIMITED"));
    assert!(refusal.headers.contains_key("retry-after"));
    // Each shopper has a bucket of their own.
    let carol = site.with_token(&site.state.tokens.access(site.now(), UserId(CAROL), shared::users::Role::Admin));
    assert_eq!(carol.post("/purchases/", body("e", CAROL, SHOPLY, "10")).await?.status, 201);
    Ok(())
}

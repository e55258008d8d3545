//! `clicknback import-original`: an original database (contract §10, with the defects of §18) moved to a site that has
//! other data already.

use anyhow::{Context, Result};
use serde_json::Value;
use shared::original::{self, Options};
use sqlx::{Connection, PgConnection, PgPool};
use tests::contract::Site;
use tests::contract::seed::PASSWORD;
use tests::database::fresh;
use uuid::Uuid;
use worker::cli::import::{Arguments, run};

/// A database of the original with the fixture's rows. Its URL.
async fn an_original() -> Result<String> {
    let server = std::env::var("TEST_POSTGRES_URL")?;
    let server = server.trim_end_matches('/');
    let name = format!("original_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
    let url = format!("{server}/{name}");
    let mut own = PgConnection::connect(&url).await?;
    sqlx::raw_sql(include_str!("../../fixtures/original/schema.sql")).execute(&mut own).await?;
    sqlx::raw_sql(include_str!("../../fixtures/original/data.sql")).execute(&mut own).await?;
    // As its own configuration names it.
    Ok(url.replacen("postgres://", "postgresql+asyncpg://", 1))
}

fn arguments(from: &str, dry_run: bool) -> Arguments {
    Arguments { from: from.to_owned(), dry_run, emails_verified: false }
}

fn found<'a>(report: &'a Value, kind: &str) -> Vec<(&'a str, Option<&'a str>)> {
    let all = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .filter(|finding| finding["kind"] == kind)
        .map(|finding| (finding["id"].as_str().unwrap_or_default(), finding["amount"].as_str()))
        .collect()
}

async fn count(pool: &PgPool, table: &str) -> Result<i64> {
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(pool).await?)
}

async fn wallet(pool: &PgPool, email: &str) -> Result<Option<String>> {
    Ok(sqlx::query_scalar(
        "SELECT format('%s/%s/%s', w.pending, w.available, w.paid) FROM wallets w JOIN users u ON u.id = w.user_id
         WHERE u.email = $1",
    )
    .bind(email)
    .fetch_optional(pool)
    .await?)
}

#[tokio::test]
async fn an_original_database_is_moved_and_what_did_not_add_up_is_named() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    let answer = run(&site.pool, site.now(), &arguments(&from, false)).await?;
    assert!(answer.well, "{}", answer.text);
    let report = &answer.json;

    // Nobody loses what a purchase promised, nobody gets what a second worker credited.
    assert_eq!(wallet(&site.pool, "ann@example.com").await?.as_deref(), Some("19.05/15.00/50.00"));
    assert_eq!(wallet(&site.pool, "ben@example.com").await?.as_deref(), Some("0.00/5.00/0.00"));
    assert_eq!(wallet(&site.pool, "cem@example.com").await?.as_deref(), Some("0.00/0.00/0.00"));
    assert_eq!(wallet(&site.pool, "dee@example.com").await?.as_deref(), Some("0.00/6.00/4.00"));
    assert_eq!(wallet(&site.pool, "eve@example.com").await?, None);
    assert_eq!(wallet(&site.pool, "fay@shop.test").await?.as_deref(), Some("0.00/0.00/0.00"));
    let money = |side: &str| -> Vec<&str> {
        ["pending", "available", "paid"].map(|b| report["money"][side][b].as_str().unwrap_or_default()).to_vec()
    };
    assert_eq!(money("before"), ["-27.95", "70.00", "54.00"]);
    assert_eq!(money("after"), ["19.05", "26.00", "54.00"]);

    let (ann, ben) = ("10000000-0000-4000-8000-000000000001", "10000000-0000-4000-8000-000000000002");
    let (cem, six) = ("10000000-0000-4000-8000-000000000003", "shopper-six");
    assert_eq!(found(report, "doubled_credit"), [(ben, Some("45.00")), (six, Some("2.00"))]);
    assert_eq!(found(report, "restored_available"), [(cem, Some("3.00"))]);
    assert_eq!(found(report, "unexplained_paid"), [(ann, Some("50.00"))]);
    assert_eq!(found(report, "negative_balance"), [(ben, Some("-45.00")), (cem, Some("-3.00")), (six, Some("-2.00"))]);
    assert_eq!(found(report, "states_disagree"), [("purchase-seven", Some("2.00"))]);
    assert_eq!(found(report, "amounts_disagree"), [("40000000-0000-4000-8000-000000000002", Some("11.00"))]);
    assert_eq!(found(report, "purchase_left_out"), [("40000000-0000-4000-8000-000000000009", Some("9.99"))]);
    assert_eq!(
        found(report, "cashback_left_out"),
        [
            ("ct000001-0000-0000-0000-000000000008", Some("1.00")),
            ("ct000001-0000-0000-0000-000000000009", Some("0.50"))
        ]
    );
    assert_eq!(found(report, "wallet_left_out"), [("nobody", Some("9.00"))]);
    assert_eq!(found(report, "id_replaced"), [(six, None), ("purchase-seven", None)]);
    assert_eq!(found(report, "address_unusable"), [(six, None)]);
    assert_eq!(found(report, "merchant_renamed"), [("20000000-0000-4000-8000-000000000003", None)]);
    assert_eq!(found(report, "value_rounded"), [("20000000-0000-4000-8000-000000000002", None)]);
    assert_eq!(found(report, "offer_switched_off"), [("30000000-0000-4000-8000-000000000001", None)]);
    assert_eq!(found(report, "offer_left_out"), [("offer-four", None)]);
    assert_eq!(found(report, "cap_dropped"), [("30000000-0000-4000-8000-000000000003", None)]);
    assert_eq!(found(report, "flag_left_out"), [("ff000000-0000-0000-0000-000000000003", None)]);
    assert_eq!(
        report["tables"]["purchases"],
        serde_json::json!({ "found": 9, "imported": 8, "already_here": 0, "left_out": 1 })
    );
    assert_eq!(report["tables"]["users"]["imported"], 6);
    assert_eq!(report["books_agree"], true);
    Ok(())
}

#[tokio::test]
async fn imported_rows_are_ordinary_ones() -> Result<()> {
    let site = Site::start().await?;
    run(&site.pool, site.now(), &arguments(&an_original().await?, false)).await?;
    let offers: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT kind, trim_scale(value)::text || '/' || coalesce(monthly_cap::text, 'none'), active FROM offers
         WHERE merchant_id IN (SELECT id FROM merchants WHERE name IN ('Bookworm', 'Teapot')) ORDER BY id",
    )
    .fetch_all(&site.pool)
    .await?;
    assert_eq!(
        offers,
        [
            ("percent".into(), "5/100.00".into(), false),
            ("percent".into(), "6.1/50.50".into(), true),
            ("fixed".into(), "7.555/none".into(), true)
        ]
    );
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM merchants WHERE name ILIKE 'teapot%' ORDER BY id")
        .fetch_all(&site.pool)
        .await?;
    assert_eq!(names, ["Teapot", "teapot (2)"]);
    // Naive times are UTC; the time of the confirmation is the audit log's.
    let (created, confirmed): (String, String) = sqlx::query_as(
        "SELECT to_char(created_at, 'YYYY-MM-DD HH24:MI:SS'), to_char(confirmed_at, 'YYYY-MM-DD HH24:MI:SS')
         FROM purchases WHERE network = 'self' AND group_key = 'ann-3'",
    )
    .fetch_one(&site.pool)
    .await?;
    assert_eq!((created.as_str(), confirmed.as_str()), ("2025-07-03 10:00:00", "2025-07-03 10:01:00"));
    // A purchase that was paid out in part has two transfers; a flag of a shopper follows their new id.
    let parts: Vec<(String, String)> = sqlx::query_as(
        "SELECT t.credit_account, t.amount::text FROM transfers t JOIN purchases p ON p.id = t.purchase_id
         WHERE p.group_key = 'dee-1' AND t.code = 'open' ORDER BY t.version",
    )
    .fetch_all(&site.pool)
    .await?;
    assert_eq!(parts, [("paid".into(), "4.00".into()), ("available".into(), "6.00".into())]);
    let follows: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM feature_flags f JOIN users u ON u.id = f.scope_id WHERE u.email = 'fay@shop.test')",
    )
    .fetch_one(&site.pool)
    .await?;
    assert!(follows);
    // The pending ones go on here.
    site.work().await?;
    site.books_agree().await
}

#[tokio::test]
async fn imported_shoppers_sign_in_with_their_old_password_which_is_upgraded() -> Result<()> {
    let site = Site::start().await?;
    run(&site.pool, site.now(), &arguments(&an_original().await?, false)).await?;
    let ann = site.sign_in_as("ann@example.com", PASSWORD).await?;
    assert_eq!(ann.get("/users/me/wallet").await?.body["pending_balance"], "19.05");
    assert_eq!(ann.get("/users/me/purchases").await?.body["pagination"]["total"], 3);
    // §2: no wallet row, other zeros.
    let eve = site.sign_in_as("eve@example.com", PASSWORD).await?;
    assert_eq!(eve.get("/users/me/wallet").await?.body["pending_balance"], "0");
    // Once more, by the new hash.
    site.sign_in_as("ann@example.com", PASSWORD).await?;
    let upgraded: bool =
        sqlx::query_scalar("SELECT password_hash LIKE '$argon2id$%' FROM users WHERE email = 'ann@example.com'")
            .fetch_one(&site.pool)
            .await?;
    assert!(upgraded);
    Ok(())
}

#[tokio::test]
async fn a_second_run_imports_nothing_twice_and_says_so() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    run(&site.pool, site.now(), &arguments(&from, false)).await?;
    let rows = |pool: PgPool| async move {
        anyhow::Ok((count(&pool, "users").await?, count(&pool, "purchases").await?, count(&pool, "transfers").await?))
    };
    let before = rows(site.pool.clone()).await?;
    // Somebody went on buying there.
    let mut own = PgConnection::connect(&from.replacen("+asyncpg", "", 1)).await?;
    sqlx::query(
        "INSERT INTO purchases VALUES ('40000000-0000-4000-8000-000000000010', 'ann-4', '10000000-0000-4000-8000-000000000001',
             '20000000-0000-4000-8000-000000000001', NULL, 10, 0, 'EUR', 'pending', now())",
    )
    .execute(&mut own)
    .await?;
    let report = run(&site.pool, site.now(), &arguments(&from, false)).await?.json;
    assert_eq!(rows(site.pool.clone()).await?, before);
    assert_eq!(
        report["tables"]["users"],
        serde_json::json!({ "found": 6, "imported": 0, "already_here": 6, "left_out": 0 })
    );
    assert_eq!(report["tables"]["merchants"]["already_here"], 3);
    assert_eq!(report["tables"]["purchases"]["already_here"], 8);
    assert!(found(&report, "purchase_left_out").contains(&("40000000-0000-4000-8000-000000000010", Some("10.00"))));
    site.books_agree().await
}

/// A run that died has told nobody what it found.
#[tokio::test]
async fn a_second_run_names_again_what_did_not_add_up() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    let first = run(&site.pool, site.now(), &arguments(&from, false)).await?.json;
    let again = run(&site.pool, site.now(), &arguments(&from, false)).await?.json;
    assert_eq!(again["findings"], first["findings"]);
    Ok(())
}

#[tokio::test]
async fn every_row_that_was_found_is_accounted_for() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    for _ in 0..2 {
        let report = run(&site.pool, site.now(), &arguments(&from, false)).await?.json;
        for (table, counts) in report["tables"].as_object().context("tables")? {
            let of = |name: &str| counts[name].as_u64().unwrap_or_default();
            assert_eq!(of("found"), of("imported") + of("already_here") + of("left_out"), "{table}: {counts}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dry_run_finds_out_the_same_and_writes_nothing() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    let before = (count(&site.pool, "users").await?, count(&site.pool, "merchants").await?);
    let dry = run(&site.pool, site.now(), &arguments(&from, true)).await?.json;
    assert_eq!((count(&site.pool, "users").await?, count(&site.pool, "merchants").await?), before);
    let wet = run(&site.pool, site.now(), &arguments(&from, false)).await?.json;
    for part in ["tables", "money", "findings"] {
        assert_eq!(dry[part], wet[part]);
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_are_taken_stop_it_before_anything_is_written() -> Result<()> {
    let site = Site::start().await?;
    let from = an_original().await?;
    sqlx::query("UPDATE users SET email = 'eve@example.com' WHERE email = 'jero@clicknback.com'")
        .execute(&site.pool)
        .await?;
    sqlx::query("UPDATE merchants SET name = 'BOOKWORM' WHERE name = 'Shoply'").execute(&site.pool).await?;
    let answer = run(&site.pool, site.now(), &arguments(&from, false)).await?;
    assert!(!answer.well);
    let taken = answer.json["collisions"].as_array().context("collisions")?;
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert_eq!(count(&site.pool, "purchases").await?, 0);
    Ok(())
}

#[tokio::test]
async fn it_refuses_its_own_database_and_what_is_no_original() -> Result<()> {
    let (own, from) = (fresh().await?, an_original().await?);
    let wrong = original::import(&own.pool, &own.url, tests::world::NOON, Options::default()).await;
    assert!(matches!(wrong, Err(original::ImportError::NotOriginal(_))), "{wrong:?}");
    // Under another name of the same server it is still the same database.
    let pool = shared::db::connect_lazy(&from.replacen("+asyncpg", "", 1), "test", 2)?;
    let other_name = from.replacen("127.0.0.1", "localhost", 1);
    let itself = original::import(&pool, &other_name, tests::world::NOON, Options::default()).await;
    assert!(matches!(itself, Err(original::ImportError::Itself)));
    Ok(())
}

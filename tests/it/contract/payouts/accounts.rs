//! Where a payout goes: `details` of a request, and `/users/me/bank-account`.

use anyhow::Result;
use serde_json::{Value, json};
use shared::ids::{PayoutId, UserId};
use shared::payouts::store;
use tests::contract::Site;
use tests::contract::seed::{ALICE, BOB};

use super::counter::{IBAN, OTHER_IBAN, bank, count, grant, id, requested, shopper, transfer, violations};

const ROUTE: &str = "/users/me/bank-account";

/// The account number a payout would be sent to.
async fn destination(site: &Site, user: uuid::Uuid, payout: uuid::Uuid) -> Result<String> {
    let mut conn = site.pool.acquire().await?;
    let account = store::account(&mut conn, &site.state.data_keys, UserId(user), PayoutId(payout)).await?;
    Ok(account.map(|account| account.iban.clone()).unwrap_or_default())
}

#[tokio::test]
async fn an_account_is_stored_sealed_shown_masked_and_audited_without_the_number() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    let none = alice.get(ROUTE).await?;
    assert_eq!((none.status, none.details()["resource_type"].as_str()), (404, Some("bank_account")));
    assert_eq!(alice.delete(ROUTE, Value::Null).await?.status, 404);

    let masked = json!({"iban": "DE •••• 3000", "account_holder": "A••• L•••"});
    let body = json!({"iban": "de89 3704 0044 0532 0130 00", "account_holder": " Ada  Lovelace "});
    let stored = alice.put(ROUTE, body).await?;
    assert_eq!((stored.status, &stored.body), (200, &masked));
    assert_eq!(alice.get(ROUTE).await?.body, masked);
    assert_eq!(shopper(&site, BOB).get(ROUTE).await?.status, 404, "§14: nobody else's");
    assert_eq!(count(&site, "SELECT count(*) FROM bank_accounts AS b WHERE b::text LIKE '%0532013000%'").await?, 0);

    assert_eq!(alice.delete(ROUTE, Value::Null).await?.status, 204);
    assert_eq!(alice.get(ROUTE).await?.status, 404);
    let audited = "SELECT count(*) FROM audit_log WHERE resource_type = 'bank_account' AND actor_type = 'user'
                   AND action IN ('BANK_ACCOUNT_CHANGED', 'BANK_ACCOUNT_REMOVED') AND details = '{}'";
    assert_eq!(count(&site, audited).await?, 2);
    Ok(())
}

#[tokio::test]
async fn bad_accounts_are_400_and_missing_fields_422() -> Result<()> {
    let site = Site::start().await?;
    let alice = shopper(&site, ALICE);
    for iban in ["", "DE89370400440532013001", "DE89", "XX00", "DE89-3704-0044-0532-0130-00"] {
        let answer = alice.put(ROUTE, json!({"iban": iban, "account_holder": "\u{7}"})).await?;
        assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"), "{iban}");
        assert_eq!(violations(&answer), ["iban", "account_holder"]);
    }
    let answer = alice.put(ROUTE, json!({"iban": 5})).await?;
    assert_eq!((answer.status, violations(&answer)), (422, vec!["iban".into(), "account_holder".into()]));
    assert_eq!(site.anonymous().get(ROUTE).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn section_12_details_become_the_stored_account() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 5_000).await?;
    let alice = shopper(&site, ALICE);
    let with = |iban: &str| json!({"amount": 10, "method": "bank_transfer", "details": {"iban": iban, "account_holder": "Ada Lovelace"}});
    let first = alice.post("/users/wallet/withdraw", with(IBAN)).await?;
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(alice.get(ROUTE).await?.body["iban"], "DE •••• 3000");
    let only_iban = json!({"amount": 10, "method": "bank_transfer", "details": {"iban": OTHER_IBAN}});
    let second = alice.post("/users/payouts", only_iban).await?;
    assert_eq!(second.status, 201, "the holder is the one who is stored");
    assert_eq!(alice.get(ROUTE).await?.body, json!({"iban": "NL •••• 4300", "account_holder": "A••• L•••"}));
    assert_eq!(destination(&site, ALICE, id(&first)?).await?, IBAN);
    assert_eq!(destination(&site, ALICE, id(&second)?).await?, OTHER_IBAN);
    let third = alice.post("/users/payouts", transfer(10)).await?;
    assert_eq!(destination(&site, ALICE, id(&third)?).await?, OTHER_IBAN);
    assert_eq!(count(&site, "SELECT count(*) FROM payouts AS p WHERE p::text LIKE '%0532013000%'").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_changed_account_redirects_no_payout_and_a_needed_one_stays() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 5_000).await?;
    bank(&site, ALICE).await?;
    let alice = shopper(&site, ALICE);
    let payout = requested(&site, ALICE, "10.00").await?;
    let thief = json!({"iban": OTHER_IBAN, "account_holder": "Eve"});
    assert_eq!(alice.put(ROUTE, thief).await?.status, 200);
    assert_eq!(destination(&site, ALICE, payout).await?, IBAN, "the account of the request");

    let kept = alice.delete(ROUTE, Value::Null).await?;
    assert_eq!((kept.status, kept.code()), (409, "BANK_ACCOUNT_IN_USE"));
    assert_eq!(kept.details()["open_payouts"], 1);
    sqlx::query("UPDATE payouts SET state = 'processing'").execute(&site.pool).await?;
    assert_eq!(alice.delete(ROUTE, Value::Null).await?.status, 204, "one under way needs it no more");
    Ok(())
}

#[tokio::test]
async fn storing_an_account_opens_the_payout_that_waited_for_it() -> Result<()> {
    let site = Site::start().await?;
    grant(&site, ALICE, 5_000).await?;
    let jobs = "SELECT count(*) FROM jobs WHERE kind = 'payouts.auto'";
    assert_eq!(count(&site, jobs).await?, 0);
    shopper(&site, ALICE).put(ROUTE, json!({"iban": IBAN, "account_holder": "Ada Lovelace"})).await?;
    assert_eq!(count(&site, jobs).await?, 1);
    Ok(())
}

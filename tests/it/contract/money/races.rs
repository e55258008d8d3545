//! Many callers at once: exactly one wins, no 5xx, the balances are right (contract §18.2, §18.3).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use reqwest::Method;
use tests::contract::seed::{ALICE, BOB, CAROL, DAVE, JERO, SHOPLY};
use tests::contract::{Answer, Session, Site};
use tokio::task::JoinSet;

use super::{admin, balances, body, buy, count, run, shopper};

const CALLERS: usize = 32;

/// How often each status was answered.
fn tally(answers: Vec<Result<Answer>>) -> Result<BTreeMap<u16, usize>> {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer?.status).or_default() += 1;
    }
    Ok(statuses)
}

async fn confirm(caller: &Session, id: &str) -> Result<Answer> {
    caller.call(Method::POST, &format!("/purchases/{id}/confirmation"), None, &[]).await
}

async fn reverse(caller: &Session, id: &str) -> Result<Answer> {
    caller.call(Method::PATCH, &format!("/purchases/{id}/reverse"), None, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn section_18_3_of_many_declarations_of_one_key_one_is_taken_in() -> Result<()> {
    let site = Site::start().await?;
    let callers = [(ALICE, shopper(&site, ALICE)), (BOB, shopper(&site, BOB))];
    let mut all = JoinSet::new();
    for index in 0..CALLERS {
        let (user, session) = callers[index % 2].clone();
        all.spawn(async move { session.post("/purchases/", body("one key", user, SHOPLY, "100")).await });
    }
    assert_eq!(tally(all.join_all().await)?, BTreeMap::from([(201, 1), (409, CALLERS - 1)]));
    for table in ["purchases", "deliveries", "reports", "orders", "transfers"] {
        assert_eq!(count(&site, table).await?, 1, "{table}");
    }
    site.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn section_18_2_of_many_confirmations_one_counts() -> Result<()> {
    let site = Site::start().await?;
    let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
    let mut all = JoinSet::new();
    for index in 0..CALLERS {
        let (caller, id) = (admin(&site, [CAROL, JERO][index % 2]), id.clone());
        all.spawn(async move { confirm(&caller, &id).await });
    }
    assert_eq!(tally(all.join_all().await)?, BTreeMap::from([(200, 1), (400, CALLERS - 1)]));
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "5.00", "0.00"]);
    assert_eq!(count(&site, "audit_log WHERE action = 'PURCHASE_CONFIRMED'").await?, 1);
    site.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn section_18_2_of_many_reversals_one_counts() -> Result<()> {
    for confirmed in [false, true] {
        let site = Site::start().await?;
        let id = buy(&site, "o-1", ALICE, SHOPLY, "100").await?;
        if confirmed {
            confirm(&admin(&site, CAROL), &id).await?;
        }
        let mut all = JoinSet::new();
        for _ in 0..CALLERS {
            let (caller, id) = (admin(&site, CAROL), id.clone());
            all.spawn(async move { reverse(&caller, &id).await });
        }
        assert_eq!(tally(all.join_all().await)?, BTreeMap::from([(200, 1), (400, CALLERS - 1)]));
        assert_eq!(balances(&site, ALICE).await?, ["0.00", "0.00", "0.00"]);
        assert_eq!(count(&site, "audit_log WHERE action = 'PURCHASE_REVERSED'").await?, 1);
        site.books_agree().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn section_18_2_confirmations_against_reversals_end_reversed() -> Result<()> {
    let site = Site::start().await?;
    for round in 0..4 {
        let id = buy(&site, &format!("o-{round}"), ALICE, SHOPLY, "100").await?;
        let (mut confirms, mut reverses) = (JoinSet::new(), JoinSet::new());
        for _ in 0..CALLERS / 2 {
            let (caller, one, other) = (admin(&site, CAROL), id.clone(), id.clone());
            let second = caller.clone();
            confirms.spawn(async move { confirm(&caller, &one).await });
            reverses.spawn(async move { reverse(&second, &other).await });
        }
        let confirms = tally(confirms.join_all().await)?;
        assert!(confirms.keys().all(|status| matches!(status, 200 | 400)), "{confirms:?}");
        assert!(confirms.get(&200).is_none_or(|won| *won == 1), "{confirms:?}");
        let reverses = tally(reverses.join_all().await)?;
        assert_eq!(reverses, BTreeMap::from([(200, 1), (400, CALLERS / 2 - 1)]));
        assert_eq!(balances(&site, ALICE).await?, ["0.00", "0.00", "0.00"]);
    }
    site.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_person_against_the_worker_confirms_once() -> Result<()> {
    let site = Arc::new(Site::start().await?);
    for round in 0..CALLERS {
        let id = buy(&site, &format!("o-{round}"), ALICE, SHOPLY, "20").await?;
        let (worker, caller) = (Arc::clone(&site), admin(&site, CAROL));
        let stage = tokio::spawn(async move { worker.work().await });
        let person = confirm(&caller, &id).await?;
        // A round in which the stage finds its job ended under its claim has nothing to settle.
        stage.await??;
        assert!(matches!(person.status, 200 | 400), "{}", person.body);
    }
    assert_eq!(balances(&site, ALICE).await?, ["0.00", "32.00", "0.00"]);
    assert_eq!(count(&site, "audit_log WHERE action = 'PURCHASE_CONFIRMED'").await?, 32);
    assert_eq!(count(&site, "audit_log WHERE action = 'CASHBACK_CREDITED'").await?, 32);
    assert_eq!(count(&site, "transfers WHERE code = 'mature'").await?, 32);
    site.books_agree().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn purchases_reversals_and_the_worker_at_once_keep_the_books() -> Result<()> {
    let site = Arc::new(Site::start().await?);
    run(&site, "UPDATE offers SET monthly_cap = 40").await?;
    let mut all = JoinSet::new();
    for index in 0..CALLERS {
        let site = Arc::clone(&site);
        all.spawn(async move {
            let user = [ALICE, BOB, DAVE][index % 3];
            let id = buy(&site, &format!("o-{index}"), user, SHOPLY, "100").await?;
            if index % 4 == 0 {
                site.work().await?;
            }
            if index % 2 == 0 {
                let answer = reverse(&admin(&site, CAROL), &id).await?;
                anyhow::ensure!(answer.status == 200, "{}", answer.body);
            }
            anyhow::Ok(())
        });
    }
    for done in all.join_all().await {
        done?;
    }
    site.work().await?;
    site.books_agree().await
}

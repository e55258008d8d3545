//! PATCH /admin/payouts/{id}/process (contract §12, PA-02; design §8.6).

use anyhow::Result;
use serde_json::json;
use shared::payouts::{Policy, SANDBOX};
use tests::contract::seed::{ALICE, CAROL};
use tests::contract::{Answer, Site};
use uuid::Uuid;

use super::counter::{admin, bank, count, grant, money_agrees, requested, violations, wallet};

async fn manual() -> Result<Site> {
    let site = Site::start().await?;
    grant(&site, ALICE, 10_000).await?;
    bank(&site, ALICE).await?;
    Ok(site)
}

async fn say(site: &Site, payout: Uuid, status: &str) -> Result<Answer> {
    admin(site, CAROL).patch(&format!("/admin/payouts/{payout}/process"), json!({"status": status})).await
}

#[tokio::test]
async fn pa_02_completed_raises_paid_and_failed_refunds() -> Result<()> {
    let site = manual().await?;
    let (one, two, three) = (
        requested(&site, ALICE, "10.00").await?,
        requested(&site, ALICE, "20.00").await?,
        requested(&site, ALICE, "30.00").await?,
    );
    assert_eq!(wallet(&site, ALICE).await?, [4_000, 6_000, 0]);
    let completed = say(&site, one, "completed").await?;
    assert_eq!((completed.status, &completed.body), (200, &json!({"id": one, "status": "completed"})));
    assert_eq!(say(&site, two, "processing").await?.body, json!({"id": two, "status": "processing"}));
    assert_eq!(say(&site, two, "processing").await?.status, 200, "it is under way already");
    assert_eq!(say(&site, two, "completed").await?.status, 200);
    assert_eq!(say(&site, three, "failed").await?.body, json!({"id": three, "status": "failed"}));
    assert_eq!(wallet(&site, ALICE).await?, [7_000, 0, 3_000]);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'WITHDRAWAL_PROCESSED' AND actor_type = 'admin'
                   AND actor_id = 'd9f4b3c2-6b5c-5d4e-7c3b-6a5e4d3c2b1a'";
    assert_eq!(count(&site, audited).await?, 4, "§8, NFR-06: every change, with who did it");
    assert_eq!(
        count(&site, "SELECT count(*) FROM jobs WHERE kind = 'payouts.auto'").await?,
        0,
        "a person's no is kept"
    );
    money_agrees(&site).await
}

#[tokio::test]
async fn section_12_a_payout_that_has_ended_takes_no_word() -> Result<()> {
    let site = manual().await?;
    for end in ["completed", "failed"] {
        let payout = requested(&site, ALICE, "10.00").await?;
        assert_eq!(say(&site, payout, end).await?.status, 200);
        for word in ["processing", "completed", "failed"] {
            let answer = say(&site, payout, word).await?;
            assert_eq!((answer.status, answer.code()), (400, "PAYOUT_ALREADY_PROCESSED"), "{end} {word}");
            let details = json!({"payout_id": payout, "current_status": end, "allowed_transitions": ["requested"]});
            assert_eq!(answer.details(), &details);
        }
    }
    money_agrees(&site).await
}

#[tokio::test]
async fn section_12_unknown_words_are_400_and_unknown_payouts_404() -> Result<()> {
    let site = manual().await?;
    let payout = requested(&site, ALICE, "10.00").await?;
    for word in ["requested", "paid", "", "Completed"] {
        let answer = say(&site, payout, word).await?;
        assert_eq!((answer.status, answer.code()), (400, "VALIDATION_ERROR"), "{word}");
        let supported = ["processing", "completed", "failed"];
        assert_eq!(answer.details(), &json!({"field": "status", "received": word, "supported_values": supported}));
    }
    let carol = admin(&site, CAROL);
    for missing in [Uuid::now_v7().to_string(), "no-id".to_owned()] {
        let answer = carol.patch(&format!("/admin/payouts/{missing}/process"), json!({"status": "completed"})).await?;
        assert_eq!((answer.status, answer.code()), (404, "NOT_FOUND"));
        assert_eq!(
            answer.details(),
            &json!({"resource_type": "payout", "resource_id": missing}),
            "§1: path ids are text"
        );
    }
    for bad in [json!({}), json!({"status": 7}), json!([])] {
        let answer = carol.patch(&format!("/admin/payouts/{payout}/process"), bad).await?;
        assert_eq!((answer.status, answer.code()), (422, "VALIDATION_ERROR"));
    }
    Ok(())
}

#[tokio::test]
async fn design_8_6_failing_a_begun_payout_needs_a_second_person() -> Result<()> {
    let site = manual().await?;
    let payout = requested(&site, ALICE, "10.00").await?;
    say(&site, payout, "processing").await?;
    let answer = say(&site, payout, "failed").await?;
    assert_eq!((answer.status, answer.code()), (422, "PAYOUT_NOT_ALLOWED"));
    assert_eq!(wallet(&site, ALICE).await?, [9_000, 1_000, 0]);
    Ok(())
}

#[tokio::test]
async fn design_8_6_a_stop_forbids_paying_but_not_failing() -> Result<()> {
    let site = manual().await?;
    let payout = requested(&site, ALICE, "10.00").await?;
    sqlx::query("INSERT INTO payout_stops (id, cause, since) VALUES (gen_random_uuid(), 'audit', now())")
        .execute(&site.pool)
        .await?;
    for word in ["processing", "completed"] {
        let answer = say(&site, payout, word).await?;
        assert_eq!((answer.status, violations(&answer)), (422, vec!["payouts are stopped".to_owned()]));
    }
    assert_eq!(say(&site, payout, "failed").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn design_8_6_on_a_banks_rail_only_failed_and_only_before_it_begins() -> Result<()> {
    let settings = api::settings::Settings { payouts: Policy::on(SANDBOX), ..api::settings::Settings::default() };
    let site = Site::start_with(settings, api::limits::Rates::default()).await?;
    grant(&site, ALICE, 10_000).await?;
    bank(&site, ALICE).await?;
    let payout = requested(&site, ALICE, "10.00").await?;
    for word in ["processing", "completed"] {
        let answer = say(&site, payout, word).await?;
        assert_eq!((answer.status, answer.code()), (422, "PAYOUT_NOT_ALLOWED"), "{word}");
    }
    assert_eq!(say(&site, payout, "failed").await?.status, 200);
    assert_eq!(wallet(&site, ALICE).await?, [10_000, 0, 0]);
    assert_eq!(count(&site, "SELECT count(*) FROM jobs WHERE kind = 'payouts.send'").await?, 0, "nothing sends it");
    let begun = requested(&site, ALICE, "10.00").await?;
    sqlx::query("UPDATE payouts SET state = 'processing' WHERE id = $1").bind(begun).execute(&site.pool).await?;
    assert_eq!(say(&site, begun, "failed").await?.status, 422, "the bank may have it");
    Ok(())
}

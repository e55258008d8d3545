//! Refresh and logout: contract §2 row 5, §3, §4, §13 A-02, §18.4, §19.

use anyhow::Result;
use serde_json::json;
use tests::contract::{Answer, Session, Site, seed};

use super::{CALLERS, audited, count, malformed, race, refused};

async fn refresh(site: &Site, token: &str) -> Result<Answer> {
    site.anonymous().post("/auth/refresh", json!({ "refresh_token": token })).await
}

fn token(answer: &Answer) -> String {
    answer.body["refresh_token"].as_str().unwrap_or_default().to_owned()
}

async fn signed_in(site: &Site) -> Result<(Session, String)> {
    let session = site.sign_in("alice").await?;
    let token = session.refresh.clone().unwrap();
    Ok((session, token))
}

/// Contract §2.5, §4: single use; the old access token lives on.
#[tokio::test]
async fn a_refresh_token_gives_the_next_pair_once() -> Result<()> {
    let site = Site::start().await?;
    let (session, first) = signed_in(&site).await?;
    let answer = refresh(&site, &first).await?;
    assert_eq!((answer.status, answer.body["token_type"].as_str()), (200, Some("bearer")));
    assert_eq!(answer.body.as_object().unwrap().len(), 3);
    let second = token(&answer);
    assert_ne!(first, second);
    assert_eq!(site.with_token(answer.body["access_token"].as_str().unwrap()).get("/users/me").await?.status, 200);
    assert_eq!(session.get("/users/me").await?.status, 200);
    let again = refresh(&site, &first).await?;
    refused(&again, 401, "TOKEN_REVOKED", &json!({}));
    assert!(again.headers.get("www-authenticate").is_none(), "raised in a handler (contract §1)");
    let rows: Vec<(i32, bool)> =
        sqlx::query_as("SELECT rotation_count, used_at IS NOT NULL FROM refresh_tokens ORDER BY rotation_count")
            .fetch_all(&site.pool)
            .await?;
    assert_eq!(rows, [(0, true), (1, false)]);
    Ok(())
}

/// Contract §19: within ten seconds a replay is told so and nothing else.
#[tokio::test]
async fn a_replay_within_ten_seconds_harms_nobody() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    let second = token(&refresh(&site, &first).await?);
    site.clock.advance(time::Duration::seconds(10));
    assert_eq!(refresh(&site, &first).await?.code(), "TOKEN_REVOKED");
    assert_eq!(refresh(&site, &second).await?.status, 200);
    Ok(())
}

/// Contract §19: later it also revokes the family, and only that one.
#[tokio::test]
async fn a_late_replay_ends_the_whole_family_and_no_other() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    let (_, elsewhere) = signed_in(&site).await?;
    let second = token(&refresh(&site, &first).await?);
    site.clock.advance(time::Duration::seconds(11));
    assert_eq!(refresh(&site, &first).await?.code(), "TOKEN_REVOKED");
    assert_eq!(refresh(&site, &second).await?.code(), "TOKEN_REVOKED");
    assert_eq!(refresh(&site, &elsewhere).await?.status, 200);
    assert!(audited(&site, seed::ALICE).await?.contains(&"SESSION_REPLAYED".to_owned()));
    Ok(())
}

/// Contract §18.4: concurrent use of one token gives one pair.
#[tokio::test]
async fn of_32_uses_of_one_token_exactly_one_succeeds() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    let answers = race(|_| refresh(&site, &first)).await?;
    let won: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!((won.len(), count(&answers, 401, "TOKEN_REVOKED")), (1, CALLERS - 1));
    assert_eq!(refresh(&site, &token(won[0])).await?.status, 200, "the losers did no harm");
    Ok(())
}

/// Contract §3: garbage, expired, access token, unknown, user gone.
#[tokio::test]
async fn what_is_no_refresh_token_of_ours_is_invalid() -> Result<()> {
    let site = Site::start().await?;
    let (session, first) = signed_in(&site).await?;
    let unknown = site.state.tokens.refresh(site.now(), shared::ids::UserId(seed::ALICE)).token;
    for bad in ["", "x", "a.b.c", &format!("{first}x"), &session.access.unwrap(), &unknown] {
        refused(&refresh(&site, bad).await?, 401, "INVALID_REFRESH_TOKEN", &json!({}));
    }
    site.clock.advance(time::Duration::days(30));
    refused(&refresh(&site, &first).await?, 401, "INVALID_REFRESH_TOKEN", &json!({}));
    malformed(&site.anonymous().post("/auth/refresh", json!({})).await?, &["refresh_token"]);
    malformed(&site.anonymous().post("/auth/refresh", json!({ "refresh_token": 1 })).await?, &["refresh_token"]);
    Ok(())
}

/// Contract §4: the active flag is not checked on refresh.
#[tokio::test]
async fn an_inactive_account_may_refresh() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    sqlx::query("UPDATE users SET active = false WHERE id = $1").bind(seed::ALICE).execute(&site.pool).await?;
    assert_eq!(refresh(&site, &first).await?.status, 200);
    Ok(())
}

/// Contract §15: logout, our own route.
#[tokio::test]
async fn signing_out_ends_the_session_and_may_be_repeated() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    let (_, elsewhere) = signed_in(&site).await?;
    let second = token(&refresh(&site, &first).await?);
    for gone in [&first, &first, &second, "garbage"] {
        let answer = site.anonymous().post("/auth/logout", json!({ "refresh_token": gone })).await?;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    assert_eq!(refresh(&site, &second).await?.code(), "TOKEN_REVOKED");
    assert_eq!(refresh(&site, &elsewhere).await?.status, 200);
    let signed_out = audited(&site, seed::ALICE).await?.iter().filter(|action| *action == "USER_SIGNED_OUT").count();
    assert_eq!(signed_out, 1);
    malformed(&site.anonymous().post("/auth/logout", json!({})).await?, &["refresh_token"]);
    Ok(())
}

/// A session that ends while it is refreshed stays ended: no successor slips through.
#[tokio::test]
async fn signing_out_and_refreshing_at_once_leave_no_live_token() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    let answers = race(|caller| {
        let (site, first) = (&site, &first);
        async move {
            if caller % 2 == 0 {
                refresh(site, first).await
            } else {
                site.anonymous().post("/auth/logout", json!({ "refresh_token": first })).await
            }
        }
    })
    .await?;
    assert!(answers.iter().all(|answer| [200, 204, 401].contains(&answer.status)));
    let live: i64 = sqlx::query_scalar("SELECT count(*) FROM refresh_tokens WHERE revoked_at IS NULL")
        .fetch_one(&site.pool)
        .await?;
    assert_eq!(live, 0);
    Ok(())
}

/// The cron entry `forget_old_tokens`.
#[tokio::test]
async fn tokens_are_forgotten_when_their_time_is_over() -> Result<()> {
    let site = Site::start().await?;
    let (_, first) = signed_in(&site).await?;
    refresh(&site, &first).await?;
    super::newcomer(&site, "new@example.com").await?;
    let forget = async || shared::users::forget_old_tokens(&mut *site.pool.acquire().await?, site.now()).await;
    assert_eq!(forget().await?, 0);
    site.clock.advance(time::Duration::days(31));
    let (_, late) = signed_in(&site).await?;
    assert_eq!(forget().await?, 4, "three refresh tokens and a link");
    assert_eq!(refresh(&site, &late).await?.status, 200);
    Ok(())
}

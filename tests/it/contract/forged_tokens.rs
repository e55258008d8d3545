//! Tokens that somebody made up, kept too long or took from elsewhere, on every route that asks for one.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use shared::ids::UserId;
use shared::users::Role;
use tests::contract::Site;
use tests::contract::seed::{self, ALICE, CAROL};

use super::security_matrix::{Scene, rows, split};

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of any content, signed with any key.
fn signed(header: &Value, claims: &Value, key: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = if header["alg"] == "HS512" {
        Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(&message).finalize().into_bytes().to_vec()
    } else {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(&message).finalize().into_bytes().to_vec()
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What must not be let in, and what it hears.
async fn forgeries(site: &Site) -> Result<Vec<(&'static str, String, &'static str)>> {
    let now = site.now();
    let hs256 = json!({"alg": "HS256", "typ": "JWT"});
    // As an administrator, so that a token that is believed is let in everywhere.
    let claims =
        json!({"user_id": CAROL, "user_role": "admin", "exp": now.unix_timestamp() + 600, "token_type": "access"});
    let key = site.state.data_keys.derive("access-token").swap_remove(0);
    let good = signed(&hs256, &claims, &key);
    assert_eq!(site.with_token(&good).get("/users/").await?.status, 200, "this is how a good one is made");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        signed(&hs256, &claims, &key)
    };
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({"alg": alg, "typ": "JWT"})), encode(&claims));
    let (invalid, expired, inactive) = ("INVALID_TOKEN", "EXPIRED_TOKEN", "USER_INACTIVE");
    for (user, change) in [(seed::JERO, "active = false"), (seed::DAVE, "active = false, deleted_at = now()")] {
        let sql = format!("UPDATE users SET {change} WHERE id = $1");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(user).execute(&site.pool).await?;
    }
    let tokens = &site.state.tokens;
    let mut swapped: Vec<&str> = good.split('.').collect();
    let other = encode(&json!({"user_id": ALICE, "user_role": "admin", "exp": 1_i64 << 40, "token_type": "access"}));
    swapped[1] = &other;
    let list = vec![
        ("nothing in it", String::new(), invalid),
        ("three words", "a.b.c".to_owned(), invalid),
        ("another key", signed(&hs256, &claims, b"another key"), invalid),
        ("an empty key", signed(&hs256, &claims, b""), invalid),
        ("the public name of the key", signed(&hs256, &claims, b"access-token"), invalid),
        ("other claims under a good signature", swapped.join("."), invalid),
        ("no signature", good.rsplit_once('.').map(|(rest, _)| format!("{rest}.")).unwrap_or_default(), invalid),
        ("a signature and more", format!("{good}A"), invalid),
        ("alg none", unsigned("none"), invalid),
        ("alg None", unsigned("None"), invalid),
        ("alg NONE", unsigned("NONE"), invalid),
        ("alg none under a good signature", signed(&json!({"alg": "none", "typ": "JWT"}), &claims, &key), invalid),
        ("alg HS512", signed(&json!({"alg": "HS512", "typ": "JWT"}), &claims, &key), invalid),
        ("alg RS256", signed(&json!({"alg": "RS256", "typ": "JWT"}), &claims, &key), invalid),
        ("no alg", signed(&json!({"typ": "JWT"}), &claims, &key), invalid),
        ("no exp", with(&|claims| drop(claims.as_object_mut().unwrap().remove("exp"))), invalid),
        ("exp null", with(&|claims| claims["exp"] = Value::Null), invalid),
        ("exp a text", with(&|claims| claims["exp"] = json!("9999999999")), invalid),
        ("exp without bound", with(&|claims| claims["exp"] = json!(1e30)), invalid),
        ("no type", with(&|claims| drop(claims.as_object_mut().unwrap().remove("token_type"))), invalid),
        ("another type", with(&|claims| claims["token_type"] = json!("refresh")), invalid),
        ("a refresh token", tokens.refresh(now, UserId(CAROL)).token, invalid),
        ("nobody", tokens.access(now, UserId::new(), Role::Admin), invalid),
        ("no user", with(&|claims| claims["user_id"] = Value::Null), invalid),
        ("no uuid", with(&|claims| claims["user_id"] = json!("' OR 1=1 --")), invalid),
        ("expired this second", with(&|claims| claims["exp"] = json!(now.unix_timestamp())), expired),
        ("long expired", with(&|claims| claims["exp"] = json!(0)), expired),
        ("expired before time began", with(&|claims| claims["exp"] = json!(i64::MIN)), expired),
        ("kept out", tokens.access(now, UserId(seed::JERO), Role::Admin), inactive),
        ("who has left", tokens.access(now, UserId(seed::DAVE), Role::User), invalid),
    ];
    Ok(list)
}

#[tokio::test]
async fn no_token_but_a_good_one_is_let_in_anywhere() -> Result<()> {
    let scene = Scene::new().await?;
    let forgeries = forgeries(&scene.site).await?;
    let before: Vec<(String, i64)> = counts(&scene.site).await?;
    let protected: Vec<_> = rows().into_iter().filter(|(_, _, expected)| expected[0] == "401 INVALID_TOKEN").collect();
    assert!(protected.len() > 30);
    let mut wrong = Vec::new();
    for (n, (call, body, _)) in protected.into_iter().enumerate() {
        let (method, path) = split(call);
        for (what, token, code) in &forgeries {
            let body = Some(body(n)).filter(|body| !body.is_null()).map(|body| body.to_string());
            let answer = scene.site.with_token(token).call(method.clone(), &scene.path(path), body, &[]).await?;
            let challenged = answer.headers.get("www-authenticate").is_some_and(|value| value == "Bearer");
            if (answer.status, answer.code(), challenged) != (401, code, true) {
                wrong.push(format!("{call} with {what}: {} {}", answer.status, answer.code()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(counts(&scene.site).await?, before, "none of them changed anything");
    Ok(())
}

/// How many rows the tables have that calls write to.
async fn counts(site: &Site) -> Result<Vec<(String, i64)>> {
    let mut counts = Vec::new();
    for table in ["users", "purchases", "payouts", "transfers", "merchants", "offers", "feature_flags", "bank_accounts"]
    {
        let sql = format!("SELECT count(*) FROM {table}");
        counts.push((table.to_owned(), sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&site.pool).await?));
    }
    Ok(counts)
}

/// What a token says of a role is not believed: the database is.
#[tokio::test]
async fn a_role_that_a_token_claims_opens_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let claimed = scene.site.state.tokens.access(scene.site.now(), UserId(seed::BOB), Role::Admin);
    let bob = scene.site.with_token(&claimed);
    for (n, (call, body, expected)) in rows().into_iter().enumerate() {
        let (method, path) = split(call);
        if expected[2].starts_with("40") && expected[3].starts_with('2') {
            let body = Some(body(n)).filter(|body| !body.is_null()).map(|body| body.to_string());
            let answer = bob.call(method, &scene.path(path), body, &[]).await?;
            let heard = format!("{} {}", answer.status, answer.code());
            assert_eq!(heard, expected[2], "{call}");
        }
    }
    Ok(())
}

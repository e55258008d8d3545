//! Texts that mean something to SQL, HTTP, logs, HTML, shells and templates, in every field, query, path and header that
//! the document names: each is refused in the contract's form or kept as it is, and nothing else happens.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};
use tests::contract::{Answer, Session};
use tests::logged::Lines;

use super::security_matrix::{Row, Scene, rows, split};

const FORGED: &str = "2026-01-01T00:00:00.000000Z ERROR forged";

fn hostile() -> Vec<String> {
    let texts = [
        "'; DROP TABLE users; --",
        "\" OR \"1\"=\"1",
        "1); DELETE FROM wallets; --",
        "%' OR '1'='1",
        "\\'; SELECT pg_sleep(30); --",
        "x\r\nX-Injected: yes\r\n\r\nHTTP/1.1 200 OK",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "{{7*7}}${7*7}#{7*7}<%= 7*7 %>",
        "${jndi:ldap://127.0.0.1/x}",
        "=cmd|' /C calc'!A0",
        "a\u{0}b",
        "\u{202e}gnp.exe\u{feff}",
        "victim@example.com\r\nBcc: all@example.com",
        "\"a@b\"@example.com,<x@example.com>",
    ];
    let mut hostile: Vec<String> = texts.map(str::to_owned).to_vec();
    hostile.push(format!("x\n{FORGED}"));
    hostile.push("e\u{301}".repeat(2_000));
    hostile.push("\u{10ffff}".repeat(5_000));
    hostile
}

/// The names of the fields of an operation's body, those of objects within it as `outer/inner`.
fn fields(document: &Value, operation: &Value) -> BTreeSet<String> {
    fn walk(document: &Value, schema: &Value, prefix: &str, depth: usize, found: &mut BTreeSet<String>) {
        if depth == 0 {
            return;
        }
        if let Some(name) = schema["$ref"].as_str() {
            let target = document.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null);
            return walk(document, target, prefix, depth - 1, found);
        }
        for several in ["oneOf", "anyOf", "allOf"] {
            for schema in schema[several].as_array().into_iter().flatten() {
                walk(document, schema, prefix, depth - 1, found);
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            found.insert(format!("{prefix}{name}"));
            walk(document, schema, &format!("{prefix}{name}/"), depth - 1, found);
        }
    }
    let mut found = BTreeSet::new();
    walk(document, &operation["requestBody"]["content"]["application/json"]["schema"], "", 6, &mut found);
    found
}

/// Somebody who gets past the checks of token and role.
fn caller(scene: &Scene, row: &Row) -> Session {
    let allowed = |index: usize| !row.2[index].starts_with("401 INVALID_TOKEN") && !row.2[index].starts_with("403");
    match (allowed(0), allowed(1)) {
        (true, _) => scene.site.anonymous(),
        (_, true) => scene.alice.clone(),
        _ => scene.carol.clone(),
    }
}

/// Why an answer is not as it must be, if so.
fn amiss(answer: &Answer) -> Option<String> {
    let in_form = answer.status < 400
        || (answer.status < 500
            && answer.body["error"]["code"].is_string()
            && answer.body["error"]["details"].is_object());
    let injected = answer.headers.contains_key("x-injected");
    (!in_form || injected).then(|| format!("{} {}", answer.status, answer.body))
}

fn set(body: &mut Value, field: &str, value: &str) {
    match field.split_once('/') {
        Some((outer, inner)) => {
            if !body[outer].is_object() {
                body[outer] = json!({});
            }
            set(&mut body[outer], inner, value);
        }
        None => body[field] = json!(value),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[tokio::test]
async fn whatever_stands_in_a_field_is_refused_or_kept_as_it_is() -> Result<()> {
    let lines = Lines::default();
    let _guard = lines.collect_text("trace,tests=off,it=off,reqwest=off,hyper_util=off");
    let scene = Scene::new().await?;
    let document: Value = reqwest::get(format!("{}/openapi.json", scene.site.url)).await?.json().await?;
    let (mut wrong, mut tried, mut kept) = (Vec::new(), 0, 0);
    for (n, row) in rows().into_iter().enumerate() {
        let (method, path) = split(row.0);
        let operation = &document["paths"][format!("/api/v1{path}")][method.as_str().to_lowercase()];
        let base = (row.1)(1_000 + n);
        for field in fields(&document, operation) {
            for text in hostile() {
                let mut body = if base.is_object() { base.clone() } else { json!({}) };
                set(&mut body, &field, &text);
                let answer =
                    caller(&scene, &row).call(method.clone(), &scene.path(path), Some(body.to_string()), &[]).await;
                let answer = answer.with_context(|| format!("{} with {field}: {}", row.0, shown(&text)))?;
                tried += 1;
                if let Some(amiss) = amiss(&answer) {
                    wrong.push(format!("{} with {field} = {:?}: {amiss}", row.0, shown(&text)));
                }
                if answer.status < 300 && answer.body[&field].is_string() {
                    kept += 1;
                    // The holder of an account is shown masked, whatever it is.
                    if field != "account_holder"
                        && answer.body[&field] != json!(text)
                        && answer.body[&field] != json!(text.trim())
                    {
                        wrong.push(format!("{} keeps {field} = {:?} as {}", row.0, shown(&text), answer.body[&field]));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 500 && kept > 10, "{tried} tried, {kept} kept");
    still_whole(&scene).await?;
    unforged(&lines);
    Ok(())
}

#[tokio::test]
async fn whatever_stands_in_a_query_a_path_or_a_header_is_refused_or_means_nothing() -> Result<()> {
    let lines = Lines::default();
    let _guard = lines.collect_text("trace,tests=off,it=off,reqwest=off,hyper_util=off");
    let scene = Scene::new().await?;
    let document: Value = reqwest::get(format!("{}/openapi.json", scene.site.url)).await?.json().await?;
    let (mut wrong, mut tried) = (Vec::new(), 0);
    let mut note = |what: String, answer: &Answer| {
        tried += 1;
        wrong.extend(amiss(answer).map(|amiss| format!("{what}: {amiss}")));
    };
    for row in rows() {
        let (method, path) = split(row.0);
        let who = caller(&scene, &row);
        let operation = &document["paths"][format!("/api/v1{path}")][method.as_str().to_lowercase()];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let queries: Vec<&str> =
            parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str()).collect();
        for text in hostile().into_iter().filter(|text| text.len() < 2_000) {
            let encoded = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
            if method == Method::GET {
                for name in &queries {
                    let separator = if scene.path(path).contains('?') { '&' } else { '?' };
                    let url = format!("{}{separator}{name}={encoded}", scene.path(path));
                    note(format!("{} with {name} = {:?}", row.0, shown(&text)), &who.get(&url).await?);
                }
            }
            if path.contains('{') {
                let url = path.replace("{id}", &encoded).replace("{key}", &encoded);
                let body = Some((row.1)(1)).filter(|body| !body.is_null()).map(|body| body.to_string());
                let answer = who.call(method.clone(), &url, body, &[]).await?;
                note(format!("{} of {:?}", row.0, shown(&text)), &answer);
            }
        }
    }
    for text in hostile().into_iter().filter(|text| text.len() < 2_000) {
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(text.as_bytes()) else { continue };
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        for name in [
            "idempotency-key",
            "x-request-id",
            "traceparent",
            "user-agent",
            "x-forwarded-for",
            "origin",
            "accept",
            "authorization",
            "content-type",
            "cookie",
            "x-real-ip",
            "forwarded",
            "referer",
        ] {
            let said = json!({"external_id": "x", "user_id": "y", "merchant_id": "z", "amount": 1, "currency": "EUR"});
            let answer =
                scene.alice.call(Method::POST, "/purchases/", Some(said.to_string()), &[(name, value)]).await?;
            note(format!("{name}: {:?}", shown(&text)), &answer);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 500, "{tried} tried");
    still_whole(&scene).await?;
    unforged(&lines);
    Ok(())
}

/// Nothing was dropped, deleted or paid.
async fn still_whole(scene: &Scene) -> Result<()> {
    assert_eq!(scene.alice.get("/users/me").await?.status, 200);
    assert_eq!(scene.bob.get("/users/me/wallet").await?.status, 200);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users WHERE active").fetch_one(&scene.site.pool).await?;
    assert!(count >= 5, "{count} accounts");
    scene.site.books_agree().await
}

/// No line of the log was written by a caller, and none can speak to a terminal.
fn unforged(lines: &Lines) {
    let text = lines.text();
    assert!(text.lines().count() > 100, "something is logged");
    let forged = text.lines().find(|line| line.starts_with(FORGED) || line.starts_with("X-Injected"));
    assert_eq!(forged, None);
    let line = text.lines().find(|line| line.contains(['\u{1b}', '\0']));
    assert_eq!(line, None);
}

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;

fn whole_row() -> Value {
    json!({
        "order_id": "SO-1", "row_id": "SO-1/2", "status": "approved", "amount": "48.50", "currency": "eur",
        "commission": "2.43", "commission_currency": "USD", "click_ref": "c1", "advertiser_id": "4411",
        "occurred_at": "2026-03-01T10:15:00Z", "version": 3, "reason": "checked",
    })
}

fn reported(data: &Value) -> Reading {
    read(json!({"type": "purchase.reported", "timestamp": "2026-03-01T10:16:00Z", "data": data}).to_string().as_bytes())
}

fn with(name: &str, value: Value) -> Value {
    let mut row = whole_row();
    row[name] = value;
    row
}

fn one(reading: Reading) -> Statement {
    match reading {
        Reading::Reports(mut statements) if statements.len() == 1 => statements.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_row_is_read_field_by_field() {
    assert_eq!(
        one(reported(&whole_row())),
        Statement {
            group_key: "SO-1".into(),
            row_key: "SO-1/2".into(),
            word: Word::Approved,
            raw_word: Some("approved".into()),
            reason: Some("checked".into()),
            sale: Some(("48.5".parse().unwrap(), "EUR".into())),
            commission: Some(("2.43".parse().unwrap(), "USD".into())),
            click_ref: Some("c1".into()),
            advertiser: Some("4411".into()),
            buyer: None,
            version_marker: Some(3),
            occurred_at: Some(Timestamp::from_unix_timestamp(1_772_360_100).unwrap()),
        }
    );
}

#[test]
fn what_is_not_said_stays_open() {
    let bare = one(reported(&json!({"order_id": "SO-1", "status": "declined"})));
    assert_eq!((bare.row_key.as_str(), bare.word), ("SO-1", Word::Declined));
    assert_eq!((bare.sale, bare.commission, bare.click_ref, bare.advertiser), (None, None, None, None));
    assert_eq!((bare.version_marker, bare.occurred_at, bare.reason), (None, None, None));
    for absent in [json!(null), json!(""), json!("0"), json!("{sub1}"), json!("!!!clickRef!!!")] {
        assert_eq!(one(reported(&with("click_ref", absent.clone()))).click_ref, None, "{absent}");
    }
}

#[test]
fn every_word_has_one_meaning() {
    for (status, expected) in [
        ("tracked", Word::Tracked),
        ("approved", Word::Approved),
        ("paid", Word::PaidByNetwork),
        ("declined", Word::Declined),
        ("reversed", Word::Reversed),
        ("Approved", Word::Approved),
    ] {
        assert_eq!(one(reported(&with("status", json!(status)))).word, expected);
    }
}

#[test]
fn a_modified_date_orders_statements_in_milliseconds() {
    let mut row = with("modified_at", json!("2026-03-01T10:15:00.250Z"));
    row.as_object_mut().unwrap().remove("version");
    assert_eq!(one(reported(&row)).version_marker, Some(1_772_360_100_250));
}

#[test]
fn json_numbers_keep_every_digit() {
    let body = r#"{"type":"purchase.reported","data":{"order_id":"1","status":"tracked","amount":1234567890.1234,"currency":"EUR"}}"#;
    assert_eq!(one(read(body.as_bytes())).sale, Some(("1234567890.1234".parse().unwrap(), "EUR".into())));
}

#[test]
fn a_list_of_rows_is_read_whole_or_not_at_all() {
    let Reading::Reports(rows) = reported(&json!([whole_row(), with("order_id", json!("SO-2"))])) else { panic!() };
    assert_eq!(rows.iter().map(|row| row.group_key.as_str()).collect::<Vec<_>>(), ["SO-1", "SO-2"]);
    let Reading::Unmappable(why) = reported(&json!([whole_row(), with("amount", json!("-5"))])) else { panic!() };
    assert!(why.starts_with("row 2: amount -5 is below zero"), "{why}");
    assert!(matches!(reported(&json!([])), Reading::Ignored(_)));
    assert!(matches!(reported(&json!(vec![whole_row(); 1000])), Reading::Reports(rows) if rows.len() == 1000));
    assert!(matches!(reported(&json!(vec![whole_row(); 1001])), Reading::Unmappable(_)));
}

#[test]
fn a_ping_means_nothing() {
    assert_eq!(read(br#"{"type":"ping"}"#), Reading::Ignored("ping".into()));
}

#[test]
fn what_cannot_be_read_is_unmappable_with_its_field() {
    for (name, value) in [
        ("order_id", json!(null)),
        ("order_id", json!("")),
        ("order_id", json!("{order}")),
        ("order_id", json!(12)),
        ("order_id", json!("a\u{0}b")),
        ("order_id", json!("x".repeat(201))),
        ("order_id", json!(["SO-1"])),
        ("row_id", json!("x".repeat(201))),
        ("status", json!(null)),
        ("status", json!("maybe")),
        ("status", json!(1)),
        ("status", json!("Äpproved")),
        ("amount", json!(true)),
        ("amount", json!("NaN")),
        ("amount", json!("Infinity")),
        ("amount", json!("1e400")),
        ("amount", json!("-48.50")),
        ("amount", json!(-1)),
        ("amount", json!("10000000000")),
        ("amount", json!("1.23456")),
        ("amount", json!("1,50")),
        ("amount", json!({})),
        ("commission", json!("-1")),
        ("currency", json!("EURO")),
        ("currency", json!(null)),
        ("currency", json!(978)),
        ("click_ref", json!(7)),
        ("click_ref", json!("\u{0}")),
        ("occurred_at", json!("yesterday")),
        ("occurred_at", json!(1_772_360_100)),
        ("modified_at", json!("2026-13-01T00:00:00Z")),
        ("version", json!(-1)),
        ("version", json!(1.5)),
        ("reason", json!(false)),
        ("advertiser_id", json!("x".repeat(300))),
    ] {
        let Reading::Unmappable(why) = reported(&with(name, value.clone())) else { panic!("{name} {value}") };
        assert!(why.contains(name) || name == "currency", "{name} {value}: {why}");
        assert!(!why.contains('\0') && why.len() < 300, "{why}");
    }
}

#[test]
fn bodies_of_another_shape_are_unmappable() {
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"42",
        b"\"text\"",
        b"\xff\xfe{}",
        b"{}",
        br#"{"type":"purchase.reported"}"#,
        br#"{"type":"order.created","data":{}}"#,
        br#"{"type":7,"data":{}}"#,
        br#"["purchase.reported",{}]"#,
        br#"{"type":"purchase.reported","data":null}"#,
        br#"{"type":"purchase.reported","data":"x"}"#,
        br#"{"type":"purchase.reported","data":[["SO-1"]]}"#,
        br#"{"type":"purchase.reported","data":[null]}"#,
        br#"{"type":"purchase.reported","data":{"order_id":"1","order_id":"2","status":"tracked"}}"#,
        br#"{"type":"purchase.reported","data":{"order_id":"\ud800","status":"tracked"}}"#,
        br#"{"type":"purchase.reported","data":{"order_id":"1","status":"tracked","amount":NaN}}"#,
        br#"{"type":"purchase.reported","data":{"order_id":"1","status":"tracked"}} trailing"#,
    ] {
        assert!(matches!(read(body), Reading::Unmappable(_)), "{}", String::from_utf8_lossy(body));
    }
    let deep = format!(r#"{{"type":"purchase.reported","data":{}}}"#, "[".repeat(100_000));
    assert!(matches!(read(deep.as_bytes()), Reading::Unmappable(_)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&body);
    }

    #[test]
    fn no_field_makes_it_panic(name in "[a-z_]{1,12}|order_id|amount|version|occurred_at", text in any::<String>(), digits in "-?[0-9]{1,40}(\\.[0-9]{1,40})?([eE][-+]?[0-9]{1,12})?") {
        reported(&with(&name, json!(text)));
        reported(&with(&name, json!(digits.clone())));
        read(format!(r#"{{"type":"purchase.reported","data":{{"order_id":"1","status":"tracked","currency":"EUR","amount":{digits}}}}}"#).as_bytes());
    }
}

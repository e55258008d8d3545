use super::*;

fn given(text: &str) -> Option<Given<'_>> {
    Some(Given::Text(Cow::Borrowed(text)))
}

#[test]
fn amounts_are_read_from_their_own_digits() {
    for (written, expected) in [
        ("48.50", "48.5"),
        ("0", "0"),
        ("0.0000000", "0"),
        ("-0.00", "0"),
        ("007.5", "7.5"),
        ("1e2", "100"),
        ("1.25E+1", "12.5"),
        ("48500e-3", "48.5"),
        ("7.00000", "7"),
        ("7.7811", "7.7811"),
        ("9999999999.99", "9999999999.99"),
        ("0.1000000000000000000000000", "0.1"),
        ("0e60", "0"),
    ] {
        assert_eq!(amount("amount", given(written)), Ok(Some(expected.parse().unwrap())), "{written}");
        assert_eq!(amount("amount", Some(Given::Number(written))), Ok(Some(expected.parse().unwrap())), "{written}");
    }
}

#[test]
fn what_is_no_exact_amount_in_range_is_refused() {
    for written in [
        "NaN",
        "Infinity",
        "-Infinity",
        "inf",
        "1,50",
        "1,234.50",
        "1 000",
        "+5",
        ".5",
        "5.",
        "0x10",
        "1e",
        "1e999",
        "1e-999",
        "1e9999999999",
        "1e11",
        "1e-5",
        "12.34567",
        "9999999999.991",
        "10000000000",
        "-1",
        "-0.01",
        "€5",
        "١",
        "--1",
        "1-",
        "1.2.3",
        " 1",
        "1e60",
        "1e-60",
        "99999999999999999999999999999999999999999999999999999999999999999999",
    ] {
        assert!(amount("amount", given(written)).is_err(), "{written}");
    }
    assert!(amount("amount", Some(Given::Other("a boolean"))).is_err());
}

#[test]
fn empty_and_unexpanded_values_are_absent() {
    for absent in ["", " ", "{sub1}", "!!!transactionId!!!", "[[[click]]]", "<u1>", "{{x}}"] {
        assert_eq!(text("key", given(absent)), Ok(None), "{absent}");
        assert_eq!(amount("amount", given(absent)), Ok(None), "{absent}");
        assert_eq!(moment("at", given(absent)), Ok(None), "{absent}");
    }
    assert_eq!(reference("ref", given("0")), Ok(None));
    assert_eq!(text("key", given("0")), Ok(Some("0".to_owned())));
    for kept in ["{", "<", "!!!", "a{b}"] {
        assert_eq!(text("key", given(kept)), Ok(Some(kept.to_owned())));
    }
}

#[test]
fn keys_fit_the_database() {
    assert!(text("key", given("a\0b")).is_err());
    assert!(text("key", given(&"é".repeat(200))).is_ok());
    assert!(text("key", given(&"é".repeat(201))).is_err());
    assert!(text("key", Some(Given::Number("12"))).is_err());
    assert_eq!(text("key", Some(Given::Number("12").into_text())), Ok(Some("12".to_owned())));
    assert_eq!(words("reason", given(&"x".repeat(9000))).unwrap().unwrap().len(), LONGEST_REASON);
}

#[test]
fn currencies_are_three_letters() {
    assert_eq!(currency("currency", given("eur")), Ok(Some("EUR".to_owned())));
    for wrong in ["EU", "EURO", "E1R", "€€€", "978"] {
        assert!(currency("currency", given(wrong)).is_err(), "{wrong}");
    }
    assert!(priced("amount", Some(Decimal::ONE), None).is_err());
}

#[test]
fn moments_carry_their_offset() {
    let at = moment("at", given("2026-03-01T10:15:00+02:00")).unwrap().unwrap();
    assert_eq!(at.unix_timestamp(), 1_772_352_900);
    assert_eq!(at.offset(), UtcOffset::UTC);
    for wrong in [
        "2026-03-01",
        "2026-03-01 10:15:00",
        "1772352900",
        "9999-12-31T23:59:59-23:59",
        "2026-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ] {
        assert!(moment("at", given(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn versions_are_whole_numbers() {
    assert_eq!(whole("version", Some(Given::Number("7"))), Ok(Some(7)));
    assert_eq!(whole("version", given("7")), Ok(Some(7)));
    for wrong in ["-1", "1.0", "1e3", "+1", "9223372036854775808"] {
        assert!(whole("version", Some(Given::Number(wrong))).is_err(), "{wrong}");
    }
}

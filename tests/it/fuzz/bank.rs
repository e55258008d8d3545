//! What the bank answers, and its statement.

use shared::money::Money;
use shared::payouts::{Line, Reading};
use worker::payout::{lines, reading};

use super::fuzz;

/// No answer is final but one about our payment, from a status that is documented for it.
#[test]
fn answers() {
    let words = ["\"state\":\"completed\"", "\"rejected\"", "\"accepted\"", "\"not_found\"", "\"key\":\"k\"", "12.30"];
    fuzz("answer", Box::leak(Box::new(words)), |bytes| {
        let amount = Money::from_cents(1_230);
        let text = String::from_utf8_lossy(bytes);
        for status in [200, 201, 202, 302, 400, 404, 409, 422, 429, 500] {
            for (is_send, reading) in [
                (true, reading::of_send("k", Some(amount), status, bytes)),
                (false, reading::of_look_up("k", amount, status, bytes)),
            ] {
                match reading {
                    Reading::Accepted | Reading::Completed { .. } | Reading::Rejected { .. } => {
                        assert!(status == 200 || (is_send && status == 201), "{status} {text}");
                    }
                    Reading::Refused { .. } => assert!(is_send && status == 422, "{status} {text}"),
                    Reading::NotFound { .. } => assert!(!is_send && status == 404, "{status} {text}"),
                    Reading::NotExecuted { .. } => panic!("an answer proves that it was sent: {text}"),
                    Reading::Unknown { .. } => {}
                }
                if let Reading::Completed { reference } = reading::of_send("k", Some(amount), status, bytes) {
                    assert!((1..=64).contains(&reference.len()), "{reference:?}");
                    assert!(!reference.contains('\0'), "it can be stored: {reference:?}");
                }
                if let Reading::Rejected { reason } | Reading::Refused { reason } =
                    reading::of_send("k", Some(amount), status, bytes)
                {
                    assert!(reason.chars().count() <= 200 && !reason.contains(char::is_control), "{reason:?}");
                }
            }
        }
    });
}

/// A line is read exactly or kept as unreadable, and each has a number.
#[test]
fn statements() {
    fuzz("statement", &["\"position\":", "\"debit\"", "\"return\"", "{},", "9223372036854775807"], |bytes| {
        for after in [0, 7, i64::MAX] {
            let Ok(read) = lines::read(after, bytes) else { continue };
            for line in read {
                if let Line::Read(movement) = line {
                    assert!(movement.amount.is_positive());
                    assert_eq!(movement.amount.to_string().parse::<Money>().ok(), Some(movement.amount));
                    assert!(!movement.key.contains('\0') && !movement.reference.contains('\0'));
                }
            }
        }
    });
}

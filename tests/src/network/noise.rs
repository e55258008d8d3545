//! What arrives besides: garbage, forgeries and calls that mean nothing. None of it may touch the books.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Call, Delivery, Expect, Signature, Step, Story, reference};

/// One call of noise; `number` makes its sender's id unique.
#[must_use]
pub fn story(random: &mut StdRng, seed: u64, number: usize) -> Story {
    let id = format!("noise-{seed}-{number}");
    let row = format!(
        r#"{{"type":"purchase.reported","data":{{"order_id":"X-{number}","status":"approved","amount":"9.99","currency":"EUR"}}}}"#
    );
    let other = |method, path: &str, body: &[u8], status| Delivery {
        call: Call::Other { method, path: path.to_owned(), body: body.to_vec() },
        expect: Expect::Refused(status),
    };
    let pushed = |body: &str| Delivery {
        call: Call::Pushed { body: body.to_owned(), content_type: "application/x-www-form-urlencoded" },
        expect: Expect::Taken,
    };
    let badly_signed = |signature| Delivery {
        call: Call::Signed { id: id.clone(), body: row.clone(), signature },
        expect: Expect::Refused(401),
    };
    let malformed = |body: &str| reference::signed(&id, body.to_owned());
    let (name, delivery) = match random.random_range(0..14) {
        0 => ("garbage", malformed("{\"type\":")),
        1 => ("garbage", malformed(&row.replace("9.99", "NaN"))),
        2 => ("garbage", malformed(&row.replace("9.99", "-9.99"))),
        3 => ("garbage", malformed(&row.replace("approved", "perhaps"))),
        4 => ("garbage", malformed(&row.replace("9.99", "99999999999999999999"))),
        5 => ("ping", malformed(r#"{"type":"ping"}"#)),
        6 => ("forged signature", badly_signed(Signature::Forged)),
        7 => ("stale signature", badly_signed(Signature::Stale)),
        8 => ("no signature", other("POST", "/reference", row.as_bytes(), 401)),
        9 => ("unknown network", other("POST", "/nobody/secret", row.as_bytes(), 404)),
        10 => ("wrong secret", other("POST", "/awin/not-the-secret", b"AwinTransactionPush=%7B%7D", 401)),
        11 => ("garbage", pushed(&format!("AwinTransactionPush=%7B{number}"))),
        12 => {
            ("garbage", pushed(&format!("AwinTransactionPush=%7B%22transactionId%22%3A%22%22%2C%22n%22%3A{number}%7D")))
        }
        _ => {
            let query = format!("tid=!!!transactionId!!!&amt=!!!transactionAmount!!!&ref=!!!clickRef!!!&n={number}");
            ("unexpanded macros", Delivery { call: Call::Asked { query }, expect: Expect::Taken })
        }
    };
    let absent = vec![("reference", format!("X-{number}"))];
    Story { name, steps: vec![Step::Send(delivery)], ends: Vec::new(), absent }
}

//! One trace from the call to the bank: W3C trace context, continued or begun here.

use axum::http::HeaderMap;
use uuid::Uuid;

/// The `traceparent` of the work this call causes: the caller's trace if it sent a valid one, else a new one.
#[must_use]
pub fn parent(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_id);
    let trace = given.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let span = Uuid::now_v7().as_u64_pair().1;
    format!("00-{trace}-{span:016x}-01")
}

/// The trace id of `00-{32 hex}-{16 hex}-{2 hex}`, unless it is all zeros.
fn trace_id(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex =
        |part: &str, length| part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let valid = version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && parts.next().is_none();
    Some(trace).filter(|trace| valid && trace.bytes().any(|byte| byte != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_trace_goes_on_and_anything_else_begins_a_new_one() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            parent(&headers)
        };
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert!(of(&format!("00-{trace}-00f067aa0ba902b7-01")).starts_with(&format!("00-{trace}-")));
        for bad in ["", "00-x-y-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            let made = of(bad);
            assert_eq!(made.len(), 55, "{made}");
            assert!(trace_id(&made).is_some(), "{made}");
        }
        assert_ne!(parent(&HeaderMap::new()), parent(&HeaderMap::new()));
    }
}

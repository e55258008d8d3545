//! Reading a body of bounded size in bounded time and bounded memory.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::json;

use crate::capacity::{Memory, Places};
use crate::error::Problem;

/// How much of a body that is too large is still read, so that its sender sees the answer and not a closed connection.
const MOST_READ: usize = 1024 * 1024;

/// A body, and the memory it takes among all bodies until this is gone.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    _memory: Memory,
}

/// The whole body, which comes `from` an address, unless that is a proxy's.
///
/// # Errors
/// 413 above `largest` bytes, 408 when it takes too long, 400 when the connection breaks it off, 503 when too much is
/// being received.
pub(crate) async fn read(
    places: &Places,
    from: Option<IpAddr>,
    headers: &HeaderMap,
    body: Body,
    largest: usize,
) -> Result<Payload, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MOST_READ) {
        return Err(too_large(largest));
    }
    match tokio::time::timeout(places.body_time, collect(places.body(from), body, largest)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "The body did not arrive in time.")),
    }
}

async fn collect(mut memory: Memory, mut body: Body, largest: usize) -> Result<Payload, Problem> {
    let mut whole = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", "The body was broken off.");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > MOST_READ {
            break;
        }
        if length <= largest {
            memory.take(data.len())?;
            whole.extend_from_slice(&data);
        }
    }
    if length > largest { Err(too_large(largest)) } else { Ok(Payload { bytes: whole.freeze(), _memory: memory }) }
}

fn too_large(largest: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is too large.")
        .with(json!({"limit_bytes": largest}))
}

//! Bodies and query strings as inputs (contract §1): every failure is a 422 that says what and where.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::value::RawValue;

use super::fields::{Fields, Input};
use super::given::Given;
use super::payload::{self, Payload};
use crate::capacity::Place;
use crate::error::Problem;
use crate::state::AppState;

/// Largest body of a call, in bytes.
const LARGEST: usize = 64 * 1024;

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body that may be absent: nothing reads as an empty object.
#[derive(Debug)]
pub struct OptionalBody<T>(pub T);

/// The query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: Input> FromRequest<AppState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let (headers, payload) = receive(request, state).await?;
        read(&headers, &payload.bytes).map(Self)
    }
}

impl<T: Input> FromRequest<AppState> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let (headers, Payload { bytes, .. }) = &receive(request, state).await?;
        let fields = if bytes.is_empty() { Fields::default() } else { fields(headers, bytes)? };
        fields.finish().map(Self)
    }
}

impl<T: Input> FromRequestParts<AppState> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        // Of a name that is given twice the last counts, as in the original.
        let given = pairs.map(|(name, value)| (name.into_owned(), Given::Text(value.into_owned()))).collect();
        let (default, most) = (state.settings.page_default, state.settings.page_max);
        Fields::new(given).with_catalogue(default, most).finish().map(Self)
    }
}

/// The headers and the whole body of a call.
async fn receive(request: Request, state: &AppState) -> Result<(HeaderMap, Payload), Problem> {
    let (mut head, body) = request.into_parts();
    let from = state.proxies.caller(&head.headers, &head.extensions);
    let receiving = payload::read(&state.places, from, &head.headers, body, LARGEST);
    let payload = match head.extensions.remove::<Place>() {
        Some(place) => place.lent(receiving).await?,
        None => receiving.await?,
    };
    Ok((head.headers, payload))
}

/// Reads a JSON body, as [`Body`] does.
///
/// # Errors
/// 422 with every violation.
pub fn read<T: Input>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(whole("body", "Field required"));
    }
    fields(headers, bytes)?.finish()
}

fn fields(headers: &HeaderMap, bytes: &[u8]) -> Result<Fields, Problem> {
    if !is_json(headers) {
        return Err(whole("body", "Input should be a valid dictionary or object"));
    }
    if let Err(error) = serde_json::from_slice::<&RawValue>(bytes) {
        return Err(whole(&offset(bytes, &error).to_string(), "JSON decode error"));
    }
    let object: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(bytes).map_err(|_| whole("body", "Input should be a valid dictionary or object"))?;
    Ok(Fields::new(object.into_iter().map(|(name, raw)| (name, Given::Json(raw))).collect()))
}

/// A body without a content type is taken for JSON, as the original does.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(given) = given.to_str() else { return false };
    let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

/// Where broken JSON breaks, in bytes from the start, as the original counts: what is missing at the end, behind the
/// last byte; an open text, at its quote; a word that means nothing, at its beginning.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let before: usize =
        bytes.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
    let at = if error.is_eof() { bytes.len() } else { (before + error.column()).saturating_sub(1).min(bytes.len()) };
    let read = bytes.get(..at).unwrap_or_default();
    if let Some(quote) = open_text(read) {
        return if error.is_eof() { quote } else { at };
    }
    at - read.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// Where the text begins that is still open at the end.
fn open_text(read: &[u8]) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, byte) in read.iter().enumerate() {
        match (byte, quote) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', Some(_)) => quote = None,
            (b'"', None) => quote = Some(at),
            _ => {}
        }
    }
    quote
}

fn whole(field: &str, reason: &str) -> Problem {
    let violation = [(field.to_owned(), reason.to_owned())];
    Problem::violations(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", &violation)
}

//! What the routes about accounts read from a request.

use axum::http::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::users::{self, Email, LONGEST_PASSWORD, PasswordError, ProofError};
use zeroize::Zeroizing;

use crate::error::Problem;
use crate::extract::Fields;
use crate::state::AppState;

/// An address, by the contract's rule (contract §4).
pub(super) fn email(fields: &mut Fields, name: &'static str) -> Option<Email> {
    let text = fields.text(name)?;
    parse(fields, name, &text)
}

/// As [`email`]; absent or null is `Some(None)`.
pub(super) fn optional_email(fields: &mut Fields, name: &'static str) -> Option<Option<Email>> {
    match fields.optional_text(name)? {
        None => Some(None),
        Some(text) => parse(fields, name, &text).map(Some),
    }
}

fn parse(fields: &mut Fields, name: &str, text: &str) -> Option<Email> {
    match text.parse() {
        Ok(email) => Some(email),
        Err(error) => {
            fields.refuse(name, &format!("value is not a valid email address: {error}"));
            None
        }
    }
}

/// A password of at most 1,024 bytes (contract §19); it may be empty or weak.
pub(super) fn password(fields: &mut Fields, name: &'static str) -> Option<Zeroizing<String>> {
    let password = Zeroizing::new(fields.text(name)?);
    if password.len() > LONGEST_PASSWORD {
        fields.refuse(name, "String should have at most 1024 bytes");
        return None;
    }
    Some(password)
}

/// Refuses a password that breaks one of the contract's rules, and names the first.
pub(super) fn strong(password: &str, field: &'static str) -> Result<(), Problem> {
    let Err(weak) = users::check_password(password) else { return Ok(()) };
    let reason = weak.0.first().map(|rule| format!("The password needs {rule}.")).unwrap_or_default();
    let message = "The password is not complex enough.";
    Err(Problem::new(StatusCode::BAD_REQUEST, "PASSWORD_NOT_COMPLEX_ENOUGH", message)
        .with(json!({ "violations": [{ "field": field, "reason": reason }] })))
}

/// An address as limits count it, so that it stands nowhere in plain text. Spellings of one mailbox count together.
pub(super) fn digest(email: &Email) -> String {
    Sha256::digest(email.as_str().to_lowercase()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A password could not be compared.
pub(super) fn unproven(error: ProofError) -> Problem {
    match error {
        ProofError::Store(error) => error.into(),
        ProofError::Password(error) => unhashed(&error),
    }
}

/// A password could not be hashed.
fn unhashed(error: &PasswordError) -> Problem {
    match error {
        PasswordError::Busy => {
            metrics::counter!("calls_shed_total", "class" => "password").increment(1);
            Problem::overloaded()
        }
        PasswordError::Hash(_) | PasswordError::Lost => Problem::internal(error),
    }
}

/// The hash of a new password.
pub(super) async fn hashed(state: &AppState, password: Zeroizing<String>) -> Result<String, Problem> {
    state.places.hashers.hash(password).await.map_err(|error| unhashed(&error))
}

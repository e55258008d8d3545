//! The answer in the words the sender expects.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use shared::deliveries::Answer;
use shared::ids::DeliveryId;
use shared::networks::{Adapter, Reading};

/// What a sender that was let in hears: always 200.
pub(super) fn respond(adapter: Adapter, id: DeliveryId, answer: Answer, reading: &Reading) -> Response {
    match adapter {
        Adapter::Awin => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "OK").into_response(),
        Adapter::Reference => {
            let mut body = json!({"status": answer.as_str(), "delivery_id": id});
            if let (Reading::Unmappable(why) | Reading::Ignored(why), Some(body)) = (reading, body.as_object_mut()) {
                body.insert("reason".to_owned(), why.as_str().into());
            }
            Json(body).into_response()
        }
    }
}

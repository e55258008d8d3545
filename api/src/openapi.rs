//! The document of the interface (OpenAPI 3.1), made from the handlers themselves.

use axum::Json;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, ResponseBuilder, path::Operation};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::v1::shapes::{Refusal, RefusalBody};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "ClickNBack", description = "The engine of a cashback site.", license(name = "MIT OR Apache-2.0")),
    components(schemas(Refusal, RefusalBody))
)]
struct Base;

/// What the routes' own documents are merged into.
pub(crate) fn base() -> OpenApi {
    let mut document = Base::openapi();
    let bearer = SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build());
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert("bearer".to_owned(), bearer.into());
    components.schemas.insert(Refusal::name().into_owned(), Refusal::schema());
    document
}

/// Adds what every operation may answer: too large, invalid, too many, defect, no database; with a token its 401s.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add(operation, "422", "The request breaks a rule of its form");
            add(operation, "429", "Too many calls");
            add(operation, "500", "A defect of ours");
            add(operation, "503", "Nothing can be read or stored now");
            if operation.request_body.is_some() {
                add(operation, "400", "The body was broken off, or the request breaks a rule");
                add(operation, "408", "The body did not arrive in time");
                add(operation, "413", "The body is too large");
            }
            if operation.security.is_some() {
                add(operation, "401", "No valid token of an active account with that permission");
            }
        }
    }
}

fn add(operation: &mut Operation, status: &str, description: &str) {
    let refusal = ContentBuilder::new().schema(Some(Ref::from_schema_name("Refusal"))).build();
    let response = ResponseBuilder::new().description(description).content("application/json", refusal).build();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
}

/// Serves the document.
pub(crate) async fn serve(document: std::sync::Arc<OpenApi>) -> Response {
    Json(&*document).into_response()
}

//! The document of the interface (OpenAPI 3.1), made from the handlers themselves.

use axum::Json;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, path::Operation};
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
    let routes = document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/api/v1/"));
    for (_, item) in routes {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name(operation);
            describe(operation);
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

/// Handlers of several areas have the same name; in the document each name may stand once.
fn name(operation: &mut Operation) {
    let area = operation.tags.as_ref().and_then(|tags| tags.first());
    if let (Some(area), Some(name)) = (area, &operation.operation_id) {
        operation.operation_id = Some(format!("{}_{name}", area.replace(' ', "_")));
    }
}

/// The form of the document demands a description of each answer; a handler may leave it out where there is nothing to say.
fn describe(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            "Done".clone_into(&mut response.description);
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

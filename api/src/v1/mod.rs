//! The contract: everything under `/api/v1` (docs/API.md). One file an area; each says its own routes.

mod account;
mod account_input;
mod account_mail;
mod auth;
pub(crate) mod shapes;
mod users;

use axum::routing::MethodRouter;
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// All routes of the contract, without their prefix.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(auth::routes())
        .merge(users::routes())
        .merge(account::routes())
        .merge(account_mail::routes())
}

/// Serves a collection under its other spelling as well, with or without the slash at the end (contract §19). Only the
/// contract's own spelling is documented.
pub(crate) fn collection(
    router: OpenApiRouter<AppState>,
    other_spelling: &str,
    methods: MethodRouter<AppState>,
) -> OpenApiRouter<AppState> {
    router.route(other_spelling, methods)
}

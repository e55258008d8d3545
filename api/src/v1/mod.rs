//! The contract: everything under `/api/v1` (docs/API.md). One file an area; each says its own routes.

mod flags;
mod lax;
mod merchants;
mod offers;
pub(crate) mod shapes;

use axum::routing::MethodRouter;
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// All routes of the contract, without their prefix.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(merchants::routes()).merge(offers::routes()).merge(flags::routes())
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

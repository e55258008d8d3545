//! The contract: everything under `/api/v1` (docs/API.md). One file an area; each says its own routes.

mod account;
mod account_input;
mod account_mail;
mod auth;
mod bank_account;
mod flags;
mod lax;
mod merchants;
mod offers;
mod payouts;
mod payouts_admin;
mod purchases;
pub(crate) mod shapes;
mod users;
mod wallet;

pub(crate) use purchases::Totals;

use axum::routing::MethodRouter;
use utoipa_axum::router::OpenApiRouter;

use crate::state::AppState;

/// All routes of the contract, without their prefix.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(account::routes())
        .merge(account_mail::routes())
        .merge(auth::routes())
        .merge(bank_account::routes())
        .merge(flags::routes())
        .merge(merchants::routes())
        .merge(offers::routes())
        .merge(payouts::routes())
        .merge(payouts_admin::routes())
        .merge(purchases::routes())
        .merge(users::routes())
        .merge(wallet::routes())
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

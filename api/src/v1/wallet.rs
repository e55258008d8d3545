//! The caller's wallet: balances, cashback, and why each balance is what it is (contract §2, rows 20 and 21).

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use shared::explain::wallet::{self, Details, HeldBy, Maturing, OwedFor};
use shared::ids::{PayoutId, PurchaseId};
use shared::ledger;
use shared::money::Money;
use shared::purchases::list::{self, Credit};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::purchases::PAGE;
use super::shapes::{Euros, PageOf, Seconds};
use crate::error::Problem;
use crate::extract::{Fields, Input, Page, Query, SignedIn};
use crate::state::AppState;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new().routes(routes!(balances)).routes(routes!(transactions)).routes(routes!(details));
    super::collection(router, "/users/me/wallet/transactions/", get(transactions))
}

/// A balance: text with two decimals, and `"0"` where nothing has ever moved (contract §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, example = "19.05", pattern = r"^(0|\d+\.\d{2})$")]
struct Balance(Option<Money>);

impl Serialize for Balance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(amount) => Euros(amount).serialize(serializer),
            None => serializer.serialize_str("0"),
        }
    }
}

/// The three balances.
#[derive(Debug, Serialize, ToSchema)]
struct WalletBalances {
    pending_balance: Balance,
    available_balance: Balance,
    paid_balance: Balance,
}

#[utoipa::path(
    get, path = "/users/me/wallet", tag = "wallet", security(("bearer" = [])),
    responses((status = 200, description = "What is pending, available and paid", body = WalletBalances))
)]
/// Shows the caller's balances.
async fn balances(State(state): State<AppState>, caller: SignedIn) -> Result<Json<WalletBalances>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let wallet = wallet::wallet(&mut conn, caller.user).await?;
    let balance = |of: fn(&ledger::Wallet) -> Money| Balance(wallet.as_ref().map(of));
    Ok(Json(WalletBalances {
        pending_balance: balance(|wallet| wallet.pending),
        available_balance: balance(|wallet| wallet.available),
        paid_balance: balance(|wallet| wallet.paid),
    }))
}

/// The cashback of one purchase.
#[derive(Debug, Serialize, ToSchema)]
struct WalletTransaction {
    /// The purchase's id: each has one cashback at most.
    #[schema(value_type = Uuid)]
    id: PurchaseId,
    /// Always `cashback_credit`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: &'static str,
    /// What was last awarded; a reversal keeps it.
    amount: Euros,
    /// `pending`, `available` or `reversed`.
    status: String,
    #[schema(value_type = Uuid)]
    related_purchase_id: PurchaseId,
}

impl From<Credit> for WalletTransaction {
    fn from(credit: Credit) -> Self {
        Self {
            id: credit.purchase,
            kind: "cashback_credit",
            amount: Euros(credit.amount),
            status: credit.status,
            related_purchase_id: credit.purchase,
        }
    }
}

/// Which part of the list.
#[derive(Debug)]
struct Asked(Page);

impl Input for Asked {
    fn read(fields: &mut Fields) -> Option<Self> {
        fields.page(PAGE.0, PAGE.1).map(Self)
    }
}

#[utoipa::path(
    get, path = "/users/me/wallet/transactions", tag = "wallet", security(("bearer" = [])),
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "Newest purchase first", body = PageOf<WalletTransaction>))
)]
/// Lists the caller's cashback, one row a purchase.
async fn transactions(
    State(state): State<AppState>,
    caller: SignedIn,
    Query(Asked(page)): Query<Asked>,
) -> Result<Json<PageOf<WalletTransaction>>, Problem> {
    let mut conn = state.pool.acquire().await?;
    let rows = list::credits(&mut conn, caller.user, page.offset, page.limit).await?;
    let total = list::count_credits(&mut conn, caller.user).await?;
    Ok(Json(PageOf::new(rows.into_iter().map(WalletTransaction::from).collect(), page, total)))
}

/// All balances, and why they are what they are.
#[derive(Debug, Serialize, ToSchema)]
struct WalletDetails {
    pending: Euros,
    available: Euros,
    /// Under way to the bank.
    held: Euros,
    paid: Euros,
    /// Taken from the next cashback.
    owed: Euros,
    /// The open payouts behind `held`, the oldest first.
    held_by: Vec<HeldPayout>,
    /// The purchases behind `owed`, the newest first.
    owed_for: Vec<OwedPurchase>,
    /// What becomes available next, the soonest first.
    next_available: Vec<MaturingCashback>,
}

/// A payout under way.
#[derive(Debug, Serialize, ToSchema)]
struct HeldPayout {
    #[schema(value_type = Uuid)]
    payout_id: PayoutId,
    amount: Euros,
    /// `requested` or `processing`.
    #[schema(value_type = String)]
    status: &'static str,
    requested_at: Seconds,
}

/// A purchase that was taken back after its cashback had been used.
#[derive(Debug, Serialize, ToSchema)]
struct OwedPurchase {
    #[schema(value_type = Uuid)]
    purchase_id: PurchaseId,
    merchant_name: String,
    /// What was missing then.
    amount: Euros,
    taken_back_at: Seconds,
    reason: Option<String>,
}

/// Confirmed cashback on hold.
#[derive(Debug, Serialize, ToSchema)]
struct MaturingCashback {
    #[schema(value_type = Uuid)]
    purchase_id: PurchaseId,
    merchant_name: String,
    amount: Euros,
    expected_at: Seconds,
    /// It waits for the network's payment as well, so it may take longer.
    waits_for_payment: bool,
}

#[utoipa::path(
    get, path = "/users/me/wallet/details", tag = "wallet", security(("bearer" = [])),
    responses((status = 200, description = "All balances with their reasons", body = WalletDetails))
)]
/// Shows all of the caller's balances, and why they are what they are.
async fn details(State(state): State<AppState>, caller: SignedIn) -> Result<Json<WalletDetails>, Problem> {
    // One moment for balances and reasons.
    let mut tx = state.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let Details { wallet, held, owed, next } = wallet::details(&mut tx, caller.user).await?;
    tx.rollback().await?;
    let wallet = wallet.unwrap_or_default();
    Ok(Json(WalletDetails {
        pending: Euros(wallet.pending),
        available: Euros(wallet.available),
        held: Euros(wallet.held),
        paid: Euros(wallet.paid),
        owed: Euros(wallet.owed),
        held_by: held.into_iter().map(HeldPayout::from).collect(),
        owed_for: owed.into_iter().map(OwedPurchase::from).collect(),
        next_available: next.into_iter().map(MaturingCashback::from).collect(),
    }))
}

impl From<HeldBy> for HeldPayout {
    fn from(held: HeldBy) -> Self {
        Self {
            payout_id: held.payout,
            amount: Euros(held.amount),
            status: held.status,
            requested_at: Seconds(held.requested_at),
        }
    }
}

impl From<OwedFor> for OwedPurchase {
    fn from(owed: OwedFor) -> Self {
        Self {
            purchase_id: owed.purchase,
            merchant_name: owed.merchant,
            amount: Euros(owed.amount),
            taken_back_at: Seconds(owed.at),
            reason: owed.reason,
        }
    }
}

impl From<Maturing> for MaturingCashback {
    fn from(next: Maturing) -> Self {
        Self {
            purchase_id: next.purchase,
            merchant_name: next.merchant,
            amount: Euros(next.amount),
            expected_at: Seconds(next.expected_at),
            waits_for_payment: next.waits_for_payment,
        }
    }
}

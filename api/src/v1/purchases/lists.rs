//! Lists of purchases, and one (contract §2, rows 15, 16 and 19).

use axum::Json;
use axum::extract::State;
use shared::ids::{MerchantId, UserId};
use shared::purchases::list::{self, Filter};
use time::Date;
use uuid::Uuid;

use super::{OwnPurchase, PurchaseRow, owned, state_of};
use crate::error::Problem;
use crate::extract::{Admin, Fields, Input, Name, Page, Query, SignedIn};
use crate::state::AppState;
use crate::v1::shapes::{PageOf, Refusal};

/// Rows of a page unless asked otherwise, and at most: hard-coded in the contract (§1).
pub(in crate::v1) const PAGE: (i64, i64) = (10, 100);

/// What the administrators' list is narrowed by.
#[derive(Debug)]
pub(super) struct All {
    page: Page,
    status: Option<String>,
    user: Option<String>,
    merchant: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
}

impl Input for All {
    fn read(fields: &mut Fields) -> Option<Self> {
        let page = fields.page(PAGE.0, PAGE.1);
        let (status, user) = (fields.optional_text("status"), fields.optional_text("user_id"));
        let merchant = fields.optional_text("merchant_id");
        let (from, to) = (fields.optional_date("start_date"), fields.optional_date("end_date"));
        Some(Self { page: page?, status: status?, user: user?, merchant: merchant?, from: from?, to: to? })
    }
}

impl All {
    /// The filter; none when it names something that is no id, which nothing matches.
    fn filter(&self) -> Result<Option<Filter>, Problem> {
        let state = state_of(self.status.as_deref())?;
        let id = |text: &Option<String>| text.as_deref().map(Uuid::parse_str).transpose();
        let (Ok(user), Ok(merchant)) = (id(&self.user), id(&self.merchant)) else { return Ok(None) };
        let (user, merchant) = (user.map(UserId), merchant.map(MerchantId));
        Ok(Some(Filter { state, user, merchant, from: self.from, to: self.to }))
    }
}

#[utoipa::path(
    get, path = "/purchases/", tag = "purchases", security(("bearer" = [])),
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("status" = Option<String>, Query, description = "`pending`, `confirmed`, `rejected` or `reversed`"),
        ("user_id" = Option<String>, Query),
        ("merchant_id" = Option<String>, Query),
        ("start_date" = Option<Date>, Query, description = "First day, UTC"),
        ("end_date" = Option<Date>, Query, description = "Last day, UTC, itself included"),
    ),
    responses((status = 200, description = "Newest first; a total above 100,000 is up to a minute old",
               body = PageOf<PurchaseRow>))
)]
/// Lists all purchases.
pub(super) async fn all(
    State(state): State<AppState>,
    _: Admin,
    Query(asked): Query<All>,
) -> Result<Json<PageOf<PurchaseRow>>, Problem> {
    let Some(filter) = asked.filter()? else { return Ok(Json(PageOf::new(Vec::new(), asked.page, 0))) };
    let mut conn = state.pool.acquire().await?;
    let rows = list::page(&mut conn, &filter, asked.page.offset, asked.page.limit).await?;
    drop(conn);
    let total = state.purchase_totals.total(&state.pool, state.clock.now(), &filter).await?;
    Ok(Json(PageOf::new(rows.into_iter().map(PurchaseRow::from).collect(), asked.page, total)))
}

#[utoipa::path(
    get, path = "/purchases/{id}", tag = "purchases", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The caller's own purchase", body = OwnPurchase),
        (status = 403, description = "It is somebody else's", body = Refusal),
        (status = 404, description = "There is no such purchase", body = Refusal),
    )
)]
/// Shows a purchase to its shopper.
pub(super) async fn one(
    State(state): State<AppState>,
    caller: SignedIn,
    name: Name,
) -> Result<Json<OwnPurchase>, Problem> {
    let mut conn = state.pool.acquire().await?;
    Ok(Json(owned(&mut conn, &name, caller.user).await?.into()))
}

/// What a shopper's list is narrowed by.
#[derive(Debug)]
pub(super) struct Own {
    page: Page,
    status: Option<String>,
}

impl Input for Own {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (page, status) = (fields.page(PAGE.0, PAGE.1), fields.optional_text("status"));
        Some(Self { page: page?, status: status? })
    }
}

#[utoipa::path(
    get, path = "/users/me/purchases", tag = "purchases", security(("bearer" = [])),
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("status" = Option<String>, Query, description = "`pending`, `confirmed`, `rejected` or `reversed`"),
    ),
    responses((status = 200, description = "Newest first", body = PageOf<OwnPurchase>))
)]
/// Lists the caller's own purchases.
pub(super) async fn own(
    State(state): State<AppState>,
    caller: SignedIn,
    Query(asked): Query<Own>,
) -> Result<Json<PageOf<OwnPurchase>>, Problem> {
    let state_asked = state_of(asked.status.as_deref())?;
    let filter = Filter { user: Some(caller.user), state: state_asked, ..Filter::default() };
    let mut conn = state.pool.acquire().await?;
    let rows = list::page(&mut conn, &filter, asked.page.offset, asked.page.limit).await?;
    let total = list::count(&mut conn, &filter, i64::MAX - 1).await?;
    Ok(Json(PageOf::new(rows.into_iter().map(OwnPurchase::from).collect(), asked.page, total)))
}

//! Payouts as administrators see them (contract §12, PA-02 and PA-03). The original never built these routes: a wrong
//! role is 403 (§19).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use shared::clock::Timestamp;
use shared::db::commit;
use shared::ids::{PayoutId, UserId};
use shared::payouts::list::{self, Filter, Listed};
use shared::payouts::{self, AdminWord, Decision, ProcessError};
use time::{Date, Duration, OffsetDateTime, Time};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::payouts::{not_allowed, states, unknown_word};
use super::shapes::{Euros, Refusal};
use crate::error::Problem;
use crate::extract::{Body, Fields, Input, Name, OwnAdmin, Page, Query};
use crate::state::AppState;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new().routes(routes!(list_all)).routes(routes!(process));
    super::collection(router, "/admin/payouts/", get(list_all))
}

/// Everybody's payouts.
#[derive(Serialize, ToSchema)]
struct AllPayouts {
    payouts: Vec<AnyPayout>,
    /// How many there are that match.
    total: i64,
}

/// Somebody's payout.
#[derive(Serialize, ToSchema)]
struct AnyPayout {
    id: Uuid,
    user_id: Uuid,
    amount: Euros,
    /// `requested`, `processing`, `completed` or `failed`.
    status: &'static str,
}

struct AllQuery {
    page: Page,
    status: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    user: Option<Uuid>,
}

impl Input for AllQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (page, status) = (fields.page(20, 100), fields.optional_text("status"));
        let (from, to, user) =
            (fields.optional_date("from"), fields.optional_date("to"), fields.optional_uuid("user_id"));
        Some(Self { page: page?, status: status?, from: from?, to: to?, user: user? })
    }
}

fn midnight(day: Date) -> Timestamp {
    OffsetDateTime::new_utc(day, Time::MIDNIGHT)
}

/// Payouts, newest first. Both days are whole ones and included.
#[utoipa::path(
    get,
    path = "/admin/payouts",
    tag = "payouts",
    params(
        ("offset" = Option<i64>, Query, minimum = 0),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "20 unless given"),
        ("status" = Option<String>, Query, description = "requested, processing, completed or failed"),
        ("from" = Option<String>, Query, description = "First day of the request, YYYY-MM-DD"),
        ("to" = Option<String>, Query, description = "Last day of the request, YYYY-MM-DD"),
        ("user_id" = Option<String>, Query, description = "Only this shopper's"),
    ),
    responses(
        (status = 200, body = AllPayouts),
        (status = 400, description = "Unknown status", body = Refusal),
        (status = 403, description = "Administrators only", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn list_all(
    State(state): State<AppState>,
    _: OwnAdmin,
    Query(query): Query<AllQuery>,
) -> Result<Json<AllPayouts>, Problem> {
    let filter = Filter {
        user: query.user.map(UserId),
        states: states(query.status.as_deref())?,
        from: query.from.map(midnight),
        // The last day of the calendar has no next one, and nothing after it.
        before: query.to.and_then(|day| midnight(day).checked_add(Duration::DAY)),
    };
    let mut conn = state.pool.acquire().await?;
    let (listed, total) = list::list(&mut conn, &filter, query.page.offset, query.page.limit).await?;
    let any = |payout: Listed| AnyPayout {
        id: payout.id.0,
        user_id: payout.user.0,
        amount: Euros(payout.amount),
        status: payout.state.shown(),
    };
    Ok(Json(AllPayouts { payouts: listed.into_iter().map(any).collect(), total }))
}

/// What is to become of a payout.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only documents the input")]
struct ProcessRequest {
    /// `processing`, `completed` or `failed`.
    #[schema(example = "completed")]
    status: String,
}

struct Wanted {
    status: String,
}

impl Input for Wanted {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { status: fields.text("status")? })
    }
}

/// What became of a payout.
#[derive(Serialize, ToSchema)]
struct Processed {
    id: Uuid,
    /// `processing`, `completed` or `failed`.
    status: &'static str,
}

const WORDS: [(&str, AdminWord); 3] =
    [("processing", AdminWord::Processing), ("completed", AdminWord::Completed), ("failed", AdminWord::Failed)];

/// Carries out an administrator's word about a payout that a person pays; of others only `failed`, before they begin.
#[utoipa::path(
    patch,
    path = "/admin/payouts/{id}/process",
    tag = "payouts",
    params(("id" = String, Path, description = "The payout's id")),
    request_body = ProcessRequest,
    responses(
        (status = 200, body = Processed),
        (status = 400, description = "Unknown word, or it has ended already", body = Refusal),
        (status = 403, description = "Administrators only", body = Refusal),
        (status = 404, description = "There is no such payout", body = Refusal),
    ),
    security(("bearer" = []))
)]
async fn process(
    State(state): State<AppState>,
    OwnAdmin(admin): OwnAdmin,
    name: Name,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Processed>, Problem> {
    let Some((_, word)) = WORDS.into_iter().find(|(name, _)| *name == wanted.status) else {
        return Err(unknown_word("status", &wanted.status, &WORDS.map(|(name, _)| name)));
    };
    let payout = PayoutId(name.id("payout")?);
    let mut tx = state.pool.begin().await?;
    let decision = Decision { payout, admin: admin.user, word, second: None, reason: None };
    let (after, pushes) = payouts::process(&mut tx, state.clock.now(), &state.room(), &decision)
        .await
        .map_err(|error| refused(error, payout))?;
    commit(tx, "payouts.process").await?;
    state.push(pushes).await;
    Ok(Json(Processed { id: payout.0, status: after.shown() }))
}

fn refused(error: ProcessError, payout: PayoutId) -> Problem {
    match error {
        ProcessError::NotFound(id) => Problem::not_found("payout", &id.to_string()),
        ProcessError::NotAllowed { state } if state.has_ended() => {
            Problem::new(StatusCode::BAD_REQUEST, "PAYOUT_ALREADY_PROCESSED", "The payout has ended already.").with(
                json!({
                    "payout_id": payout,
                    "current_status": state.shown(),
                    "allowed_transitions": ["requested"],
                }),
            )
        }
        ProcessError::NotAllowed { .. } => {
            not_allowed(&["The bank carries this payout: it may only be failed, and only before it begins".to_owned()])
        }
        ProcessError::Forbidden(reason) => not_allowed(&[reason.to_owned()]),
        ProcessError::SecondPersonNeeded => not_allowed(&[
            "It may have been paid: failing it needs a second administrator (clicknback payouts end)".to_owned(),
        ]),
        ProcessError::Store(error) => error.into(),
    }
}

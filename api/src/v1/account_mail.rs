//! What an account is told by mail, proving its address, and the export of one's own data: our own routes.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use serde::Serialize;
use shared::db::commit;
use shared::notifications::Event;
use shared::users::{self, Asked, Wishes};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lax;
use super::shapes::Refusal;
use crate::error::Problem;
use crate::extract::{Body, Fields, Input, SignedIn};
use crate::limits::Rule;
use crate::state::AppState;

/// The routes of this area.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ask_verification))
        .routes(routes!(preferences, set_preferences))
        .routes(routes!(export))
}

const HOUR: Duration = Duration::from_secs(3600);

/// What became of the wish for another link.
#[derive(Debug, Serialize, ToSchema)]
struct VerificationAnswer {
    /// `sent`, or `verified`: the address is proven already and no mail is sent.
    #[schema(example = "sent")]
    status: &'static str,
}

/// Sends another link that proves the address.
#[utoipa::path(post, path = "/users/me/email-verification", tag = "account", security(("bearer" = [])), responses(
    (status = 202, description = "A mail is on its way, or none is needed", body = VerificationAnswer),
))]
async fn ask_verification(
    State(state): State<AppState>,
    caller: SignedIn,
) -> Result<(StatusCode, Json<VerificationAnswer>), Problem> {
    state.rates.check(Rule::Reset, &[caller.user.to_string()]).await?;
    let mut tx = state.pool.begin().await?;
    let asked = users::ask_verification(&mut tx, state.clock.now(), &state.room(), caller.user).await?;
    commit(tx, "emails.ask_verification").await?;
    let status = match asked.ok_or_else(Problem::invalid_token)? {
        Asked::Verified => "verified",
        Asked::TooMany => return Err(Problem::rate_limited(HOUR).of_limit(users::LINKS_AN_HOUR, HOUR)),
        Asked::Sent(pushes) => {
            state.push(pushes).await;
            "sent"
        }
    };
    Ok((StatusCode::ACCEPTED, Json(VerificationAnswer { status })))
}

/// What is told by mail. Mail about payouts and about the account itself is always sent.
#[derive(Debug, Serialize, ToSchema)]
struct Preferences {
    /// False: no mail about cashback at all.
    wants_email: bool,
    /// A purchase was reported.
    tracked: bool,
    /// A purchase was confirmed.
    confirmed: bool,
    /// Cashback can be paid out.
    available: bool,
    /// Cashback was taken back.
    reversed: bool,
}

impl From<Wishes> for Preferences {
    fn from(wishes: Wishes) -> Self {
        let told = |event| !wishes.muted.contains(&event);
        Self {
            wants_email: wishes.wants_email,
            tracked: told(Event::Tracked),
            confirmed: told(Event::Confirmed),
            available: told(Event::Available),
            reversed: told(Event::Reversed),
        }
    }
}

/// What is to be told from now on; what is absent stays as it is.
#[derive(Debug, ToSchema)]
struct NewPreferences {
    /// False: no mail about cashback at all.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    wants_email: Option<bool>,
    /// A purchase was reported.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    tracked: Option<bool>,
    /// A purchase was confirmed.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    confirmed: Option<bool>,
    /// Cashback can be paid out.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    available: Option<bool>,
    /// Cashback was taken back.
    #[schema(schema_with = lax::optional_boolean, required = false)]
    reversed: Option<bool>,
}

impl Input for NewPreferences {
    fn read(fields: &mut Fields) -> Option<Self> {
        let [wants_email, tracked, confirmed, available, reversed] =
            ["wants_email", "tracked", "confirmed", "available", "reversed"].map(|name| fields.optional_flag(name));
        Some(Self {
            wants_email: wants_email?,
            tracked: tracked?,
            confirmed: confirmed?,
            available: available?,
            reversed: reversed?,
        })
    }
}

/// What is told by mail.
#[utoipa::path(get, path = "/users/me/notifications", tag = "account", security(("bearer" = [])), responses(
    (status = 200, description = "What is told by mail", body = Preferences),
))]
async fn preferences(State(state): State<AppState>, caller: SignedIn) -> Result<Json<Preferences>, Problem> {
    let wishes = users::wishes(&mut *state.pool.acquire().await?, caller.user).await?;
    Ok(Json(wishes.ok_or_else(Problem::invalid_token)?.into()))
}

/// Changes what is told by mail.
#[utoipa::path(put, path = "/users/me/notifications", tag = "account", security(("bearer" = [])),
    request_body = NewPreferences, responses(
        (status = 200, description = "What is told by mail from now on", body = Preferences),
        (status = 401, description = "No valid token of an active account", body = Refusal),
    ))]
async fn set_preferences(
    State(state): State<AppState>,
    caller: SignedIn,
    Body(new): Body<NewPreferences>,
) -> Result<Json<Preferences>, Problem> {
    let changes = [
        (Event::Tracked, new.tracked),
        (Event::Confirmed, new.confirmed),
        (Event::Available, new.available),
        (Event::Reversed, new.reversed),
    ];
    let mut tx = state.pool.begin().await?;
    let wishes = users::set_wishes(&mut tx, state.clock.now(), caller.user, |wishes| {
        wishes.wants_email = new.wants_email.unwrap_or(wishes.wants_email);
        for (event, told) in changes {
            match told {
                Some(true) => wishes.muted.retain(|muted| *muted != event),
                Some(false) => wishes.muted.push(event),
                None => {}
            }
        }
    });
    let wishes = wishes.await?.ok_or_else(Problem::invalid_token)?;
    commit(tx, "notifications.set_preferences").await?;
    Ok(Json(wishes.into()))
}

/// Everything we hold about the caller, as one document.
#[utoipa::path(get, path = "/users/me/export", tag = "account", security(("bearer" = [])), responses(
    (status = 200, description = "Profile, clicks, purchases, transfers, payouts, mails and sessions", body = Object),
))]
async fn export(
    State(state): State<AppState>,
    caller: SignedIn,
) -> Result<([(HeaderName, &'static str); 2], Json<serde_json::Value>), Problem> {
    // One snapshot, so that the parts agree.
    let mut tx = state.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let document = users::export(&mut tx, state.clock.now(), caller.user).await?;
    tx.rollback().await?;
    let headers =
        [(header::CONTENT_DISPOSITION, "attachment; filename=\"my-data.json\""), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Json(document.ok_or_else(Problem::invalid_token)?)))
}

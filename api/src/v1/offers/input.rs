//! What the routes of offers read.

use axum::http::StatusCode;
use rust_decimal::Decimal;
use shared::money::Money;
use shared::offers::lists::Filter;
use shared::offers::state::LARGEST_AMOUNT;
use shared::purchases::OfferKind;
use time::Date;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::error::Problem;
use crate::extract::{Fields, Input, Page};
use crate::v1::lax;

/// An offer to be.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "merchant_id": "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d", "cashback_type": "percent", "cashback_value": 5,
    "start_date": "2099-01-01", "end_date": "2099-12-31", "monthly_cap": 50
}))]
pub(crate) struct NewOffer {
    /// Whose.
    #[schema(schema_with = lax::id)]
    pub(super) merchant_id: Uuid,
    /// `percent` of the sale, or `fixed` euros a purchase.
    #[schema(schema_with = lax::kind)]
    cashback_type: &'static str,
    /// Percent, above 0 and at most the operator's maximum, or euros above 0; at most four decimals.
    #[schema(schema_with = lax::rate)]
    pub(super) cashback_value: Decimal,
    /// First day, today (UTC) or later.
    #[schema(schema_with = lax::date)]
    pub(super) start_date: Date,
    /// Last day, not before the first.
    #[schema(schema_with = lax::date)]
    pub(super) end_date: Date,
    /// Euros per shopper and calendar month, above 0, at most two decimals.
    #[schema(schema_with = lax::euros)]
    monthly_cap: Money,
}

impl NewOffer {
    pub(super) fn kind(&self) -> OfferKind {
        if self.cashback_type == "fixed" { OfferKind::Fixed } else { OfferKind::Percent }
    }

    pub(super) fn cap(&self) -> Money {
        self.monthly_cap
    }
}

impl Input for NewOffer {
    fn read(fields: &mut Fields) -> Option<Self> {
        let merchant_id = fields.uuid("merchant_id");
        let cashback_type = fields.word("cashback_type", &["percent", "fixed"]);
        let value = fields.decimal("cashback_value").and_then(|value| worth(fields, value, cashback_type));
        let (start, end) = (fields.date("start_date"), fields.date("end_date"));
        let cap = fields.decimal("monthly_cap").and_then(|cap| amount(fields, cap));
        Some(Self {
            merchant_id: merchant_id?,
            cashback_type: cashback_type?,
            cashback_value: value?,
            start_date: start?,
            end_date: end?,
            monthly_cap: cap?,
        })
    }
}

/// What is to change about an offer; absent: stays.
#[derive(Debug, ToSchema)]
pub(crate) struct OfferChange {
    /// Percent, above 0 and at most the operator's maximum, or euros above 0; at most four decimals.
    #[schema(schema_with = lax::optional_rate, required = false)]
    pub(super) cashback_value: Option<Decimal>,
    /// First day; a new one is today (UTC) or later.
    #[schema(schema_with = lax::optional_date, required = false)]
    pub(super) start_date: Option<Date>,
    /// Last day, not before the first.
    #[schema(schema_with = lax::optional_date, required = false)]
    pub(super) end_date: Option<Date>,
    /// Euros per shopper and calendar month, above 0, at most two decimals; null: no cap.
    #[schema(schema_with = lax::optional_euros, required = false)]
    pub(super) monthly_cap: Option<Option<Money>>,
}

impl Input for OfferChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let value = match fields.optional_decimal("cashback_value") {
            // Whether it is a percentage is not known here; no larger one could be right either.
            Some(Some(value)) => worth(fields, value, Some("fixed")).map(Some),
            other => other,
        };
        let (start, end) = (fields.optional_date("start_date"), fields.optional_date("end_date"));
        let cap = match fields.optional_decimal("monthly_cap") {
            Some(Some(cap)) => amount(fields, cap).map(|cap| Some(Some(cap))),
            Some(None) => Some(fields.given("monthly_cap").then_some(None)),
            None => None,
        };
        Some(Self { cashback_value: value?, start_date: start?, end_date: end?, monthly_cap: cap? })
    }
}

/// What an offer gives. Its sign and a percentage's limit are rules of their own (contract §2 row 9).
fn worth(fields: &mut Fields, value: Decimal, kind: Option<&str>) -> Option<Decimal> {
    if kind == Some("fixed") && value > LARGEST_AMOUNT {
        return too_large(fields, "cashback_value");
    }
    lax::decimals(fields, "cashback_value", value, 4)
}

/// A cap. Its sign is a rule of its own.
fn amount(fields: &mut Fields, cap: Decimal) -> Option<Money> {
    if cap > LARGEST_AMOUNT {
        return too_large(fields, "monthly_cap");
    }
    let cap = lax::decimals(fields, "monthly_cap", cap, 2)?;
    // Every amount below zero is refused alike, so that none is too long for `Money`.
    Money::try_from(cap.max(Decimal::NEGATIVE_ONE)).ok()
}

fn too_large<T>(fields: &mut Fields, name: &str) -> Option<T> {
    fields.refuse(name, "Input should be at most 9999999999.99");
    None
}

/// Which offers.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfferQuery {
    /// Rows to skip.
    #[param(minimum = 0, required = false)]
    pub(super) offset: i64,
    /// Most rows to give; 1 to the operator's maximum.
    #[param(minimum = 1, required = false)]
    pub(super) limit: i64,
    /// Only those that are `active`, or `inactive`.
    #[param(required = false)]
    status: Option<String>,
    /// Only this merchant's.
    #[param(schema_with = lax::id, required = false)]
    merchant_id: Option<Uuid>,
    /// Only those that last to this day or longer.
    #[param(schema_with = lax::date, required = false)]
    date_from: Option<Date>,
    /// Only those that begin by this day.
    #[param(schema_with = lax::date, required = false)]
    date_to: Option<Date>,
}

impl Input for OfferQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let page = fields.catalogue_page();
        let status = fields.optional_text("status");
        let merchant = fields.optional_uuid("merchant_id");
        let (from, to) = (fields.optional_date("date_from"), fields.optional_date("date_to"));
        let Page { offset, limit } = page?;
        Some(Self { offset, limit, status: status?, merchant_id: merchant?, date_from: from?, date_to: to? })
    }
}

impl OfferQuery {
    /// The filter, or a 400 with all its violations (contract §2 row 10).
    pub(super) fn filter(&self) -> Result<Filter, Problem> {
        let mut violations = Vec::new();
        let active = match self.status.as_deref() {
            None => None,
            Some("active") => Some(true),
            Some("inactive") => Some(false),
            Some(_) => {
                violations.push(("status".to_owned(), "must be active or inactive".to_owned()));
                None
            }
        };
        if self.date_from.zip(self.date_to).is_some_and(|(from, to)| from > to) {
            violations.push(("date_from".to_owned(), "must not be after date_to".to_owned()));
        }
        if !violations.is_empty() {
            return Err(Problem::violations(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &violations));
        }
        Ok(Filter { active, merchant: self.merchant_id, from: self.date_from, to: self.date_to })
    }
}

/// Which part of today's offers.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActiveQuery {
    /// Rows to skip.
    #[param(minimum = 0, required = false)]
    pub(super) offset: i64,
    /// Most rows to give; 1 to the operator's maximum.
    #[param(minimum = 1, required = false)]
    pub(super) limit: i64,
}

impl Input for ActiveQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let Page { offset, limit } = fields.catalogue_page()?;
        Some(Self { offset, limit })
    }
}

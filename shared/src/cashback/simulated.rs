//! The simulated verifier (profiles demo and contract): it confirms everything at the first attempt, except the
//! purchases at one merchant, for which it never finds a bank movement (contract §9).

use std::collections::HashMap;

use uuid::Uuid;

use crate::config::{self, ConfigError};
use crate::db::{Conn, StoreError};
use crate::ids::{JobId, MerchantId};
use crate::jobs::{ErrorClass, Outcome};

/// What an attempt that found nothing says in `job_attempts`.
const NOTHING_FOUND: &str = "no matching bank movement found";

/// What the simulated verifier refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulation {
    /// The merchant whose purchases are never found; none: all are.
    pub rejects: Option<MerchantId>,
    /// After so many attempts such a purchase is rejected; at least one.
    pub attempts: u32,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { rejects: None, attempts: 3 }
    }
}

impl Simulation {
    /// Reads `REJECTION_MERCHANT_ID` (default none) and `PURCHASE_MAX_VERIFICATION_ATTEMPTS` (default 3).
    ///
    /// # Errors
    /// [`ConfigError`] when one of them cannot be read.
    pub fn from_env() -> Result<Self, ConfigError> {
        let invalid = |name, expected| ConfigError::Invalid { name, expected };
        let rejects = config::optional("REJECTION_MERCHANT_ID")?
            .map(|text| text.parse().map_err(|_| invalid("REJECTION_MERCHANT_ID", "a UUID")))
            .transpose()?;
        let attempts = config::parsed("PURCHASE_MAX_VERIFICATION_ATTEMPTS", "a whole number from 1", 3)?;
        if attempts == 0 {
            return Err(invalid("PURCHASE_MAX_VERIFICATION_ATTEMPTS", "a whole number from 1"));
        }
        Ok(Self { rejects, attempts })
    }

    /// Whether it never finds the purchases at this merchant.
    #[must_use]
    pub fn never_finds(&self, merchant: MerchantId) -> bool {
        self.rejects == Some(merchant)
    }

    /// What an attempt comes to that found nothing, after `before` others: once more in a second, or why the purchase
    /// is rejected.
    pub(super) fn nothing_found(&self, before: u32) -> Result<Outcome, String> {
        let attempts = before.saturating_add(1);
        if attempts < self.attempts {
            return Ok(Outcome::Retry { class: ErrorClass::NotFound, error: NOTHING_FOUND.to_owned() });
        }
        Err(format!("{NOTHING_FOUND} after {attempts} verification attempt(s)"))
    }
}

/// How many attempts of these jobs found nothing. Other failures (a lost connection) do not count.
///
/// # Errors
/// [`StoreError`] when the database refuses.
pub(super) async fn attempts(conn: &mut Conn, jobs: &[JobId]) -> Result<HashMap<JobId, u32>, StoreError> {
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
    let rows = sqlx::query!(
        r#"SELECT job_id AS "job: JobId", count(*)::int AS "attempts!" FROM job_attempts
           WHERE job_id = ANY ($1) AND outcome = 'retry' AND error = $2
           GROUP BY job_id"#,
        &ids,
        NOTHING_FOUND,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.job, u32::try_from(row.attempts).unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_rejects_with_the_contracts_reason() {
        let simulation = Simulation::default();
        for before in 0..2 {
            assert!(matches!(simulation.nothing_found(before), Ok(Outcome::Retry { class: ErrorClass::NotFound, .. })));
        }
        let reason = "no matching bank movement found after 3 verification attempt(s)";
        assert_eq!(simulation.nothing_found(2), Err(reason.to_owned()));
        let once = Simulation { attempts: 1, ..simulation };
        assert_eq!(
            once.nothing_found(0),
            Err("no matching bank movement found after 1 verification attempt(s)".to_owned())
        );
    }
}

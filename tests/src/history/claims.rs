//! Who claimed and who ended each job, as PostgreSQL saw it: whether anybody settled what they did not hold, and how
//! long a dead process kept its jobs from the others.

use anyhow::Result;
use shared::clock::Timestamp;
use sqlx::PgPool;
use uuid::Uuid;

/// Begins to take notes. As the owner, after the migrations; twice changes nothing.
///
/// # Errors
/// When the database refuses.
pub async fn install(owner: &PgPool) -> Result<()> {
    sqlx::raw_sql(include_str!("claims.sql")).execute(owner).await?;
    Ok(())
}

/// A claim that its process did not end itself: dispatch freed it, or the job died as a poison pill.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Rescue {
    /// Which job.
    pub job: Uuid,
    /// Of which queue.
    pub queue: String,
    /// The worker that had it.
    pub worker: Uuid,
    /// That worker's `application_name`: `clicknback-ROLE/PID`.
    pub process: String,
    /// When it was claimed (as all of these: the database's clock).
    pub claimed_at: Timestamp,
    /// When it was taken from it.
    pub freed_at: Timestamp,
    /// When somebody claimed it next; none: nobody has, because it was not needed any more or not yet.
    pub claimed_again_at: Option<Timestamp>,
}

impl Rescue {
    /// The process id of the worker that had it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.rsplit_once('/')?.1.parse().ok()
    }
}

/// All rescues, in the order of their claims.
///
/// # Errors
/// When the database does not answer.
pub async fn rescues(owner: &PgPool) -> Result<Vec<Rescue>> {
    Ok(sqlx::query_as(
        "SELECT claim.job, claim.queue, claim.worker, claim.process, claim.at AS claimed_at, freed.at AS freed_at,
                (SELECT min(next.at) FROM harness.claims next WHERE next.job = claim.job AND next.fence > claim.fence)
                    AS claimed_again_at
         FROM harness.ends freed
         JOIN harness.claims claim ON claim.job = freed.job AND claim.fence = freed.fence
         WHERE freed.how IN ('freed', 'dead') AND freed.process LIKE 'clicknback-dispatch/%'
         ORDER BY claim.at, claim.job",
    )
    .fetch_all(owner)
    .await?)
}

/// What somebody ended without holding its claim, or claimed while somebody else held it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Usurped {
    pub(super) job: Uuid,
    pub(super) what: String,
}

/// Ends by another process than the one that made the claim. Dispatch may free and bury; anybody may end a job that has
/// become needless, which is `cancelled` in the history.
pub(super) async fn usurped(owner: &PgPool) -> Result<Vec<Usurped>> {
    Ok(sqlx::query_as(
        "SELECT ended.job, format('claim %s was made by %s and %s by %s', ended.fence, coalesce(claim.process, 'nobody'),
                                  ended.how, ended.process) AS what
         FROM harness.ends ended
         LEFT JOIN harness.claims claim ON claim.job = ended.job AND claim.fence = ended.fence
         WHERE claim.process IS DISTINCT FROM ended.process AND ended.how <> 'cancelled'
           AND NOT (ended.how IN ('freed', 'dead') AND ended.process LIKE 'clicknback-dispatch/%')
         UNION ALL
         SELECT ended.job, format('claim %s is ended in the name of %s, who did not make it', ended.fence, ended.worker)
         FROM harness.ends ended
         JOIN harness.claims claim ON claim.job = ended.job AND claim.fence = ended.fence
         WHERE ended.how = 'done' AND ended.worker IS DISTINCT FROM claim.worker
         UNION ALL
         SELECT ended.job, format('claim %s is ended by %s after claim %s was made', ended.fence, ended.process, max(newer.fence))
         FROM harness.ends ended
         JOIN harness.claims newer ON newer.job = ended.job AND newer.fence > ended.fence AND newer.at <= ended.at
         WHERE ended.how <> 'freed'
         GROUP BY ended.job, ended.fence, ended.process
         UNION ALL
         SELECT job, format('claim %s by %s took it out of the hands of %s', fence, process, robbed)
         FROM harness.claims WHERE robbed IS NOT NULL
         UNION ALL
         SELECT job, format('claim %s was made %s times', fence, count(*)) FROM harness.claims
         GROUP BY job, fence HAVING count(*) > 1",
    )
    .fetch_all(owner)
    .await?)
}

/// Jobs that were claimed and are neither live nor in the history.
pub(super) async fn vanished(owner: &PgPool) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT job FROM harness.claims claim
         WHERE NOT EXISTS (SELECT FROM public.jobs WHERE id = claim.job)
           AND NOT EXISTS (SELECT FROM harness.ends WHERE ends.job = claim.job AND ends.how <> 'freed')",
    )
    .fetch_all(owner)
    .await?)
}

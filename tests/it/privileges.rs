//! What the application's roles cannot do, tried with SQL.

use anyhow::Result;
use sqlx::{Connection, PgConnection};
use tests::database;

async fn try_as(url: &str, role: &str, sql: &str) -> Result<Option<String>> {
    let mut conn = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET ROLE {role}"))).execute(&mut conn).await?;
    let code = match sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut conn).await {
        Ok(_) => None,
        Err(error) => error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned()),
    };
    Ok(code)
}

const DENIED: &str = "42501";

#[tokio::test]
async fn the_application_cannot_change_or_delete_evidence_or_transfers() -> Result<()> {
    let url = database::fresh().await?.url;
    for role in ["clicknback_api", "clicknback_worker"] {
        for table in ["transfers", "deliveries", "reports", "audit_log", "payout_answers", "jobs_done"] {
            for sql in [
                format!("UPDATE {table} SET id = id"),
                format!("DELETE FROM {table}"),
                format!("TRUNCATE {table} CASCADE"),
                format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
                format!("DROP TABLE {table}"),
            ] {
                assert_eq!(try_as(&url, role, &sql).await?.as_deref(), Some(DENIED), "{role}: {sql}");
            }
            assert_eq!(
                try_as(&url, role, &format!("SELECT count(*) FROM {table}")).await?,
                None,
                "{role} reads {table}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_deletes_a_transfer_not_even_the_owner() -> Result<()> {
    let url = database::fresh().await?.url;
    for sql in ["DELETE FROM transfers", "UPDATE transfers SET amount = 1", "TRUNCATE transfers"] {
        assert_eq!(try_as(&url, "clicknback_keeper", sql).await?.as_deref(), Some(DENIED), "keeper: {sql}");
        assert_eq!(try_as(&url, "NONE", sql).await?.as_deref(), Some(DENIED), "owner: {sql}");
    }
    Ok(())
}

#[tokio::test]
async fn each_role_sees_and_does_only_what_its_work_needs() -> Result<()> {
    let url = database::fresh().await?.url;
    for (role, sql) in [
        ("clicknback_worker", "SELECT password_hash FROM users"),
        ("clicknback_worker", "SELECT * FROM network_secrets"),
        ("clicknback_worker", "UPDATE refresh_tokens SET revoked_at = NULL"),
        ("clicknback_worker", "INSERT INTO one_time_tokens SELECT * FROM one_time_tokens"),
        ("clicknback_api", "DELETE FROM users"),
        ("clicknback_worker", "UPDATE users SET role = 'admin'"),
        ("clicknback_worker", "UPDATE networks SET may_reduce = true"),
        ("clicknback_api", "UPDATE networks SET may_reduce = true"),
        ("clicknback_api", "DELETE FROM purchases"),
        ("clicknback_api", "DELETE FROM wallets"),
        ("clicknback_api", "UPDATE payout_instructions SET key = ''"),
        ("clicknback_api", "CREATE TABLE t (x int)"),
        ("clicknback_api", "UPDATE auditor SET rows_read = 0"),
        ("clicknback_api", "UPDATE audit_findings SET resolved_at = now()"),
        ("clicknback_api", "SELECT begin_epoch(true, 'no reason', now())"),
        ("clicknback_worker", "DELETE FROM audit_findings"),
        ("clicknback_worker", "DELETE FROM audit_seals"),
        ("clicknback_worker", "UPDATE audit_seals SET count = 0"),
        ("clicknback_worker", "DELETE FROM audit_epochs"),
        ("clicknback_keeper", "SELECT * FROM users"),
        ("clicknback_keeper", "UPDATE purchases SET state = 'confirmed'"),
        ("clicknback_keeper", "DELETE FROM purchases"),
    ] {
        assert_eq!(try_as(&url, role, sql).await?.as_deref(), Some(DENIED), "{role}: {sql}");
    }
    for (role, sql) in [
        ("clicknback_worker", "SELECT email, active, deleted_at, muted_events FROM users"),
        ("clicknback_worker", "DELETE FROM refresh_tokens WHERE digest IN (SELECT digest FROM refresh_tokens)"),
        ("clicknback_worker", "DELETE FROM one_time_tokens; DELETE FROM account_notices"),
        ("clicknback_worker", "SELECT t.email, u.email FROM one_time_tokens t JOIN users u ON u.id = t.user_id"),
        ("clicknback_api", "DELETE FROM refresh_tokens; DELETE FROM one_time_tokens; DELETE FROM account_notices"),
        ("clicknback_api", "DELETE FROM bank_accounts"),
        ("clicknback_worker", "SELECT ensure_partitions(3)"),
        ("clicknback_keeper", "DELETE FROM deliveries"),
    ] {
        assert_eq!(try_as(&url, role, sql).await?, None, "{role}: {sql}");
    }
    Ok(())
}

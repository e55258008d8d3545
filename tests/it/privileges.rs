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
        ("clicknback_keeper", "DELETE FROM deliveries"),
        ("clicknback_keeper", "DELETE FROM audit_log"),
        ("clicknback_keeper", "DROP TABLE deliveries_default"),
        ("clicknback_keeper", "UPDATE retention SET months = 24"),
        ("clicknback_keeper", "SELECT drop_expired('deliveries_default', gen_random_uuid())"),
        ("clicknback_keeper", "SELECT drop_expired('transfers', gen_random_uuid())"),
        ("clicknback_worker", "SELECT drop_expired('deliveries_200001', gen_random_uuid())"),
        ("clicknback_worker", "SELECT forget_expired(1)"),
        ("clicknback_worker", "UPDATE retention SET months = 24"),
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
        ("clicknback_keeper", "SELECT * FROM retention_due()"),
        ("clicknback_keeper", "SELECT forget_expired(100)"),
    ] {
        assert_eq!(try_as(&url, role, sql).await?, None, "{role}: {sql}");
    }
    Ok(())
}

const ROLES: [&str; 3] = ["clicknback_api", "clicknback_worker", "clicknback_keeper"];

/// What api, worker and keeper may do: S select, I insert, U update, D delete, T truncate, R references, G trigger; a small
/// letter: some columns only. A new table needs a row.
const MAY: &[(&str, [&str; 3])] = &[
    ("account_notices", ["SID", "SD", "-"]),
    ("audit_epochs", ["S", "Su", "-"]),
    ("audit_findings", ["S", "SIU", "-"]),
    ("audit_log", ["SI", "SI", "-"]),
    ("audit_seals", ["S", "SI", "-"]),
    ("auditor", ["S", "SU", "-"]),
    ("bank_accounts", ["SIUD", "S", "-"]),
    ("bank_cursors", ["S", "SIU", "-"]),
    ("bank_movements", ["S", "SIu", "-"]),
    ("cashback_caps", ["SIU", "SIU", "-"]),
    ("clicks", ["SIU", "S", "-"]),
    ("cron", ["S", "SU", "-"]),
    ("deliveries", ["SI", "SI", "-"]),
    ("delivery_keys", ["SIU", "SIU", "-"]),
    ("delivery_results", ["SIU", "SIU", "-"]),
    ("exchange_rates", ["S", "S", "-"]),
    ("feature_flags", ["SIUD", "S", "-"]),
    ("idempotency_keys", ["SI", "SD", "-"]),
    ("job_attempts", ["SI", "SI", "-"]),
    ("jobs", ["SIUD", "SIUD", "-"]),
    ("jobs_dead", ["SIUD", "SIUD", "-"]),
    ("jobs_done", ["SI", "SI", "-"]),
    ("merchants", ["SIU", "S", "-"]),
    ("network_merchants", ["S", "S", "-"]),
    ("network_secrets", ["S", "-", "-"]),
    ("networks", ["S", "S", "-"]),
    ("notifications", ["S", "SI", "-"]),
    ("offers", ["SIU", "S", "-"]),
    ("one_time_tokens", ["SIUD", "SD", "-"]),
    ("orders", ["SIU", "SIU", "-"]),
    ("payout_answers", ["SI", "SI", "-"]),
    ("payout_instructions", ["S", "SIU", "-"]),
    ("payout_stops", ["SIU", "SIU", "-"]),
    ("payouts", ["SIU", "SIU", "-"]),
    ("purchases", ["SIU", "SIU", "-"]),
    ("queues", ["SU", "SU", "-"]),
    ("redis_tick", ["S", "SU", "-"]),
    ("refresh_tokens", ["SIUD", "SD", "-"]),
    ("reports", ["SI", "SI", "-"]),
    ("rescue_clock", ["S", "SU", "-"]),
    ("retention", ["S", "S", "S"]),
    ("sealed_rows", ["S", "S", "-"]),
    ("transfers", ["SI", "SI", "-"]),
    ("users", ["SIU", "s", "-"]),
    ("waiting_reports", ["SIUD", "SIUD", "-"]),
    ("wallets", ["SIU", "SIU", "-"]),
    ("workers", ["S", "SIUD", "-"]),
];

/// The columns behind small letters.
const COLUMNS: &[(&str, &str, &str, &str)] = &[
    ("audit_epochs", "clicknback_worker", "UPDATE", "audited_at"),
    ("bank_movements", "clicknback_worker", "UPDATE", "outcome payout_id"),
    (
        "users",
        "clicknback_worker",
        "SELECT",
        "active created_at deleted_at email email_verified_at id muted_events role wants_email",
    ),
];

/// Functions of ours, and who may call them.
const FUNCTIONS: &[(&str, &str)] = &[
    ("begin_epoch", "clicknback_worker"),
    ("cluster_identifier", "clicknback_api clicknback_worker"),
    ("drop_expired", "clicknback_keeper"),
    ("ensure_partitions", "clicknback_keeper clicknback_worker"),
    ("forget_expired", "clicknback_keeper"),
    ("refuse_change", "clicknback_api clicknback_keeper clicknback_worker"),
    ("retention_due", "clicknback_api clicknback_keeper clicknback_worker"),
    ("uuid_at", "clicknback_api clicknback_keeper clicknback_worker"),
];

#[tokio::test]
async fn every_table_says_what_each_role_may() -> Result<()> {
    let pool = database::fresh().await?.pool;
    let found: Vec<(String, String, String, bool)> = sqlx::query_as(
        "SELECT coalesce(parent.relname, c.relname)::text, r.role,
                coalesce((SELECT string_agg(CASE WHEN has_table_privilege(r.role, c.oid, p.name) THEN p.letter
                                                 ELSE lower(p.letter) END, '' ORDER BY p.place)
                 FROM (VALUES (1, 'SELECT', 'S'), (2, 'INSERT', 'I'), (3, 'UPDATE', 'U'), (4, 'DELETE', 'D'),
                              (5, 'TRUNCATE', 'T'), (6, 'REFERENCES', 'R'), (7, 'TRIGGER', 'G')) AS p (place, name, letter)
                 WHERE has_table_privilege(r.role, c.oid, p.name)
                    OR (p.place IN (1, 2, 3, 6) AND has_any_column_privilege(r.role, c.oid, p.name))), '-'),
                c.relispartition
         FROM pg_class c
         LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
         LEFT JOIN pg_class parent ON parent.oid = i.inhparent
         CROSS JOIN unnest($1::text[]) AS r (role)
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace = 'public'::regnamespace
           AND c.relname <> '_sqlx_migrations'",
    )
    .bind(ROLES.map(str::to_owned).to_vec())
    .fetch_all(&pool)
    .await?;
    assert!(found.len() >= MAY.len() * ROLES.len());
    for (table, role, privileges, is_partition) in &found {
        let row = MAY.iter().find(|(name, _)| name == table);
        let row = row.unwrap_or_else(|| panic!("{table} has no row here: {role} may {privileges}"));
        let allowed = row.1[ROLES.iter().position(|name| name == role).unwrap()];
        // A partition is reached through its table; whoever may name it directly may not do more there.
        if *is_partition {
            assert!(privileges.chars().all(|one| one == '-' || allowed.contains(one)), "{table}, a partition: {role}");
        } else {
            assert_eq!(privileges, allowed, "{table}: {role}");
        }
    }
    for (name, _) in MAY {
        assert!(found.iter().any(|(table, ..)| table == name), "there is no table {name}");
    }
    Ok(())
}

#[tokio::test]
async fn some_columns_are_all_that_some_roles_reach() -> Result<()> {
    let pool = database::fresh().await?.pool;
    let found: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT c.relname::text, r.role, p.name, string_agg(a.attname::text, ' ' ORDER BY a.attname)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         CROSS JOIN unnest($1::text[]) AS r (role)
         CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('REFERENCES')) AS p (name)
         WHERE c.relkind IN ('r', 'p', 'v') AND c.relnamespace = 'public'::regnamespace
           AND NOT has_table_privilege(r.role, c.oid, p.name) AND has_column_privilege(r.role, c.oid, a.attnum, p.name)
         GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )
    .bind(ROLES.map(str::to_owned).to_vec())
    .fetch_all(&pool)
    .await?;
    let found: Vec<_> = found.iter().map(|(t, r, p, c)| (t.as_str(), r.as_str(), p.as_str(), c.as_str())).collect();
    assert_eq!(found, COLUMNS);
    Ok(())
}

#[tokio::test]
async fn functions_and_the_roles_themselves_give_nothing_away() -> Result<()> {
    let pool = database::fresh().await?.pool;
    let found: Vec<(String, String)> = sqlx::query_as(
        "SELECT f.proname::text, string_agg(r.role, ' ' ORDER BY r.role)
         FROM pg_proc f CROSS JOIN unnest($1::text[]) AS r (role)
         WHERE f.pronamespace = 'public'::regnamespace AND has_function_privilege(r.role, f.oid, 'EXECUTE')
         GROUP BY 1 ORDER BY 1",
    )
    .bind(ROLES.map(str::to_owned).to_vec())
    .fetch_all(&pool)
    .await?;
    let found: Vec<_> = found.iter().map(|(name, roles)| (name.as_str(), roles.as_str())).collect();
    assert_eq!(found, FUNCTIONS);
    for role in ROLES {
        let nothing: bool = sqlx::query_scalar(
            "SELECT NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
                    AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
                    AND NOT has_schema_privilege(rolname, 'public', 'CREATE')
                    AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid)
             FROM pg_roles r WHERE rolname = $1",
        )
        .bind(role)
        .fetch_one(&pool)
        .await?;
        assert!(nothing, "{role} is more than its grants");
    }
    Ok(())
}

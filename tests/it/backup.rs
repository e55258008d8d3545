//! `clicknback backup` and `clicknback restore`: the files and what a copy is checked against. What the bank did since
//! is the drill's (`payouts::restored`).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::auth::seal::DataKeys;
use shared::clock::Timestamp;
use shared::ids::UserId;
use sqlx::PgPool;
use tests::database::{self, TestDatabase};
use time::macros::datetime;
use uuid::Uuid;
use worker::cli::backup::{Arguments, Programs, Restored, backup, restore};
use worker::cli::migrate::Settings;

const NOW: Timestamp = datetime!(2026-03-01 12:00 UTC);

/// A directory that is gone afterwards.
struct Copies(PathBuf);

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn copies() -> Copies {
    Copies(std::env::temp_dir().join(format!("copies-{}", Uuid::now_v7())))
}

fn programs() -> Result<Programs> {
    let found = tests::servers::Programs::load(&tests::servers::data_directory()?)?;
    Ok(Programs { directory: Some(found.postgres_bin) })
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A shopper with a sealed account.
async fn shopper(db: &TestDatabase, keys: &DataKeys) -> Result<UserId> {
    let user = UserId::new();
    sqlx::query("INSERT INTO users (id, email, created_at) VALUES ($1, $2, $3)")
        .bind(user.0)
        .bind(format!("{user}@example.org"))
        .bind(NOW)
        .execute(&db.pool)
        .await?;
    let mut conn = db.pool.acquire().await?;
    shared::users::set_bank_account(&mut conn, NOW, keys, user, "DE89370400440532013000", "Ada Lovelace").await?;
    Ok(user)
}

async fn empty(db: &TestDatabase) -> Result<Settings> {
    let name = format!("restored_{}", Uuid::now_v7().simple());
    let make = format!("CREATE DATABASE {name} TEMPLATE template0");
    sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&db.pool).await?;
    let (server, _) = db.url.rsplit_once('/').unwrap();
    Ok(Settings { database_url: format!("{server}/{name}"), passwords: Vec::new() })
}

async fn restored(db: &TestDatabase, file: &Path, keys: Option<&DataKeys>) -> Result<Restored> {
    restore(&empty(db).await?, &programs()?, file, keys, NOW).await
}

#[tokio::test]
async fn a_copy_is_whole_private_and_complete_only_with_its_manifest() -> Result<()> {
    let (db, keys) = (database::fresh().await?, DataKeys::parse(&DataKeys::generate_line())?);
    shopper(&db, &keys).await?;
    let copies = copies();
    let wanted = Arguments { to: copies.0.clone(), keep: 2 };
    let (file, manifest) = backup(&db.url, &programs()?, &wanted, NOW).await?;
    assert_eq!(names(&copies.0), ["clicknback-20260301T120000.000Z.dump", "clicknback-20260301T120000.000Z.json"]);
    for name in names(&copies.0) {
        let mode = std::fs::metadata(copies.0.join(name))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&copies.0)?.permissions().mode() & 0o777, 0o700);
    assert_eq!((manifest.count("users"), manifest.data_keys.len()), (1, 1));

    // Opened by its keys, not by others; other books are told apart.
    let whole = restored(&db, &file, Some(&keys)).await?;
    assert!(whole.is_well() && whole.sealed == Some(vec![]), "{whole:?}");
    let others = DataKeys::parse(&DataKeys::generate_line())?;
    let closed = restored(&db, &file, Some(&others)).await?;
    assert!(!closed.is_well() && closed.sealed == Some(manifest.data_keys.clone()), "{closed:?}");

    let json = file.with_extension("json");
    let text = std::fs::read_to_string(&json)?;
    std::fs::write(&json, text.replacen("\"rows\": 1", "\"rows\": 2", 1))?;
    let other = restored(&db, &file, None).await?;
    assert!(!other.is_well() && other.differences.len() == 1, "{other:?}");
    std::fs::write(&json, &text)?;
    let mut bytes = std::fs::read(&file)?;
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes)?;
    let damaged = restored(&db, &file, None).await.unwrap_err();
    assert!(damaged.to_string().contains("is damaged"), "{damaged:#}");
    std::fs::remove_file(&json)?;
    let alone = restored(&db, &file, None).await.unwrap_err();
    assert!(alone.to_string().contains("not complete"), "{alone:#}");
    Ok(())
}

#[tokio::test]
async fn a_failed_copy_leaves_nothing_and_removes_nothing() -> Result<()> {
    let db = database::fresh().await?;
    let copies = copies();
    let wanted = Arguments { to: copies.0.clone(), keep: 1 };
    backup(&db.url, &programs()?, &wanted, NOW).await?;
    let before = names(&copies.0);
    let nowhere = Programs { directory: Some("/nowhere".into()) };
    let later = NOW + time::Duration::hours(1);
    let missing = backup(&db.url, &nowhere, &wanted, later).await.unwrap_err();
    assert!(format!("{missing:#}").contains("pg_dump cannot be started"), "{missing:#}");
    // It may read the manifest, but the dump not.
    sqlx::raw_sql("CREATE SCHEMA other; CREATE TABLE other.t (); ALTER TABLE other.t ENABLE ROW LEVEL SECURITY")
        .execute(&db.pool)
        .await?;
    let role = format!("reader_{}", Uuid::now_v7().simple());
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA public TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         GRANT EXECUTE ON FUNCTION cluster_identifier() TO {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&db.pool).await?;
    let mut url = url::Url::parse(&db.url)?;
    url.set_username(&role).unwrap();
    url.set_password(Some("secret")).unwrap();
    let refused = backup(url.as_str(), &programs()?, &wanted, later).await.unwrap_err();
    assert!(format!("{refused:#}").contains("pg_dump failed"), "{refused:#}");
    assert!(!format!("{refused:#}").contains("secret"), "{refused:#}");
    assert_eq!(names(&copies.0), before);
    // A later one takes its place.
    backup(&db.url, &programs()?, &wanted, later).await?;
    assert_eq!(names(&copies.0), ["clicknback-20260301T130000.000Z.dump", "clicknback-20260301T130000.000Z.json"]);
    drop_role(&db.pool, &role).await
}

async fn drop_role(pool: &PgPool, role: &str) -> Result<()> {
    let gone = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(gone)).execute(pool).await?;
    Ok(())
}

#[tokio::test]
async fn a_copy_is_never_poured_over_a_database_in_use() -> Result<()> {
    let db = database::fresh().await?;
    let copies = copies();
    let wanted = Arguments { to: copies.0.clone(), keep: 1 };
    let (file, _) = backup(&db.url, &programs()?, &wanted, NOW).await?;
    let used = Settings { database_url: db.url.clone(), passwords: Vec::new() };
    let refused = restore(&used, &programs()?, &file, None, NOW).await.unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused:#}");
    Ok(())
}

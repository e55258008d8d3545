//! `clicknback admin`: administrators.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use shared::audit::{self, Actor, Record};
use shared::clock::Timestamp;
use shared::db::commit;
use shared::users::{self, Email, Role};
use sqlx::PgPool;
use zeroize::Zeroizing;

use super::Answer;

/// What can be done with administrators.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create one. The password comes from --password-file, else from PASSWORD, else from standard input.
    Create {
        /// The address to sign in with.
        #[arg(long)]
        email: String,
        /// A file that holds the password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
}

/// Runs it.
///
/// # Errors
/// When the password cannot be read or the database does not answer.
pub async fn run(pool: &PgPool, now: Timestamp, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Create { email, password_file } => create(pool, now, &email, read_password(password_file)?).await,
    }
}

/// Creates an administrator.
///
/// # Errors
/// When the database does not answer.
pub async fn create(pool: &PgPool, now: Timestamp, email: &str, password: Zeroizing<String>) -> anyhow::Result<Answer> {
    let refused =
        |why: String| Ok(Answer::no(format!("Not created: {why}."), json!({ "created": false, "reason": why })));
    let email: Email = match email.parse() {
        Ok(email) => email,
        Err(error) => return refused(error.to_string()),
    };
    if let Err(weak) = users::check_password(&password) {
        return refused(weak.to_string());
    }
    let hash = users::hash_password(password).await?;
    let mut tx = pool.begin().await?;
    let Some(id) = users::store::create(&mut tx, now, &email, Some(&hash), Role::Admin).await? else {
        return refused("there is an account with this address".to_owned());
    };
    let record = Record {
        actor: Actor::Admin(None),
        action: "ADMIN_CREATED",
        resource_type: "user",
        resource_id: id.to_string(),
        details: json!({}),
    };
    audit::record(&mut tx, now, &[record]).await?;
    commit(tx, "cli.create_admin").await?;
    Ok(Answer::good(format!("Administrator {id} created."), json!({ "created": true, "id": id })))
}

fn read_password(file: Option<PathBuf>) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if let Some(path) = file {
        *text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    } else if let Ok(password) = std::env::var("PASSWORD") {
        *text = password;
    } else {
        std::io::stdin().take(4096).read_to_string(&mut text).context("reading the password from standard input")?;
    }
    // The line's end belongs to the file, not to the password.
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

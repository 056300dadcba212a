//! The schema: made and brought forward, never back.

use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::connect::{Hosts, NoConnection};
use crate::error::told;
use crate::sql::{for_schema, quoted};
use crate::{OpenError, PostgresConfig};

/// All migrations in order; the first is number 1. The functions are made anew by the last.
const MIGRATIONS: &[&str] = &[concat!(
    include_str!("../sql/migrations/0001.sql"),
    include_str!("../sql/functions/values.sql"),
    include_str!("../sql/functions/json.sql"),
    include_str!("../sql/functions/places.sql"),
    include_str!("../sql/functions/settle.sql"),
    include_str!("../sql/functions/once.sql"),
    include_str!("../sql/functions/add.sql"),
    include_str!("../sql/functions/public.sql"),
)];

/// The schema this program works with.
pub const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The schema's version before; 0 if there was none.
    pub from: i32,
    /// And now.
    pub to: i32,
}

/// What a migration is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrating {
    /// Another program migrates this schema.
    Waits,
    /// It applies the step to this version.
    Applies(i32),
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> OpenError {
        let told = told(&error);
        let Some(state) = error.code() else { return unanswered(&error, told) };
        match state {
            &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                OpenError::Credentials(told)
            }
            &SqlState::INVALID_CATALOG_NAME => OpenError::NoDatabase(told),
            &SqlState::INSUFFICIENT_PRIVILEGE => OpenError::Privileges(told),
            &SqlState::READ_ONLY_SQL_TRANSACTION => OpenError::ReadOnly(told),
            _ => match state.code().get(..2) {
                Some("08" | "53" | "57") => OpenError::Unreachable(told),
                _ => OpenError::Failed(told),
            },
        }
    }
}

/// What it means that the server did not say what is wrong.
fn unanswered(error: &tokio_postgres::Error, told: String) -> OpenError {
    #[cfg(feature = "tls")]
    if crate::tls::is_about_tls(error) {
        return OpenError::Tls(told);
    }
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>()) {
        // Not of the system: none of the hosts is what `target_session_attrs` asks for.
        Some(io) if io.kind() == std::io::ErrorKind::PermissionDenied && io.raw_os_error().is_none() => {
            OpenError::ReadOnly(told)
        }
        Some(_) => OpenError::Unreachable(told),
        None if error.is_closed() => OpenError::Unreachable(told),
        None => OpenError::Failed(told),
    }
}

impl From<NoConnection> for OpenError {
    fn from(failed: NoConnection) -> OpenError {
        match failed {
            NoConnection::Refused(error) => error.into(),
            NoConnection::Silence => OpenError::Unreachable(failed.to_string()),
        }
    }
}

pub(crate) async fn client(config: &PostgresConfig, runtime: &Handle) -> Result<Client, OpenError> {
    let hosts = Hosts::of(&config.server, &config.tls, config.connect_within);
    let client = hosts.connect(runtime, |_| {}).await?.client;
    let row = client
        .query_typed("SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('server_encoding')", &[])
        .await?;
    let Some(row) = row.first() else { return Err(OpenError::Failed("the server says nothing".into())) };
    let version: i32 = row.try_get(0)?;
    if version < 140_000 {
        return Err(OpenError::TooOld { major: version / 10_000 });
    }
    if row.try_get(1)? {
        return Err(OpenError::ReadOnly("the server is a standby".into()));
    }
    let encoding: String = row.try_get(2)?;
    if encoding != "UTF8" {
        return Err(OpenError::Encoding(encoding));
    }
    Ok(client)
}

/// The version of the schema, if there is one.
pub(crate) async fn version(client: &Client, schema: &str) -> Result<Option<i32>, OpenError> {
    // In one statement: another program may be making the schema just now, and one that looks twice sees half of it.
    let found = client
        .query_typed(
            "SELECT c.relname = 'schema_versions' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 ORDER BY 1 DESC LIMIT 1",
            &[(&schema, tokio_postgres::types::Type::TEXT)],
        )
        .await?;
    match found.first().map(|row| row.try_get(0)).transpose()? {
        Some(true) => {}
        Some(false) => return Err(OpenError::Foreign { schema: schema.to_owned() }),
        None => return Ok(None),
    }
    let text = format!("SELECT coalesce(max(version), 0) FROM {}.schema_versions", quoted(schema));
    let rows = client.query_typed(&text, &[]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
}

/// Makes the schema, or brings it to [`SCHEMA_VERSION`]. Each step is one transaction, under a lock that lets one
/// program at a time do it: a schema is never half-way between two versions.
///
/// # Errors
/// [`OpenError`], with what to do about it: a newer schema is refused.
pub async fn migrate(config: &PostgresConfig) -> Result<Migrated, OpenError> {
    migrate_told(config, |_| {}).await
}

/// The same, telling what it does before it does it.
///
/// # Errors
/// As for [`migrate`].
pub async fn migrate_told(
    config: &PostgresConfig,
    mut tell: impl FnMut(Migrating),
) -> Result<Migrated, OpenError> {
    let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
    let mut client = client(config, &runtime).await?;
    let from = version(&client, &config.schema).await?.unwrap_or(0);
    let mut now = from;
    while now < SCHEMA_VERSION {
        now = step(&mut client, &config.schema, &mut tell).await?;
    }
    if now > SCHEMA_VERSION {
        return Err(OpenError::Newer { found: now, known: SCHEMA_VERSION });
    }
    Ok(Migrated { from, to: now })
}

/// Does the next step, unless somebody else did. Gives the version after it.
async fn step(client: &mut Client, schema: &str, tell: &mut impl FnMut(Migrating)) -> Result<i32, OpenError> {
    const LOCK: &str = "hashtext('onefold'), hashtext($1)";
    let text = tokio_postgres::types::Type::TEXT;
    let tx = client.build_transaction().read_only(false).start().await?;
    let free = format!("SELECT pg_try_advisory_xact_lock({LOCK})");
    let free = tx.query_typed(&free, &[(&schema, text.clone())]).await?;
    if !free.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false) {
        tell(Migrating::Waits);
        let wait = format!("SELECT pg_advisory_xact_lock({LOCK})");
        tx.query_typed(&wait, &[(&schema, text.clone())]).await?;
    }
    let there = tx.query_typed("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[(&schema, text)]).await?;
    let name = quoted(schema);
    if there.is_empty() {
        tx.batch_execute(&format!("CREATE SCHEMA {name}")).await?;
    }
    tx.batch_execute(&format!(
        "CREATE TABLE IF NOT EXISTS {name}.schema_versions \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    ))
    .await?;
    let rows =
        tx.query_typed(&format!("SELECT coalesce(max(version), 0) FROM {name}.schema_versions"), &[]).await?;
    let now: i32 = rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
    let Some(migration) = usize::try_from(now).ok().and_then(|place| MIGRATIONS.get(place)) else {
        return Ok(now);
    };
    tell(Migrating::Applies(now + 1));
    tx.batch_execute(&for_schema(migration, schema)).await.map_err(|error| match error.code() {
        Some(&SqlState::DUPLICATE_TABLE | &SqlState::DUPLICATE_OBJECT | &SqlState::DUPLICATE_FUNCTION) => {
            OpenError::Torn { schema: schema.to_owned(), why: told(&error) }
        }
        _ => error.into(),
    })?;
    tx.batch_execute(&format!("INSERT INTO {name}.schema_versions (version) VALUES ({})", now + 1)).await?;
    tx.commit().await?;
    Ok(now + 1)
}

/// Deletes the store with everything in it. Who serves it fails from then on.
///
/// # Errors
/// [`OpenError`], with what to do about it.
pub async fn drop_schema(config: &PostgresConfig) -> Result<(), OpenError> {
    let runtime = Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
    let client = client(config, &runtime).await?;
    // Whoever has just been killed may hold locks for another moment, but not for long.
    let drop = format!(
        "SET lock_timeout = '10s'; SET client_min_messages = warning; DROP SCHEMA IF EXISTS {} CASCADE",
        quoted(&config.schema)
    );
    client.batch_execute(&drop).await?;
    Ok(())
}

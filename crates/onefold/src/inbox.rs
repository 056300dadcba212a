//! Local effects in databases that are not the store's: an inbox of the steps that were done, beside the rows they wrote.
//!
//! Make the table once ([`Inbox::create`]). In the transaction that writes a step's rows, claim the step first, with the job's
//! id and its fencing token: [`Inbox::claim`] is one statement that writes the inbox's row, compares tokens and tells what to
//! do ([`Claim`]). Rows and inbox are committed together, so over all attempts the rows are written once; of two workers
//! at the same step the second waits for the first. Complete the job afterwards: whoever dies in between leaves a job that
//! runs again and is told [`Claim::Done`].
//!
//! Statements for other languages are the same ones: they stand in `crates/onefold/sql/inbox`. Rows may be deleted once no
//! attempt can come any more, which is after the job's `retry_until` unless somebody redrives it later.

#[cfg(any(feature = "engine-postgres", feature = "engine-sqlite"))]
use onefold_core::{FencingToken, JobId};
#[cfg(feature = "engine-postgres")]
use onefold_engine_postgres::user_tx::{GenericClient, UserTxError};

/// The statements of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Makes the table `onefold_inbox`, if there is none.
    pub create: &'static str,
    /// Claims a step. Parameters, in order: job, step, token, result.
    pub claim: &'static str,
}

/// PostgreSQL. `claim` returns no row for [`Claim::Stale`], else `replays` and `result`: see [`Claim::of`].
pub const POSTGRES: Inbox = Inbox {
    create: include_str!("../sql/inbox/postgres_create.sql"),
    claim: include_str!("../sql/inbox/postgres_claim.sql"),
};

/// SQLite, 3.35 and newer. As [`POSTGRES`].
pub const SQLITE: Inbox = Inbox {
    create: include_str!("../sql/inbox/sqlite_create.sql"),
    claim: include_str!("../sql/inbox/sqlite_claim.sql"),
};

/// MySQL and MariaDB. They return no rows from an insert; the count of affected rows tells: 1 new, 2 done, 0 stale. It does so
/// only without the client flag `CLIENT_FOUND_ROWS`. The result of a step that was done is to be selected.
pub const MYSQL: Inbox = Inbox {
    create: include_str!("../sql/inbox/mysql_create.sql"),
    claim: include_str!("../sql/inbox/mysql_claim.sql"),
};

/// Redis: a script, to which the commands of the step are added where it says so. A script is a transaction of Redis.
pub const REDIS: &str = include_str!("../sql/inbox/redis.lua");

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has done it: write the rows, in this transaction.
    New,
    /// It was done, and this was recorded with it.
    Done(Option<String>),
    /// A newer attempt of the job has been here: stop, and roll back.
    Stale,
}

impl Claim {
    /// Of the row that `claim` returned: `replays` and `result`.
    pub fn of(row: Option<(i64, Option<String>)>) -> Claim {
        match row {
            None => Claim::Stale,
            Some((0, _)) => Claim::New,
            Some((_, result)) => Claim::Done(result),
        }
    }
}

/// Claims a step in a transaction of the user's own, in any SQLite database.
///
/// # Errors
/// The database's.
#[cfg(feature = "engine-sqlite")]
pub fn claim_in_sqlite(
    tx: &crate::rusqlite::Connection,
    job: JobId,
    token: FencingToken,
    step: &str,
    result: Option<&str>,
) -> crate::rusqlite::Result<Claim> {
    let mut statement = tx.prepare_cached(SQLITE.claim)?;
    let mut rows = statement.query((job.to_string(), step, token.get().cast_signed(), result))?;
    let row = rows.next()?.map(|row| Ok::<_, crate::rusqlite::Error>((row.get(0)?, row.get(1)?)));
    row.transpose().map(Claim::of)
}

/// Claims a step in a transaction of the user's own, in any PostgreSQL database.
///
/// # Errors
/// The database's.
#[cfg(feature = "engine-postgres")]
pub async fn claim_in_postgres<C: GenericClient + Sync>(
    tx: &C,
    job: JobId,
    token: FencingToken,
    step: &str,
    result: Option<&str>,
) -> Result<Claim, crate::InTxError> {
    let (job, token) = (job.to_string(), token.get().cast_signed());
    let row =
        tx.query_opt(POSTGRES.claim, &[&job, &step, &token, &result]).await.map_err(UserTxError::from)?;
    let Some(row) = row else { return Ok(Claim::Stale) };
    let replays = row.try_get(0).map_err(UserTxError::from)?;
    Ok(Claim::of(Some((replays, row.try_get(1).map_err(UserTxError::from)?))))
}

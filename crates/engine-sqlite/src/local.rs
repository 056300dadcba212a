//! Local effects: rows of the user's own tables, written in the engine's transaction together with the completion of the
//! job whose step they are (I7).
//!
//! The user's statements run in a savepoint. What they may not do is refused when a statement is prepared: the tables of
//! the store, transactions of their own, pragmas, other databases.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use onefold_core::{DurationMs, EffectRefusal, FencingToken, JobId, Key, State};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Params, Row};

use crate::error::StoreResult;

/// Whoever takes longer than this holds up everybody else, and is warned about.
pub(crate) const BUDGET: DurationMs = DurationMs::from_ms(50);
/// What the names of the store's tables and indexes begin with.
const OURS: &str = "onefold_";

/// A step of a job, as the holder of its lease names it.
#[derive(Debug, Clone)]
pub struct LocalStep {
    /// The job.
    pub job: JobId,
    /// Its lease.
    pub token: FencingToken,
    /// The step.
    pub step: Key,
}

/// What writes the rows, and what the job returns: a JSON text. Run again if the transaction has to begin anew; only what
/// the last run wrote is there.
pub type LocalWork = Box<dyn FnMut(&LocalTx<'_>) -> Result<Option<Bytes>, LocalError> + Send>;

/// Why the rows were not written.
pub type LocalError = Box<dyn Error + Send + Sync>;

/// What became of it.
#[derive(Debug)]
pub enum LocalDone {
    /// Rows, record and completion are durable.
    Committed {
        /// The job's state.
        state: State,
        /// What the job returned.
        result: Option<Bytes>,
    },
    /// The step was done before; this was recorded with it. Nothing was written.
    Done {
        /// The result.
        result: Option<Bytes>,
    },
    /// Nothing was written.
    Refused(EffectRefusal),
    /// The work failed: its rows were rolled back, alone.
    Failed(LocalError),
    /// The work panicked: its rows were rolled back, alone.
    Panicked(String),
}

/// The transaction, as the work sees it.
pub struct LocalTx<'c> {
    pub(crate) conn: &'c Connection,
}

impl LocalTx<'_> {
    /// Runs one statement. Gives the number of rows it changed.
    ///
    /// # Errors
    /// What SQLite says; "not authorized" for what is not allowed here.
    pub fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(sql)?.execute(params)
    }

    /// Runs one statement and reads its first row, which must be there.
    ///
    /// # Errors
    /// As [`LocalTx::execute`].
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.conn.prepare_cached(sql)?.query_row(params, read)
    }

    /// Runs one statement and reads all its rows.
    ///
    /// # Errors
    /// As [`LocalTx::execute`].
    pub fn query<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.conn.prepare_cached(sql)?.query_map(params, read)?.collect()
    }
}

/// Has the writer's connection refuse, while `users` is set, what the user's statements may not do.
pub(crate) fn guard(conn: &mut Connection, users: Arc<AtomicBool>) -> StoreResult<()> {
    let hook = move |context: AuthContext<'_>| {
        if !users.load(Ordering::Relaxed) || is_allowed(&context.action) {
            Authorization::Allow
        } else {
            Authorization::Deny
        }
    };
    conn.authorizer(Some(hook))?;
    Ok(())
}

fn is_allowed(action: &AuthAction<'_>) -> bool {
    let theirs = |name: &str| !name.get(..OURS.len()).is_some_and(|head| head.eq_ignore_ascii_case(OURS));
    match action {
        AuthAction::Select
        | AuthAction::Recursive
        | AuthAction::Function { .. }
        | AuthAction::Reindex { .. } => true,
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropTempTable { table_name }
        | AuthAction::AlterTable { table_name, .. } => theirs(table_name),
        AuthAction::CreateIndex { table_name, index_name }
        | AuthAction::DropIndex { table_name, index_name } => theirs(table_name) && theirs(index_name),
        // Transactions, savepoints, pragmas, other databases, triggers on anything, and whatever is new.
        _ => false,
    }
}

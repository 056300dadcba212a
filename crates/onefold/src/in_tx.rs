//! What only a store in PostgreSQL can do: jobs in transactions of the user's own, in the store's database.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use onefold_core::{Added, FencingToken, JobError, JobId, State};
use onefold_engine_postgres::user_tx::{self, GenericClient, Step, UserTxError};
use onefold_engine_postgres::{Options, PostgresEngine};
use onefold_runtime::SystemEntropy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::time::to_ms;
use crate::{Add, Invalid, Onefold, PostgresConfig, PostgresOpenError};

/// A store in PostgreSQL that shares transactions with the user's rows. Everything a handle on a store can do, and on top of
/// it the functions with `_in`, which take an open transaction (or a connection in one) in the same database.
///
/// What they refuse fails that transaction, as any SQL error does: roll it back. Durability is that of its commit; tell
/// [`Postgres::committed`] afterwards, and what was added is handed out at once instead of within a second.
#[derive(Clone)]
pub struct Postgres {
    onefold: Onefold,
    engine: Arc<PostgresEngine>,
    schema: Arc<str>,
}

impl Deref for Postgres {
    type Target = Onefold;

    fn deref(&self) -> &Onefold {
        &self.onefold
    }
}

/// Why something could not be done in a user's own transaction.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InTxError {
    /// It was not even sent: something about it is not allowed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The transaction has failed.
    #[error(transparent)]
    Failed(#[from] UserTxError),
}

impl InTxError {
    /// Whether transactions were in each other's way, and the whole of this one is to be run again.
    pub fn asks_for_another_try(&self) -> bool {
        matches!(self, InTxError::Failed(UserTxError::Again(_)))
    }
}

impl Postgres {
    /// Like [`Onefold::postgres_with`].
    ///
    /// # Errors
    /// As for [`Onefold::postgres`].
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub async fn open(config: PostgresConfig) -> Result<Postgres, PostgresOpenError> {
        let clock = Arc::new(onefold_runtime::SystemClock::new());
        let schema = Arc::from(config.schema.as_str());
        let engine =
            Arc::new(PostgresEngine::open(config, Options::new(clock, Arc::new(SystemEntropy))).await?);
        let clock = engine.clock();
        Ok(Postgres { onefold: Onefold::with_engine(Arc::clone(&engine) as _, clock), engine, schema })
    }

    /// Adds a job in a transaction: `store.add_in(&tx, store.queue("emails").add(mail).key("welcome-ada"))`.
    ///
    /// # Errors
    /// [`InTxError`].
    pub async fn add_in<C: GenericClient + Sync>(&self, tx: &C, job: Add) -> Result<Added, InTxError> {
        let (queue, job) = job.into_parts()?;
        Ok(user_tx::add(tx, &self.schema, &queue, &job).await?)
    }

    /// Completes a job with what its handler returns. The handler then returns the same value: its own completion is
    /// answered with this one.
    ///
    /// # Errors
    /// [`InTxError`]. [`Refusal::LeaseLost`](crate::Refusal::LeaseLost) if the token is not the current one: another
    /// attempt has the job.
    pub async fn complete_in<C: GenericClient + Sync>(
        &self,
        tx: &C,
        id: JobId,
        token: FencingToken,
        result: &impl Serialize,
    ) -> Result<State, InTxError> {
        let result = serde_json::to_vec(result).map_err(|why| Invalid::Unserializable(why.to_string()))?;
        // As a worker does: nothing is no result.
        let result = (result != b"null").then_some(result.as_slice());
        Ok(user_tx::complete(tx, &self.schema, id, token, result).await?)
    }

    /// A step of a job whose rows are your own: recorded in the transaction that writes them. `None`: nobody has done it, so
    /// write the rows, in this transaction. `Some`: it was done, and this is the `result` that was recorded with it.
    ///
    /// Rows and record are committed together, so over all attempts they are written once; two workers that have the job at
    /// once are harmless, for the second waits for the first.
    ///
    /// # Errors
    /// [`InTxError`]. [`Refusal::LeaseLost`](crate::Refusal::LeaseLost) if the token is not the current one.
    pub async fn once_in<C: GenericClient + Sync, R: Serialize + DeserializeOwned>(
        &self,
        tx: &C,
        id: JobId,
        token: FencingToken,
        step: &str,
        result: &R,
    ) -> Result<Option<R>, InTxError> {
        let text = serde_json::to_vec(result).map_err(|why| Invalid::Unserializable(why.to_string()))?;
        match user_tx::once(tx, &self.schema, id, token, step, Some(&text)).await? {
            Step::Execute => Ok(None),
            Step::Done(done) => {
                let done =
                    serde_json::from_str(&done).map_err(|why| Invalid::Unserializable(why.to_string()))?;
                Ok(Some(done))
            }
        }
    }

    /// Fails a job's attempt; it is tried again after its backoff unless it is not `retryable` or its budget is used up.
    ///
    /// # Errors
    /// Like [`Postgres::complete_in`].
    pub async fn fail_in<C: GenericClient + Sync>(
        &self,
        tx: &C,
        id: JobId,
        token: FencingToken,
        error: &JobError,
        retryable: bool,
    ) -> Result<State, InTxError> {
        Ok(user_tx::fail(tx, &self.schema, id, token, error, retryable, None).await?)
    }

    /// Puts a job off at no cost.
    ///
    /// # Errors
    /// Like [`Postgres::complete_in`].
    pub async fn snooze_in<C: GenericClient + Sync>(
        &self,
        tx: &C,
        id: JobId,
        token: FencingToken,
        delay: Duration,
    ) -> Result<State, InTxError> {
        Ok(user_tx::snooze(tx, &self.schema, id, token, to_ms("delay", delay)?).await?)
    }

    /// Cancels a job, or asks its holder to stop; with `force` revokes its lease.
    ///
    /// # Errors
    /// [`InTxError`]. [`Refusal::JobFinished`](crate::Refusal::JobFinished) if it is completed or dead.
    pub async fn cancel_in<C: GenericClient + Sync>(
        &self,
        tx: &C,
        id: JobId,
        force: bool,
    ) -> Result<State, InTxError> {
        Ok(user_tx::cancel(tx, &self.schema, id, force).await?)
    }

    /// A transaction with jobs was committed: this process looks for them now.
    pub fn committed(&self) {
        self.engine.look_now();
    }
}

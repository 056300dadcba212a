//! What only an embedded store can do: rows of the user's own tables in the store's transaction.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{Clock, EffectRefusal, Key, limits};
pub use onefold_engine_sqlite::LocalTx;
use onefold_engine_sqlite::{LocalDone, LocalError, LocalStep, Options, SqliteEngine};
use onefold_runtime::{SystemClock, SystemEntropy};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Error, HandlerError, Invalid, Onefold, OpenError};

/// A store in a directory of this machine whose database also holds tables of yours. Everything a handle on a store can do,
/// and on top of it [`Embedded::commit_with`].
#[derive(Clone)]
pub struct Embedded {
    onefold: Onefold,
    engine: Arc<SqliteEngine>,
}

impl Deref for Embedded {
    type Target = Onefold;

    fn deref(&self) -> &Onefold {
        &self.onefold
    }
}

impl Embedded {
    /// Like [`Onefold::open`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub async fn open(path: impl AsRef<Path>) -> Result<Embedded, OpenError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let options = Options::new(Arc::clone(&clock), Arc::new(SystemEntropy));
        let (path, blocking_path) = (path.as_ref().to_owned(), path.as_ref().to_owned());
        let opened = tokio::task::spawn_blocking(move || SqliteEngine::open(blocking_path, options)).await;
        let engine = opened.map_err(|died| OpenError::Store { path, reason: died.to_string() })??;
        let engine = Arc::new(engine);
        Ok(Embedded { onefold: Onefold::with_engine(Arc::clone(&engine) as _, clock), engine })
    }

    /// Writes rows of your own tables, records `step` and completes the job with what `work` returns, in one transaction of
    /// the store: all of it is durable, or nothing. However often the job runs, the rows are written once (I7). The handler
    /// returns the same value: its own completion is answered with this one.
    ///
    /// `work` runs on the thread that does all writing of the store, in a savepoint: if it fails or panics, its rows are
    /// rolled back, alone, and the job is not completed. Beyond some 50 ms it is warned about. It may be run again if the
    /// transaction has to begin anew; only what the last run wrote is there. It may not touch tables of the store
    /// (`onefold_…`), nor begin or end transactions. Tables of yours are best made here, too: no other connection may write to
    /// the database while the store is open.
    ///
    /// # Errors
    /// To be handed on with `?`: what `work` failed with, as a failure that is tried again; and, when the lease is lost, an
    /// error that is not told.
    pub async fn commit_with<R, W, E>(
        &self,
        ctx: &Context,
        step: &str,
        mut work: W,
    ) -> Result<R, HandlerError>
    where
        R: Serialize + DeserializeOwned,
        W: FnMut(&LocalTx<'_>) -> Result<R, E> + Send + 'static,
        E: Into<LocalError>,
    {
        let step = Key::new(step).map_err(|why| HandlerError::permanent(Error::from(why)))?;
        let step = LocalStep { job: ctx.job_id(), token: ctx.fencing_token(), step };
        let work = move |tx: &LocalTx<'_>| stored(&work(tx).map_err(Into::into)?);
        match self.engine.local(step, Box::new(work)).await.map_err(Error::from)? {
            LocalDone::Committed { result, .. } | LocalDone::Done { result } => read(result.as_ref()),
            LocalDone::Refused(EffectRefusal::InProgress { retry_after }) => {
                Err(HandlerError::snooze(crate::time::to_std(retry_after)))
            }
            LocalDone::Refused(refusal @ EffectRefusal::KeyReused { .. }) => {
                Err(HandlerError::permanent(Error::from(refusal)))
            }
            LocalDone::Refused(refusal) => {
                ctx.over();
                Err(HandlerError::retry(Error::from(refusal)))
            }
            LocalDone::Failed(error) => Err(HandlerError::retry(error)),
            LocalDone::Panicked(message) => {
                Err(HandlerError::retry(format!("the closure panicked: {message}")).kind("panic"))
            }
        }
    }
}

/// As a worker does: nothing is no result.
fn stored<R: Serialize>(value: &R) -> Result<Option<Bytes>, LocalError> {
    let text = serde_json::to_vec(value).map_err(|why| Invalid::Unserializable(why.to_string()))?;
    if text.len() > limits::RESULT_BYTES_MAX {
        return Err(format!(
            "the result has {} bytes; at most {} are kept",
            text.len(),
            limits::RESULT_BYTES_MAX
        )
        .into());
    }
    Ok((text != b"null").then(|| Bytes::from(text)))
}

fn read<R: DeserializeOwned>(result: Option<&Bytes>) -> Result<R, HandlerError> {
    let text: &[u8] = result.map_or(b"null", |text| text);
    serde_json::from_slice(text).map_err(|why| HandlerError::permanent(Error::Mistyped(why.to_string())))
}

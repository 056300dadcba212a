//! The handle on a store.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onefold_core::reference::ReferenceEngine;
use onefold_core::{
    Clock, Engine, Entropy, Group, JobEdit, JobId, Key, Kind, Label, QueueName, State, limits,
};
use onefold_runtime::{Runtime, SystemEntropy, TokioClock};
use serde::de::DeserializeOwned;

use crate::add::BoxFuture;
use crate::backend::{Backend, EngineBackend, JobResult};
use crate::schedule::{Schedule, ScheduleView};
use crate::time::{to_ms, to_timestamp};
use crate::view::{JobList, JobView, ListQuery, QueueView};
use crate::{Error, Invalid, Queue, check};

/// A store of jobs: embedded in this process, or a server's. Cheap to clone; all clones are the
/// same handle. An embedded store is served until [`Onefold::close`] or until the last handle,
/// [`Queue`] and running [`Worker`](crate::Worker) is gone.
#[derive(Clone)]
pub struct Onefold {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Of an embedded store.
    runtime: Option<Runtime>,
}

impl Onefold {
    /// A store in memory that ends with the process: for tests of handlers and producers. Its
    /// time is tokio's, so that under `#[tokio::test(start_paused = true)]` hours of delays and
    /// backoff pass at once.
    ///
    /// It searches all its jobs for every operation: fine for thousands, not for millions.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub fn in_memory() -> Onefold {
        let (clock, entropy) = (Arc::new(TokioClock::new()), Arc::new(SystemEntropy));
        let engine = ReferenceEngine::new(Arc::clone(&clock) as Arc<dyn Clock>, entropy);
        Onefold::with_engine(Arc::new(engine), clock)
    }

    /// A store in a directory of this machine, made if there is none. It has this process to
    /// itself; others may look into its database meanwhile.
    ///
    /// # Errors
    /// [`OpenError`](crate::OpenError): in use by another process, written by a newer version,
    /// damaged, or not accessible.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    #[cfg(feature = "engine-sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Onefold, crate::OpenError> {
        use onefold_engine_sqlite::{Options, SqliteEngine};
        let clock: Arc<dyn Clock> = Arc::new(onefold_runtime::SystemClock::new());
        let options = Options::new(Arc::clone(&clock), Arc::new(SystemEntropy));
        let (path, blocking_path) = (path.as_ref().to_owned(), path.as_ref().to_owned());
        let opened = tokio::task::spawn_blocking(move || SqliteEngine::open(blocking_path, options)).await;
        let engine = opened.map_err(|died| crate::OpenError::Store { path, reason: died.to_string() })??;
        Ok(Onefold::with_engine(Arc::new(engine), clock))
    }

    /// A store in a PostgreSQL database, such as `postgres://user@host/database`, which any number of processes may
    /// serve at once. Its schema, `onefold`, is made in a database that has none.
    ///
    /// # Errors
    /// [`PostgresOpenError`](crate::PostgresOpenError): not reachable, not allowed, read-only, or a schema of another
    /// version.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    #[cfg(feature = "engine-postgres")]
    pub async fn postgres(url: &str) -> Result<Onefold, crate::PostgresOpenError> {
        Onefold::postgres_with(crate::PostgresConfig::parse(url)?).await
    }

    /// The same with another schema, a transaction pooler, or more connections.
    ///
    /// # Errors
    /// As for [`Onefold::postgres`].
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    #[cfg(feature = "engine-postgres")]
    pub async fn postgres_with(config: crate::PostgresConfig) -> Result<Onefold, crate::PostgresOpenError> {
        use onefold_engine_postgres::{Options, PostgresEngine};
        let clock = Arc::new(onefold_runtime::SystemClock::new());
        let engine = PostgresEngine::open(config, Options::new(clock, Arc::new(SystemEntropy))).await?;
        let clock = engine.clock();
        Ok(Onefold::with_engine(Arc::new(engine), clock))
    }

    /// A server's store, such as `http://127.0.0.1:7717`, with the token it asks for, if any.
    /// `https://` needs the feature `tls`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Invalid`] if this is not the URL of a server, or the token has characters no header can
    /// carry.
    #[cfg(feature = "remote")]
    pub fn connect<'a>(url: &str, token: impl Into<Option<&'a str>>) -> Result<Onefold, Error> {
        let backend = crate::backend::RemoteBackend::new(url, token.into())?;
        let clock = Arc::new(onefold_runtime::SystemClock::new());
        Ok(Onefold::assemble(Arc::new(backend), clock, None))
    }

    /// A store over any engine, served from now on by this process. `clock` is the one the engine
    /// lives by.
    ///
    /// # Panics
    /// Outside a tokio runtime with timers.
    pub fn with_engine(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Onefold {
        let backend = EngineBackend::new(Arc::clone(&engine), Arc::clone(&clock));
        let runtime = Runtime::start(engine, Arc::clone(&clock));
        Onefold::assemble(Arc::new(backend), clock, Some(runtime))
    }

    fn assemble(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>, runtime: Option<Runtime>) -> Onefold {
        Onefold { inner: Arc::new(Inner { backend, clock, entropy: Arc::new(SystemEntropy), runtime }) }
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.inner.backend
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.inner.entropy.as_ref()
    }

    /// What serves an embedded store; `None` if the store is a server's.
    pub fn runtime(&self) -> Option<&Runtime> {
        self.inner.runtime.as_ref()
    }

    /// A queue whose jobs carry a `T`.
    pub fn queue<T>(&self, name: impl AsRef<str>) -> Queue<T> {
        Queue::new(self.clone(), name.as_ref())
    }

    /// A schedule, to be looked at, paused, run or deleted; [`Queue::schedule`] makes one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), onefold::Error> {
    /// # let onefold = onefold::Onefold::in_memory();
    /// let reports = onefold.queue("reports");
    /// let made = reports.schedule("nightly", "the day").cron("30 2 * * *", "Europe/Berlin").await?;
    /// assert!(made.next_tick.is_some());
    /// let nightly = onefold.schedule("nightly");
    /// nightly.pause().await?;
    /// let job = nightly.run().await?;
    /// assert_eq!(nightly.get().await?.and_then(|schedule| schedule.last_job), Some(job));
    /// nightly.delete().await?;
    /// assert!(onefold.schedules().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn schedule(&self, id: impl AsRef<str>) -> Schedule {
        Schedule::new(Arc::clone(&self.inner.backend), id.as_ref())
    }

    /// All schedules, by their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, Error> {
        self.inner.backend.schedules().await
    }

    /// All queues, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Error> {
        self.inner.backend.queues().await
    }

    /// Everything about a job; `None` if there is none with this id, or no longer.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, id: JobId) -> Result<Option<JobView>, Error> {
        self.inner.backend.get(id).await
    }

    /// What a job's handler returned, waiting up to `wait` (at most 60 s) for it to finish.
    /// `None` if it is not finished by then.
    ///
    /// # Errors
    /// [`Error::JobDead`] and [`Error::JobCancelled`] if there never will be one,
    /// [`Error::Mistyped`] if it is no `R`, and the store's.
    pub async fn result<R: DeserializeOwned>(&self, id: JobId, wait: Duration) -> Result<Option<R>, Error> {
        let wait = to_ms("wait", wait.min(limits::WAIT_MAX.into()))?;
        match self.inner.backend.result(id, wait).await? {
            JobResult::Unfinished(_) => Ok(None),
            JobResult::Completed(text) => {
                let text = text.as_deref().unwrap_or(b"null");
                let result = serde_json::from_slice(text);
                result.map(Some).map_err(|error| Error::Mistyped(error.to_string()))
            }
        }
    }

    /// Cancels a job: at once if it does not run, else by asking its holder to stop. A complete
    /// that comes all the same still counts.
    ///
    /// # Errors
    /// `job-not-found`, `job-finished`, and the store's.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, Error> {
        self.inner.backend.cancel(id, false).await
    }

    /// Cancels a job at once, taking a running one from its holder.
    ///
    /// # Errors
    /// `job-not-found`, `job-finished`, and the store's.
    pub async fn cancel_by_force(&self, id: JobId) -> Result<JobView, Error> {
        self.inner.backend.cancel(id, true).await
    }

    /// Makes a dead, cancelled or retrying job run again, with new budgets.
    ///
    /// # Errors
    /// `job-not-found`, `job-not-retryable`, `key-taken`, `retry-window-passed`, and the store's.
    pub async fn retry(&self, id: JobId) -> Result<JobView, Error> {
        self.inner.backend.retry(id, false).await
    }

    /// Like [`Onefold::retry`], also after the job's `retry_until`: receivers may have forgotten
    /// its key by then and do the work a second time.
    ///
    /// # Errors
    /// `job-not-found`, `job-not-retryable`, `key-taken`, and the store's.
    pub async fn retry_accepting_duplicates(&self, id: JobId) -> Result<JobView, Error> {
        self.inner.backend.retry(id, true).await
    }

    /// Changes the time, the priority or the labels of a job that has not started, when awaited.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), onefold::Error> {
    /// # use std::time::{Duration, SystemTime};
    /// # let onefold = onefold::Onefold::in_memory();
    /// let added = onefold.queue("reports").add(7).delay(Duration::from_secs(3600)).await?;
    /// let job = onefold.edit(added.id).run_at(SystemTime::now()).priority(-1).labels(["urgent"]).await?;
    /// assert_eq!((job.priority, job.labels), (-1, vec!["urgent".to_owned()]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn edit(&self, id: JobId) -> Edit {
        Edit { backend: Arc::clone(&self.inner.backend), id, edit: JobEdit::default(), mistake: None }
    }

    /// Deletes a finished job; its key stays held for the rest of its window.
    ///
    /// # Errors
    /// `job-not-found`, `job-not-finished`, and the store's.
    pub async fn delete(&self, id: JobId) -> Result<JobView, Error> {
        self.inner.backend.delete(id).await
    }

    /// Lists jobs when awaited, newest first.
    pub fn list(&self) -> List {
        List { backend: Arc::clone(&self.inner.backend), query: ListQuery::default(), mistake: None }
    }

    /// Closes an embedded store: hands out no more leases, finishes what was begun. Leases that
    /// are still held get their full length again when it is opened next. A server is not touched.
    ///
    /// # Errors
    /// The engine's, if it cannot be closed cleanly.
    pub async fn close(&self) -> Result<(), Error> {
        if let Some(runtime) = &self.inner.runtime {
            runtime.drain().await?;
            runtime.stop().await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Onefold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onefold").field("runtime", &self.inner.runtime).finish_non_exhaustive()
    }
}

/// Changes a job that has not started when awaited; what is not given stays as it is. Gives the job.
///
/// Refused with `job-not-found`, and with `job-started` once the job was handed out or is finished.
#[must_use = "nothing happens until this is awaited"]
pub struct Edit {
    backend: Arc<dyn Backend>,
    id: JobId,
    edit: JobEdit,
    mistake: Option<Invalid>,
}

impl Edit {
    /// Runs it at this time instead; at once if that has passed.
    pub fn run_at(self, time: SystemTime) -> Edit {
        self.put(to_timestamp("run_at", time), |edit, time| edit.run_at = Some(time))
    }

    /// Lower runs first.
    pub fn priority(mut self, priority: i16) -> Edit {
        self.edit.priority = Some(priority);
        self
    }

    /// These labels instead of those it has; up to 16, of 1 to 64 characters.
    pub fn labels<L: AsRef<str>>(self, labels: impl IntoIterator<Item = L>) -> Edit {
        let labels = labels.into_iter().map(Label::new).collect::<Result<Vec<_>, _>>();
        self.put(labels, |edit, labels| edit.labels = Some(labels))
    }

    /// Puts a checked value in its place; of several mistakes the first is told.
    fn put<V, E: Into<Invalid>>(mut self, value: Result<V, E>, put: impl FnOnce(&mut JobEdit, V)) -> Edit {
        match value {
            Ok(value) => put(&mut self.edit, value),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake.into());
            }
        }
        self
    }
}

impl IntoFuture for Edit {
    type Output = Result<JobView, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(mistake) = self.mistake {
                return Err(mistake.into());
            }
            check::edit(&self.edit)?;
            self.backend.edit(self.id, self.edit).await
        })
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edit").field("id", &self.id).field("edit", &self.edit).finish_non_exhaustive()
    }
}

/// Lists jobs when awaited, newest first. Every given condition must hold.
#[must_use = "nothing is listed until this is awaited"]
pub struct List {
    backend: Arc<dyn Backend>,
    query: ListQuery,
    mistake: Option<Invalid>,
}

impl List {
    /// In this queue.
    pub fn queue(self, name: impl AsRef<str>) -> List {
        self.put(QueueName::new(name), |query, name| query.filter.queue = Some(name))
    }

    /// In this state; given several times: in one of them.
    pub fn state(mut self, state: State) -> List {
        self.query.filter.states.push(state);
        self
    }

    /// Of this kind.
    pub fn kind(self, kind: impl AsRef<str>) -> List {
        self.put(Kind::new(kind), |query, kind| query.filter.kind = Some(kind))
    }

    /// With this label.
    pub fn label(self, label: impl AsRef<str>) -> List {
        self.put(Label::new(label), |query, label| query.filter.label = Some(label))
    }

    /// Added with this key.
    pub fn key(self, key: impl AsRef<str>) -> List {
        self.put(Key::new(key), |query, key| query.filter.key = Some(key))
    }

    /// Of this group.
    pub fn group(self, group: impl AsRef<str>) -> List {
        self.put(Group::new(group), |query, group| query.filter.group = Some(group))
    }

    /// Accepted at this time or later.
    pub fn since(self, time: SystemTime) -> List {
        self.put(to_timestamp("since", time), |query, time| query.filter.since = Some(time))
    }

    /// Accepted before this time.
    pub fn until(self, time: SystemTime) -> List {
        self.put(to_timestamp("until", time), |query, time| query.filter.until = Some(time))
    }

    /// At most this many, from 1 to 1,000; 100 unless given.
    pub fn limit(self, limit: u32) -> List {
        let checked = check::range("limit", limit, 1..=limits::LIST_JOBS_MAX);
        self.put(checked, |query, limit| query.limit = Some(limit))
    }

    /// Goes on where a page ended.
    pub fn cursor(mut self, cursor: impl Into<String>) -> List {
        self.query.cursor = Some(cursor.into());
        self
    }

    /// Puts a checked value in its place; of several mistakes the first is told.
    fn put<V, E: Into<Invalid>>(mut self, value: Result<V, E>, put: impl FnOnce(&mut ListQuery, V)) -> List {
        match value {
            Ok(value) => put(&mut self.query, value),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake.into());
            }
        }
        self
    }
}

impl IntoFuture for List {
    type Output = Result<JobList, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(mistake) = self.mistake {
                return Err(mistake.into());
            }
            self.backend.list(self.query).await
        })
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("query", &self.query).finish_non_exhaustive()
    }
}

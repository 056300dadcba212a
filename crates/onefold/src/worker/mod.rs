//! Workers: lease jobs, run handlers, tell the store.
//!
//! A running worker is a leaser (asks for jobs while there is room), as many runners as its
//! concurrency (each runs one handler at a time), a settler (tells the store everything that came
//! up since it last did, in one call) and a keeper (heartbeats and deadlines). See
//! `docs/internals/onefold.md`.

mod context;
mod keeper;
mod lease;
mod leaser;
mod once;
mod outbox;
mod outcome;
mod retry;
mod runner;
mod settler;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onefold_core::{End, FencingToken, JobId, QueueName, Timestamp, WorkerName, limits};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::backend::Leased;
use crate::time::{to_ms, to_std};
use crate::{Error, ErrorCode, FromPayload, Invalid, Onefold, check};
use shared::{Config, Shared, Ticket};

pub use context::Context;
pub use lease::CancelReason;
pub use once::{EffectError, Once};
pub use outcome::{BoxError, HandlerError};
pub use shared::WorkerReport;

/// A job handed to a handler.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Job<T> {
    /// Its name for ever.
    pub id: JobId,
    /// The queue it comes from.
    pub queue: String,
    /// What sort of work it is.
    pub kind: Option<String>,
    /// What it carries.
    pub payload: T,
    /// Its dedup key.
    pub key: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its labels.
    pub labels: Vec<String>,
    /// The number of this attempt, from 1, never reset.
    pub attempt: u32,
    /// The token of this lease.
    pub fencing_token: FencingToken,
    /// Failures before this attempt.
    pub failures: u32,
    /// Failures plus lost leases that end it.
    pub max_attempts: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// No automatic attempt starts later.
    pub retry_until: Option<Timestamp>,
    /// The trace context it belongs to.
    pub traceparent: Option<String>,
}

/// A worker to be.
///
/// ```
/// # use onefold::{HandlerError, Job, Onefold, Worker};
/// # async fn example(onefold: Onefold, shutdown: impl Future<Output = ()>) -> Result<(), onefold::Error> {
/// let report = Worker::new(&onefold)
///     .queue("emails")
///     .concurrency(100)
///     .prefetch(200)
///     .handle(|job: Job<String>, ctx| async move {
///         println!("{} to {}", ctx.idempotency_key("send"), job.payload);
///         Ok(())
///     })
///     .run_until(shutdown)
///     .await?;
/// println!("{} completed", report.completed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    onefold: Onefold,
    queues: Vec<Result<QueueName, Invalid>>,
    concurrency: usize,
    prefetch: Option<usize>,
    lease: Duration,
    name: Option<String>,
    fair: bool,
    grace: Duration,
}

/// A worker with its handler, ready to run.
#[must_use = "a worker does nothing until it is run"]
pub struct ReadyWorker {
    worker: Worker,
    handler: runner::Handler,
}

impl Worker {
    /// A worker on a store. It needs at least one queue.
    pub fn new(onefold: &Onefold) -> Worker {
        Worker {
            onefold: onefold.clone(),
            queues: Vec::new(),
            concurrency: 10,
            prefetch: None,
            lease: limits::LEASE_DEFAULT.into(),
            name: None,
            fair: false,
            grace: Duration::from_secs(10),
        }
    }

    /// Takes jobs of this queue. Given several times, an earlier queue goes first.
    pub fn queue(mut self, name: impl AsRef<str>) -> Worker {
        self.queues.push(QueueName::new(name).map_err(Invalid::from));
        self
    }

    /// Takes from its queues in turn instead of in order.
    pub fn fair(mut self) -> Worker {
        self.fair = true;
        self
    }

    /// Runs up to this many handlers at once; 10 unless given.
    pub fn concurrency(mut self, handlers: usize) -> Worker {
        self.concurrency = handlers;
        self
    }

    /// Holds up to this many jobs whose handlers are not done, running and waiting to run; those
    /// that are done and on their way back to the store come on top, at most as many again. Not
    /// below the concurrency, which it is unless given. More keeps short handlers from waiting for
    /// the store; for handlers that take seconds it only keeps jobs from other workers. A job
    /// that has waited here for a quarter of its hard limit is given back, at no cost.
    pub fn prefetch(mut self, jobs: usize) -> Worker {
        self.prefetch = Some(jobs);
        self
    }

    /// How long a lease is, from 100 ms to 1 h; 30 s unless given. Leases are extended every
    /// third of it: this is how soon another worker takes over should this one die.
    pub fn lease(mut self, lease: Duration) -> Worker {
        self.lease = lease;
        self
    }

    /// What it is called in the history of jobs. The process' id unless given.
    pub fn name(mut self, name: impl Into<String>) -> Worker {
        self.name = Some(name.into());
        self
    }

    /// How long handlers may take to finish once the worker stops; 10 s unless given.
    pub fn grace(mut self, grace: Duration) -> Worker {
        self.grace = grace;
        self
    }

    /// Runs `handler` for every job.
    ///
    /// `Ok` completes the job, with what serde makes of the value as its result; an error does
    /// what its [`HandlerError`] says; a panic is a failure of kind `panic`. A payload that is no
    /// `T` fails for good, with kind `payload`.
    ///
    /// A handler must not block its thread: it would keep heartbeats from being sent. Blocking
    /// work goes into `tokio::task::spawn_blocking`.
    pub fn handle<T, R, H, F>(self, handler: H) -> ReadyWorker
    where
        T: FromPayload + Send + 'static,
        R: Serialize + Send + 'static,
        H: Fn(Job<T>, Context) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler = move |leased: Leased, context: Context| {
            let handler = Arc::clone(&handler);
            let run = async move {
                match job(leased) {
                    Ok(job) => outcome::returned(handler(job, context).await),
                    Err(why) => outcome::unreadable_payload(&why),
                }
            };
            Box::pin(run) as crate::add::BoxFuture<End>
        };
        ReadyWorker { worker: self, handler: Arc::new(handler) }
    }

    fn config(&self) -> Result<Config, Invalid> {
        let queues = self.queues.iter().cloned().collect::<Result<Vec<_>, _>>()?;
        if queues.is_empty() {
            return Err(Invalid::value("a worker", "needs at least one queue"));
        }
        check::at_most(
            ErrorCode::InvalidField,
            "queues of a worker",
            queues.len(),
            limits::LEASE_QUEUES_MAX,
        )?;
        if self.concurrency == 0 {
            return Err(Invalid::value("concurrency", "must be at least 1"));
        }
        let prefetch = self.prefetch.unwrap_or(self.concurrency);
        if prefetch < self.concurrency {
            let rule = format!("must be at least the concurrency, {}", self.concurrency);
            return Err(Invalid::value("prefetch", rule));
        }
        let lease = to_ms("lease", self.lease)?;
        if !(limits::LEASE_MIN..=limits::LEASE_MAX).contains(&lease) {
            let rule = format!("must be {} to {}", limits::LEASE_MIN, limits::LEASE_MAX);
            return Err(Invalid::value("lease", rule));
        }
        let name = self.name.clone().unwrap_or_else(|| format!("process-{}", std::process::id()));
        Ok(Config {
            queues,
            concurrency: self.concurrency,
            prefetch,
            lease,
            name: WorkerName::new(name)?,
            fair: self.fair,
            grace: to_ms("grace", self.grace)?,
        })
    }
}

fn job<T: FromPayload>(leased: Leased) -> Result<Job<T>, String> {
    Ok(Job {
        id: leased.id,
        queue: leased.queue.as_str().to_owned(),
        kind: leased.kind.map(|kind| kind.as_str().to_owned()),
        payload: T::from_payload(leased.payload)?,
        key: leased.key.map(|key| key.as_str().to_owned()),
        group: leased.group.map(|group| group.as_str().to_owned()),
        headers: leased.headers,
        labels: leased.labels.iter().map(|label| label.as_str().to_owned()).collect(),
        attempt: leased.attempt,
        fencing_token: leased.token,
        failures: leased.failures,
        max_attempts: leased.max_attempts,
        created_at: leased.created_at,
        retry_until: leased.retry_until,
        traceparent: leased.traceparent.map(|trace| trace.as_str().to_owned()),
    })
}

impl ReadyWorker {
    /// Runs until the worker cannot go on.
    ///
    /// # Errors
    /// Why: mistakes in its options, a store that is closed or has stopped itself, a token that
    /// is not accepted. What may pass is waited for.
    pub async fn run(self) -> Result<WorkerReport, Error> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` is done, then stops: leases nothing more, gives jobs back that wait
    /// for a handler, lets handlers finish for the grace period, tells those that have not to
    /// stop, drops them after a moment and gives their jobs back as well. Nothing given back
    /// costs an attempt.
    ///
    /// Dropping the returned future stops everything at once; leases then run out.
    ///
    /// # Errors
    /// As [`ReadyWorker::run`].
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<WorkerReport, Error> {
        let config = self.worker.config()?;
        let shared = Arc::new(Shared::new(config, self.worker.onefold));
        let mut tasks = Tasks::start(&shared, &self.handler);
        let mut fatal = shared.fatal.subscribe();
        tokio::select! {
            () = shutdown => {}
            _ = fatal.wait_for(Option::is_some) => {}
        }
        tasks.stop().await;
        let error = shared.fatal.borrow().clone();
        error.map_or_else(|| Ok(shared.counts.report()), Err)
    }
}

impl fmt::Debug for ReadyWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyWorker").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// The tasks of a running worker; dropped, they end where they are.
struct Tasks {
    shared: Arc<Shared>,
    leaser: JoinSet<()>,
    runners: JoinSet<()>,
    settler: JoinSet<()>,
    _keeper: JoinSet<()>,
}

impl Tasks {
    fn start(shared: &Arc<Shared>, handler: &runner::Handler) -> Tasks {
        let mut tasks = Tasks {
            shared: Arc::clone(shared),
            leaser: JoinSet::new(),
            runners: JoinSet::new(),
            settler: JoinSet::new(),
            _keeper: JoinSet::new(),
        };
        for _ in 0..shared.config.concurrency {
            tasks.runners.spawn(runner::run(Arc::clone(shared), Arc::clone(handler)));
        }
        tasks.settler.spawn(settler::run(Arc::clone(shared)));
        tasks._keeper.spawn(keeper::run(Arc::clone(shared)));
        tasks.leaser.spawn(leaser::run(Arc::clone(shared)));
        tasks
    }

    async fn stop(&mut self) {
        let shared = &self.shared;
        shared.stopping.cancel();
        shared.stop_runners();
        while self.leaser.join_next().await.is_some() {}
        for Ticket { lease, .. } in shared.take_waiting() {
            shared.end(lease, End::Release);
        }
        let grace = to_std(shared.config.grace);
        if !finished_within(&mut self.runners, grace).await {
            shared.signal_all(CancelReason::Shutdown);
            // Twice, for the runners to see that their handlers' time is over.
            let last_moment = to_std(shared.config.margin()) * 2;
            if !finished_within(&mut self.runners, last_moment).await {
                tracing::error!("handlers block their threads: their leases are left to run out");
            }
        }
        shared.outbox.close();
        if !finished_within(&mut self.settler, SETTLE_AT_THE_END).await {
            shared.giving_up.cancel();
            finished_within(&mut self.settler, SETTLE_AT_THE_END).await;
        }
    }
}

impl Drop for Tasks {
    /// Contexts may outlive the worker; nobody speaks for them any more.
    fn drop(&mut self) {
        self.shared.outbox.abandon();
        self.shared.signal_all(CancelReason::LeaseLost);
    }
}

/// How long a worker that stops tries to tell the store what its handlers did.
const SETTLE_AT_THE_END: Duration = Duration::from_secs(10);

async fn finished_within(tasks: &mut JoinSet<()>, limit: Duration) -> bool {
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(limit, all).await.is_ok()
}

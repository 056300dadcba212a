//! Adding jobs: what is asked for, piece by piece, and sending it.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onefold_core::{Added, Backoff, Fingerprint, Group, Key, Kind, Label, TraceParent, When, limits};

use crate::backend::{Backend, ToAdd};
use crate::check::{self, Wants};
use crate::time::{to_ms, to_timestamp};
use crate::{Dedup, Error, ErrorCode, IntoPayload, Invalid, QueueName, Target};

/// A future that can be sent between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A job to be, with everything that is asked of it. Mistakes in its options are told when it is
/// added.
///
/// `Q` says what it is for: [`NewJob`], to be handed to
/// [`Queue::add_many`](crate::Queue::add_many), or [`Add`], which adds it when awaited.
#[derive(Debug, Clone)]
#[must_use = "a job is added when this is awaited"]
pub struct JobBuilder<Q> {
    job: onefold_core::NewJob,
    fingerprint: Option<String>,
    mistake: Option<Invalid>,
    bound_for: Q,
}

/// A job with a payload of type `T` that is not bound for a queue yet.
pub type NewJob<T> = JobBuilder<PhantomData<fn(T)>>;

/// Adds a job to its queue when awaited.
pub type Add = JobBuilder<Bound>;

/// Bound for a queue.
#[derive(Clone)]
pub struct Bound {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) queue: Result<QueueName, Invalid>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<T: IntoPayload> NewJob<T> {
    /// A job with this payload and every option at its default.
    pub fn new(payload: T) -> NewJob<T> {
        let (payload, mistake) = match payload.into_payload() {
            Ok(payload) => (payload.0, None),
            Err(mistake) => (onefold_core::Payload::Absent, Some(mistake)),
        };
        let spec = onefold_core::JobSpec { payload, ..Default::default() };
        let job = onefold_core::NewJob { spec, ..Default::default() };
        JobBuilder { job, fingerprint: None, mistake, bound_for: PhantomData }
    }
}

impl<T: IntoPayload> From<T> for NewJob<T> {
    fn from(payload: T) -> NewJob<T> {
        NewJob::new(payload)
    }
}

impl<Q> JobBuilder<Q> {
    /// The dedup key: at most one job of the queue holds it (I3). 1 to 255 characters.
    pub fn key(self, key: impl AsRef<str>) -> Self {
        self.put(Key::new(key), |job, key| job.spec.key = Some(key))
    }

    /// What tells this job from another under its key, instead of its content: a version or a hash of what it
    /// does. A repeat with the same fingerprint is the same job whatever it carries, and one with another is
    /// refused with `key-reused`. 1 to 255 characters.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), onefold::Error> {
    /// # let onefold = onefold::Onefold::in_memory();
    /// let reports = onefold.queue("reports");
    /// let add = |made_at: &str| reports.add(made_at.to_owned()).key("report-7").fingerprint("report 7, version 2");
    /// let first = add("09:30").await?;
    /// assert_eq!(add("09:31").await?.id, first.id);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        let given = fingerprint.into();
        let checked = Fingerprint::custom(&given).map_err(|why| {
            Invalid::coded(ErrorCode::InvalidFingerprint, "fingerprint", format!("is not allowed: {why}"))
        });
        self.fingerprint = Some(given);
        self.put(checked, |job, fingerprint| job.spec.fingerprint = Some(fingerprint))
    }

    /// What a repeat with the same key gets.
    pub fn dedup(self, dedup: Dedup) -> Self {
        self.put(dedup.finish(), |job, (dedup, window_given)| {
            (job.spec.dedup, job.window_given) = (dedup, window_given);
        })
    }

    /// What sort of work it is, for people and filters. 1 to 128 characters.
    pub fn kind(self, kind: impl AsRef<str>) -> Self {
        self.put(Kind::new(kind), |job, kind| job.spec.kind = Some(kind))
    }

    /// Runs it this long after it was accepted.
    pub fn delay(self, delay: Duration) -> Self {
        self.put(to_ms("delay", delay), |job, delay| job.when = When::After(delay))
    }

    /// Runs it at this time; at once if that has passed.
    pub fn run_at(self, time: SystemTime) -> Self {
        self.put(to_timestamp("run_at", time), |job, time| job.when = When::At(time))
    }

    /// Lower runs first; 0 unless given. Does not reorder a group.
    pub fn priority(mut self, priority: i16) -> Self {
        self.job.priority = priority;
        self
    }

    /// Jobs of one group in a queue run one at a time, in order (I8).
    pub fn group(self, group: impl AsRef<str>) -> Self {
        self.put(Group::new(group), |job, group| job.spec.group = Some(group))
    }

    /// A word to find it by; up to 16, of 1 to 64 characters.
    pub fn label(self, label: impl AsRef<str>) -> Self {
        self.put(Label::new(label), |job, label| job.spec.labels.push(label))
    }

    /// A header handed to the handler; up to 64, of 8 KiB each.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.job.spec.headers.push((name.into(), value.into()));
        self
    }

    /// Delivers it to this URL, instead of handing it to a worker: the text of one, or a [`Target`] with more about it.
    ///
    /// Deliveries are made by servers: the one this library is connected to, or, with `Onefold::postgres`, any
    /// `onefold serve --postgres` on the same store. A store that only this process has open refuses with `no-deliverer`.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let onefold = onefold::Onefold::connect("http://127.0.0.1:7717", None)?;
    /// let order = "order 7 was paid".to_owned();
    /// onefold.queue("hooks").add(order).key("order-7").target("https://example.com/hooks").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn target(self, target: impl Into<Target>) -> Self {
        self.put(target.into().finish(), |job, target| job.spec.target = onefold_core::Target::Http(target))
    }

    /// Tells this URL when it is completed, by a job of its own that is added in the same transaction.
    pub fn on_success(self, target: impl Into<Target>) -> Self {
        self.put(target.into().finish(), |job, target| job.spec.on_success = Some(target))
    }

    /// Tells this URL when it is dead or cancelled, by a job of its own that is added in the same transaction.
    pub fn on_failure(self, target: impl Into<Target>) -> Self {
        self.put(target.into().finish(), |job, target| job.spec.on_failure = Some(target))
    }

    /// Failures plus lost leases that end it, from 1 to 1,000; 20 unless the queue says
    /// otherwise. 1 means at most one delivery.
    pub fn max_attempts(self, attempts: u32) -> Self {
        let checked = check::range("max_attempts", attempts, 1..=limits::MAX_ATTEMPTS_MAX);
        self.put(checked, |job, attempts| job.max_attempts = Some(attempts))
    }

    /// How long it waits after each failure.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.job.spec.backoff = Some(backoff);
        self
    }

    /// The hard limit of one attempt; 15 minutes unless given.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.put(to_ms("timeout", timeout), |job, timeout| job.spec.timeout = Some(timeout))
    }

    /// How long it is kept once finished, instead of the queue's retention.
    pub fn retain(self, retain: Duration) -> Self {
        self.put(to_ms("retain", retain), |job, retain| job.spec.retain = Some(retain))
    }

    /// The W3C trace context it belongs to.
    pub fn traceparent(self, traceparent: impl AsRef<str>) -> Self {
        self.put(TraceParent::new(traceparent), |job, trace| job.spec.traceparent = Some(trace))
    }

    pub(crate) fn bind(self, bound_for: Bound) -> Add {
        JobBuilder { job: self.job, fingerprint: self.fingerprint, mistake: self.mistake, bound_for }
    }

    /// The job, checked.
    pub(crate) fn finish(self, wants: Wants) -> Result<ToAdd, Invalid> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok(ToAdd { job: check::finish(self.job, wants)?, fingerprint: self.fingerprint }),
        }
    }

    /// Puts a checked value in its place; of several mistakes the first is told.
    fn put<V, E: Into<Invalid>>(
        mut self,
        value: Result<V, E>,
        put: impl FnOnce(&mut onefold_core::NewJob, V),
    ) -> Self {
        match value {
            Ok(value) => put(&mut self.job, value),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake.into());
            }
        }
        self
    }
}

#[cfg(feature = "engine-postgres")]
impl Add {
    /// Where it is to go, and what goes there.
    pub(crate) fn into_parts(self) -> Result<(QueueName, onefold_core::NewJob), Invalid> {
        let Bound { backend, queue } = self.bound_for.clone();
        Ok((queue?, self.finish(backend.wants())?.job))
    }
}

impl IntoFuture for Add {
    type Output = Result<Added, Error>;
    type IntoFuture = BoxFuture<Result<Added, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        let bound = self.bound_for.clone();
        Box::pin(async move {
            let (queue, job) = (bound.queue?, self.finish(bound.backend.wants())?);
            bound.backend.add(queue, job).await
        })
    }
}

/// Adds several jobs when awaited, with an outcome for each, in order: one that is refused does
/// not stop the others.
#[derive(Debug)]
#[must_use = "the jobs are added when this is awaited"]
pub struct AddMany {
    pub(crate) bound: Bound,
    pub(crate) jobs: Vec<Result<ToAdd, Invalid>>,
    pub(crate) atomic: bool,
}

impl AddMany {
    /// Adds all of them or none: if one is refused, so are the others, and nothing changed.
    /// At most 10,000.
    pub fn atomic(mut self) -> AddMany {
        self.atomic = true;
        self
    }

    async fn send(self) -> Result<Vec<Result<Added, Error>>, Error> {
        let queue = self.bound.queue?;
        if self.atomic {
            check::at_most(
                ErrorCode::TooManyItems,
                "jobs added atomically",
                self.jobs.len(),
                limits::ADD_JOBS_MAX,
            )?;
            let jobs = self.jobs.into_iter().collect::<Result<Vec<_>, _>>()?;
            return self.bound.backend.add_many(queue, jobs, true).await;
        }
        let mut outcomes = Vec::with_capacity(self.jobs.len());
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for (place, job) in self.jobs.into_iter().enumerate() {
            match job {
                Ok(job) => jobs.push(job),
                Err(mistake) => outcomes.push((place, Err(Error::Invalid(mistake)))),
            }
        }
        let mut added = self.bound.backend.add_many(queue, jobs, false).await?;
        for (place, mistake) in outcomes {
            added.insert(place, mistake);
        }
        Ok(added)
    }
}

impl IntoFuture for AddMany {
    type Output = Result<Vec<Result<Added, Error>>, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

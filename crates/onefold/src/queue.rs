//! A queue: adding to it, looking at it, changing it.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::SystemTime;

use onefold_core::{Group, JobFilter, Key, Kind, Label, QueueName, QueuePatch, State, limits};

use crate::add::{Add, AddMany, Bound, BoxFuture, NewJob};
use crate::backend::Backend;
use crate::check;
use crate::schedule::SetSchedule;
use crate::time::to_timestamp;
use crate::view::{KeyView, QueueView, RedriveQuery, Redriven};
use crate::{Error, IntoPayload, Invalid, Onefold};

/// A queue whose jobs carry a `T`. Made by [`Onefold::queue`]; cheap to clone.
///
/// Nothing is asked of the store until something is done with it: the queue itself is made by its
/// first job or setting. A name that is not `[A-Za-z0-9._-]{1,128}` is told by everything one
/// tries to do with it.
pub struct Queue<T> {
    onefold: Onefold,
    name: Result<QueueName, Invalid>,
    carries: PhantomData<fn(T)>,
}

impl<T> Queue<T> {
    pub(crate) fn new(onefold: Onefold, name: &str) -> Queue<T> {
        let name = QueueName::new(name).map_err(Invalid::from);
        Queue { onefold, name, carries: PhantomData }
    }

    fn backend(&self) -> &Arc<dyn Backend> {
        self.onefold.backend()
    }

    fn bound(&self) -> Bound {
        Bound { backend: Arc::clone(self.backend()), queue: self.name.clone() }
    }

    fn name(&self) -> Result<QueueName, Error> {
        Ok(self.name.clone()?)
    }

    /// Hands out no more of its jobs until [`Queue::resume`].
    ///
    /// # Errors
    /// The store's.
    pub async fn pause(&self) -> Result<QueueView, Error> {
        self.configure(QueuePatch { paused: Some(true), ..QueuePatch::default() }).await
    }

    /// Hands out its jobs again.
    ///
    /// # Errors
    /// The store's.
    pub async fn resume(&self) -> Result<QueueView, Error> {
        self.configure(QueuePatch { paused: Some(false), ..QueuePatch::default() }).await
    }

    /// Makes the queue if there is none and changes the given settings.
    ///
    /// # Errors
    /// The store's.
    pub async fn configure(&self, patch: QueuePatch) -> Result<QueueView, Error> {
        check::queue_patch(&patch)?;
        self.backend().set_queue(self.name()?, patch).await
    }

    /// Deletes the queue and its finished jobs, with the keys they hold. Gives the number of jobs.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), onefold::Error> {
    /// # let onefold = onefold::Onefold::in_memory();
    /// let tests = onefold.queue("tests");
    /// let job = tests.add(7).await?;
    /// assert_eq!(tests.delete().await.unwrap_err().code(), "queue-not-empty");
    /// onefold.cancel(job.id).await?;
    /// assert_eq!(tests.delete().await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `queue-not-found`, `queue-not-empty`, and the store's.
    pub async fn delete(&self) -> Result<u64, Error> {
        self.backend().delete_queue(self.name()?, false).await
    }

    /// Like [`Queue::delete`], also with jobs that are not finished: they are never run, and whoever holds one loses
    /// its lease.
    ///
    /// # Errors
    /// `queue-not-found`, and the store's.
    pub async fn delete_by_force(&self) -> Result<u64, Error> {
        self.backend().delete_queue(self.name()?, true).await
    }

    /// Its settings and counts; `None` if there is no such queue.
    ///
    /// # Errors
    /// The store's.
    pub async fn info(&self) -> Result<Option<QueueView>, Error> {
        self.backend().queue(self.name()?).await
    }

    /// Who holds a key; `None` if nobody does.
    ///
    /// # Errors
    /// The store's.
    pub async fn key(&self, key: impl AsRef<str>) -> Result<Option<KeyView>, Error> {
        self.backend().key(self.name()?, Key::new(key)?).await
    }

    /// Frees a key, leaving evidence. Gives who held it.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_key(&self, key: impl AsRef<str>) -> Result<Option<KeyView>, Error> {
        self.backend().release_key(self.name()?, Key::new(key)?).await
    }

    /// Makes its dead jobs run again, oldest first.
    pub fn redrive(&self) -> Redrive {
        Redrive {
            bound: self.bound(),
            query: RedriveQuery {
                filter: JobFilter::default(),
                states: vec![State::Dead],
                limit: None,
                accept_duplicates: false,
            },
            mistake: None,
        }
    }
}

impl<T: IntoPayload> Queue<T> {
    /// Makes a schedule that adds such a job to this queue at every tick, when awaited: see [`SetSchedule`]. The job has no
    /// key, delay or time of its own.
    pub fn schedule(&self, id: impl AsRef<str>, job: impl Into<NewJob<T>>) -> SetSchedule {
        let backend = Arc::clone(self.backend());
        let job = job.into().finish(backend.wants());
        SetSchedule::new(backend, id.as_ref(), self.name.clone(), job)
    }

    /// Adds a job when awaited; concurrent adds share a commit or a request.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), onefold::Error> {
    /// # let onefold = onefold::Onefold::in_memory();
    /// let added = onefold.queue("emails").add("ada@example.com".to_owned()).key("welcome-7").await?;
    /// assert!(!added.duplicate);
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, payload: T) -> Add {
        NewJob::new(payload).bind(self.bound())
    }

    /// Adds a job under a dedup key when awaited: while the key is held there is at most this one
    /// (I3), and a repeat gets its id.
    pub fn add_unique(&self, key: impl AsRef<str>, payload: T) -> Add {
        self.add(payload).key(key)
    }

    /// Adds several jobs when awaited, in order, with an outcome for each. Takes payloads, or
    /// [`NewJob`]s where they need options.
    ///
    /// More than 10,000 go in several calls. If one of those fails as a whole, so does this, and
    /// what went before is added: jobs with keys can simply be added again.
    pub fn add_many<J: Into<NewJob<T>>>(&self, jobs: impl IntoIterator<Item = J>) -> AddMany {
        let wants = self.backend().wants();
        let jobs = jobs.into_iter().map(|job| job.into().finish(wants)).collect();
        AddMany { bound: self.bound(), jobs, atomic: false }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue { onefold: self.onefold.clone(), name: self.name.clone(), carries: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes finished jobs of a queue run again when awaited.
#[derive(Debug)]
#[must_use = "nothing happens until this is awaited"]
pub struct Redrive {
    bound: Bound,
    query: RedriveQuery,
    mistake: Option<Invalid>,
}

impl Redrive {
    /// Jobs in these states instead of dead ones; only `dead` and `cancelled` count.
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Redrive {
        self.query.states = states.into_iter().collect();
        self
    }

    /// Only those of this kind.
    pub fn kind(self, kind: impl AsRef<str>) -> Redrive {
        self.put(Kind::new(kind), |query, kind| query.filter.kind = Some(kind))
    }

    /// Only those with this label.
    pub fn label(self, label: impl AsRef<str>) -> Redrive {
        self.put(Label::new(label), |query, label| query.filter.label = Some(label))
    }

    /// Only those of this group.
    pub fn group(self, group: impl AsRef<str>) -> Redrive {
        self.put(Group::new(group), |query, group| query.filter.group = Some(group))
    }

    /// Only those accepted at this time or later.
    pub fn since(self, time: SystemTime) -> Redrive {
        self.put(to_timestamp("since", time), |query, time| query.filter.since = Some(time))
    }

    /// Only those accepted before this time.
    pub fn until(self, time: SystemTime) -> Redrive {
        self.put(to_timestamp("until", time), |query, time| query.filter.until = Some(time))
    }

    /// At most this many, from 1 to 10,000, which it is unless given.
    pub fn limit(self, limit: u32) -> Redrive {
        let checked = check::range("limit", limit, 1..=limits::REDRIVE_JOBS_MAX);
        self.put(checked, |query, limit| query.limit = Some(limit))
    }

    /// Also those whose `retry_until` has passed, although receivers may have forgotten their keys.
    pub fn accept_duplicates(mut self) -> Redrive {
        self.query.accept_duplicates = true;
        self
    }

    /// Puts a checked value in its place; of several mistakes the first is told.
    fn put<V, E: Into<Invalid>>(
        mut self,
        value: Result<V, E>,
        put: impl FnOnce(&mut RedriveQuery, V),
    ) -> Redrive {
        match value {
            Ok(value) => put(&mut self.query, value),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake.into());
            }
        }
        self
    }
}

impl IntoFuture for Redrive {
    type Output = Result<Redriven, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(mistake) = self.mistake {
                return Err(mistake.into());
            }
            self.bound.backend.redrive(self.bound.queue?, self.query).await
        })
    }
}

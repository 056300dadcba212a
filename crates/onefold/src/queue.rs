//! A queue: adding to it, looking at it, changing it.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;

use onefold_core::{Key, QueueName, QueuePatch, State, limits};

use crate::add::{Add, AddMany, Bound, BoxFuture, NewJob};
use crate::backend::Backend;
use crate::check;
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
            query: RedriveQuery { states: vec![State::Dead], limit: None, accept_duplicates: false },
        }
    }
}

impl<T: IntoPayload> Queue<T> {
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
}

impl Redrive {
    /// Also, or instead, jobs in these states; only `dead` and `cancelled` count.
    pub fn states(mut self, states: impl IntoIterator<Item = State>) -> Redrive {
        self.query.states = states.into_iter().collect();
        self
    }

    /// At most this many; up to 10,000.
    pub fn limit(mut self, limit: u32) -> Redrive {
        self.query.limit = Some(limit);
        self
    }

    /// Also those whose `retry_until` has passed, although receivers may have forgotten their keys.
    pub fn accept_duplicates(mut self) -> Redrive {
        self.query.accept_duplicates = true;
        self
    }
}

impl IntoFuture for Redrive {
    type Output = Result<Redriven, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            if let Some(limit) = self.query.limit {
                check::range("limit", limit, 1..=limits::REDRIVE_JOBS_MAX)?;
            }
            self.bound.backend.redrive(self.bound.queue?, self.query).await
        })
    }
}

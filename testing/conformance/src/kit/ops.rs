//! The operations, with everything a case does not care about filled in.

use bytes::Bytes;
use onefold_core::{
    AddParams, Added, Clock, DurationMs, End, EngineResult, EventCursor, EventsParams, FencingToken,
    ItemResult, JobError, JobFilter, JobId, JobView, KeyView, LeaseParams, LeasedJob, NewJob, QueueCounts,
    QueuePatch, QueueView, RedriveParams, Redriven, SettleAction, SettleOp, Settled, State, StoreEvent,
    Ticked, Timestamp, WorkerName, limits,
};

use crate::{Harness, key, queue};

/// A tick does a bounded amount of work, but nothing here needs more of them.
const TICKS_MAX: u32 = 1_000;

/// A lease, as its holder names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub id: JobId,
    /// The lease's token.
    pub token: FencingToken,
}

impl From<&LeasedJob> for Lease {
    fn from(leased: &LeasedJob) -> Lease {
        let attempt = leased.attempt().expect("a leased job has an attempt");
        Lease { id: leased.job.id, token: attempt.token }
    }
}

/// A call for one job of a queue, without waiting, by worker `w`.
pub fn call(queue_name: &str) -> LeaseParams {
    LeaseParams {
        queues: vec![queue(queue_name)],
        max: 1,
        lease: limits::LEASE_DEFAULT,
        worker: WorkerName::new("w").expect("a worker name"),
        fair: false,
        wait: DurationMs::ZERO,
        poll: None,
    }
}

/// A complete without a result.
pub fn complete() -> End {
    End::Complete { result: None }
}

/// A complete with a result, which must be JSON.
pub fn complete_with(result: &'static str) -> End {
    End::Complete { result: Some(Bytes::from_static(result.as_bytes())) }
}

/// An error of a handler.
pub fn error(message: &str) -> JobError {
    JobError { message: message.to_owned(), kind: None }
}

/// A failure that may be tried again after the backoff.
pub fn fail() -> End {
    End::Fail { error: error("oops"), retryable: true, retry_in: None }
}

/// A failure that is tried again after `wait`.
pub fn fail_for(wait: DurationMs) -> End {
    End::Fail { error: error("oops"), retryable: true, retry_in: Some(wait) }
}

/// A failure that cannot be mended by trying again.
pub fn fail_for_good() -> End {
    End::Fail { error: error("no way"), retryable: false, retry_in: None }
}

/// Again after `delay`, at no cost.
pub fn snooze(delay: DurationMs) -> End {
    End::Snooze { delay }
}

impl<'a> dyn Harness + 'a {
    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        self.world().clock.now()
    }

    /// Lets time pass without telling the engine.
    pub fn wait(&self, time: DurationMs) {
        self.world().clock.advance(time);
    }

    /// Ticks until nothing more is due, and adds up what was done.
    ///
    /// # Panics
    /// If there is no end to it.
    pub async fn tick(&self) -> Ticked {
        self.try_tick().await.unwrap()
    }

    /// Ticks until nothing more is due, and adds up what was done.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn try_tick(&self) -> EngineResult<Ticked> {
        let mut sum = self.engine().tick().await?;
        let mut ticks = 1;
        while sum.next <= self.now() {
            ticks += 1;
            assert!(ticks < TICKS_MAX, "still something due after {ticks} ticks: {sum:?}");
            let more = self.engine().tick().await?;
            sum = Ticked {
                next: more.next,
                due: sum.due + more.due,
                ticks: sum.ticks + more.ticks,
                expired: sum.expired + more.expired,
                purged: sum.purged + more.purged,
                clock_stepped: sum.clock_stepped || more.clock_stepped,
            };
        }
        Ok(sum)
    }

    /// Lets time pass and ticks.
    pub async fn pass(&self, time: DurationMs) -> Ticked {
        self.wait(time);
        self.tick().await
    }

    /// Adds jobs in one call.
    pub async fn add_all(&self, to: &str, jobs: Vec<NewJob>) -> Vec<ItemResult<Added>> {
        self.engine().add(AddParams { queue: queue(to), jobs, atomic: false }).await.unwrap()
    }

    /// Adds jobs in one atomic call.
    pub async fn add_atomic(&self, to: &str, jobs: Vec<NewJob>) -> Vec<ItemResult<Added>> {
        self.engine().add(AddParams { queue: queue(to), jobs, atomic: true }).await.unwrap()
    }

    /// Adds one job.
    pub async fn try_add(&self, to: &str, job: NewJob) -> ItemResult<Added> {
        let [outcome] = <[_; 1]>::try_from(self.add_all(to, vec![job]).await).expect("one outcome");
        outcome
    }

    /// Adds one job, which must be new.
    pub async fn add(&self, to: &str, job: NewJob) -> JobId {
        let added = self.try_add(to, job).await.unwrap();
        assert!(!added.duplicate, "{} is not new", added.id);
        added.id
    }

    /// Adds one job, which must be answered with an earlier one.
    pub async fn repeat(&self, to: &str, job: NewJob) -> Added {
        let added = self.try_add(to, job).await.unwrap();
        assert!(added.duplicate, "{} is new", added.id);
        added
    }

    /// Leases.
    pub async fn lease_by(&self, params: LeaseParams) -> Vec<LeasedJob> {
        self.engine().lease(params).await.unwrap()
    }

    /// Leases up to `max` jobs and gives their ids.
    pub async fn lease_ids(&self, from: &str, max: u32) -> Vec<JobId> {
        let leased = self.lease_by(LeaseParams { max, ..call(from) }).await;
        leased.iter().map(|leased| leased.job.id).collect()
    }

    /// Leases one job, which must be there.
    pub async fn take(&self, from: &str) -> Lease {
        Lease::from(&self.take_full(from).await)
    }

    /// Leases one job, which must be there, and gives all of it.
    pub async fn take_full(&self, from: &str) -> LeasedJob {
        self.lease_by(call(from)).await.pop().unwrap_or_else(|| panic!("{from} has no job to lease"))
    }

    /// Whether there is nothing to lease.
    pub async fn nothing_to_lease(&self, from: &str) -> bool {
        self.lease_by(call(from)).await.is_empty()
    }

    /// Does one thing with a lease.
    pub async fn settle(&self, lease: Lease, action: SettleAction) -> ItemResult<Settled> {
        let op = SettleOp { id: lease.id, token: lease.token, action };
        let outcomes = self.engine().settle(vec![op]).await.unwrap();
        let [outcome] = <[_; 1]>::try_from(outcomes).expect("one outcome");
        outcome
    }

    /// Ends an attempt.
    pub async fn try_end(&self, lease: Lease, end: End) -> ItemResult<Settled> {
        self.settle(lease, SettleAction::End(end)).await
    }

    /// Ends an attempt, which must be accepted, and gives the job's state.
    pub async fn end(&self, lease: Lease, end: End) -> State {
        self.try_end(lease, end).await.unwrap().state
    }

    /// Extends a lease.
    pub async fn extend(&self, lease: Lease, length: DurationMs) -> ItemResult<Settled> {
        self.settle(lease, SettleAction::Extend(length)).await
    }

    /// Leases the next job, which must be there, and ends it.
    pub async fn work(&self, from: &str, end: End) -> JobId {
        let lease = self.take(from).await;
        self.end(lease, end).await;
        lease.id
    }

    /// Leases the next job, which must be there, and loses the lease.
    pub async fn lose(&self, from: &str) -> Lease {
        let lease = self.take(from).await;
        self.pass(limits::LEASE_DEFAULT).await;
        lease
    }

    /// Adds a job and makes it dead.
    pub async fn add_dead(&self, to: &str, job: NewJob) -> JobId {
        let id = self.add(to, job).await;
        assert_eq!(self.work(to, fail_for_good()).await, id, "another job was in the way");
        id
    }

    /// Cancels a job.
    pub async fn cancel(&self, id: JobId) -> ItemResult<JobView> {
        self.engine().cancel(id, false).await.unwrap()
    }

    /// Cancels a job by force.
    pub async fn force_cancel(&self, id: JobId) -> ItemResult<JobView> {
        self.engine().cancel(id, true).await.unwrap()
    }

    /// Makes a job run again.
    pub async fn retry(&self, id: JobId) -> ItemResult<JobView> {
        self.engine().retry(id, false).await.unwrap()
    }

    /// Makes the dead jobs of a queue run again.
    pub async fn redrive(&self, from: &str) -> Redriven {
        self.redrive_by(redrive(from)).await.unwrap()
    }

    /// Makes jobs of a queue run again.
    pub async fn redrive_by(&self, params: RedriveParams) -> ItemResult<Redriven> {
        self.engine().redrive(params).await.unwrap()
    }

    /// Deletes a job.
    pub async fn delete(&self, id: JobId) -> ItemResult<JobView> {
        self.engine().delete(id).await.unwrap()
    }

    /// Everything about a job, if it is there.
    pub async fn find(&self, id: JobId) -> Option<JobView> {
        self.engine().get(id).await.unwrap()
    }

    /// Everything about a job, which must be there.
    pub async fn view(&self, id: JobId) -> JobView {
        self.find(id).await.unwrap_or_else(|| panic!("{id} is gone"))
    }

    /// The state of a job, which must be there.
    pub async fn state(&self, id: JobId) -> State {
        self.view(id).await.job.state
    }

    /// Changes a queue's settings.
    pub async fn set(&self, name: &str, patch: QueuePatch) -> QueueView {
        self.engine().set_queue(queue(name), patch).await.unwrap()
    }

    /// The counts of a queue, which must be there and conserve its jobs (I2).
    pub async fn counts(&self, name: &str) -> QueueCounts {
        let view = self.engine().queue(queue(name)).await.unwrap().expect("the queue is there");
        assert!(view.counts.conserved(), "I2 broken: {:?}", view.counts);
        view.counts
    }

    /// Who holds a key.
    pub async fn holder(&self, of: &str, key_text: &str) -> Option<KeyView> {
        self.engine().key(queue(of), key(key_text)).await.unwrap()
    }

    /// All events after a cursor.
    pub async fn events_since(&self, after: EventCursor) -> Vec<StoreEvent> {
        let mut events = Vec::new();
        let mut cursor = after;
        loop {
            let page = self.engine().events(EventsParams { after: cursor, limit: 100 }).await.unwrap();
            if page.events.is_empty() {
                return events;
            }
            cursor = page.next;
            events.extend(page.events);
        }
    }

    /// The cursor of the latest event.
    pub async fn last_event(&self) -> EventCursor {
        self.events_since(0).await.last().map_or(0, |event| event.cursor)
    }
}

/// A redrive of all dead jobs of a queue.
pub fn redrive(from: &str) -> RedriveParams {
    RedriveParams {
        filter: JobFilter::default(),
        queue: queue(from),
        states: vec![State::Dead],
        limit: 1000,
        accept_duplicates: false,
    }
}

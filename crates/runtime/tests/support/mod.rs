//! An engine that shows its calls to a test, which may make them fail.

use std::path::PathBuf;
use std::sync::Arc;

use onefold_core::schedule::{
    ListSchedules, NewSchedule, PutSchedule, ScheduleId, SchedulePage, ScheduleView, Schedules,
};
use onefold_core::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, DeletedQueue, DeliveryParams, Effect, EffectName,
    EffectOp, EffectPage, EffectResult, Engine, EngineError, EngineResult, EventCursor, EventPage,
    EventsParams, ItemResult, JobEdit, JobId, JobPage, JobView, Key, KeyView, LeaseParams, LeasedJob,
    ListEffects, ListParams, QueueName, QueuePatch, QueueView, RedriveParams, Redriven, Refusal, Setting,
    SettleOp, Settled, StoreStats, Ticked,
};
use tokio::sync::Semaphore;

/// A call of an engine.
#[allow(dead_code, reason = "not every test looks into every call")]
pub(crate) enum Call<'a> {
    Add(&'a AddParams),
    Lease(&'a LeaseParams),
    Effects(&'a [EffectOp]),
    Settle(&'a [SettleOp]),
    Tick,
}

/// Sees a call before it is made; an error is answered instead of making it.
type Watcher = Box<dyn Fn(&Call<'_>) -> Result<(), EngineError> + Send + Sync>;
/// Sees jobs that were leased.
type LeaseWatcher = Box<dyn Fn(&[LeasedJob]) + Send + Sync>;

/// Says of an operation whether somebody's open transaction holds its job.
type SettleWatcher = Box<dyn Fn(&SettleOp) -> bool + Send + Sync>;

/// An engine that is watched.
pub(crate) struct Watched {
    inner: Arc<dyn Engine>,
    capabilities: Capabilities,
    before: Watcher,
    leased: LeaseWatcher,
    settle_gate: Option<Arc<Semaphore>>,
    jobs_in_progress: SettleWatcher,
}

impl Watched {
    pub(crate) fn new(
        inner: Arc<dyn Engine>,
        before: impl Fn(&Call<'_>) -> Result<(), EngineError> + Send + Sync + 'static,
    ) -> Watched {
        let capabilities = inner.capabilities();
        Watched {
            inner,
            capabilities,
            before: Box::new(before),
            leased: Box::new(|_| {}),
            settle_gate: None,
            jobs_in_progress: Box::new(|_| false),
        }
    }

    #[allow(dead_code, reason = "only the tests of the loop do")]
    pub(crate) fn claiming_many_processes(mut self) -> Watched {
        self.capabilities.multi_process = true;
        self
    }

    #[allow(dead_code, reason = "only the tests of workers do")]
    pub(crate) fn on_leased(mut self, leased: impl Fn(&[LeasedJob]) + Send + Sync + 'static) -> Watched {
        self.leased = Box::new(leased);
        self
    }

    /// Each settle takes a permit for good, waiting for one.
    #[allow(dead_code, reason = "only the tests of workers do")]
    pub(crate) fn gating_settles(mut self, gate: Arc<Semaphore>) -> Watched {
        self.settle_gate = Some(gate);
        self
    }

    /// Operations of which `held` says so are refused with `job-in-progress`.
    #[allow(dead_code, reason = "only the tests of workers do")]
    pub(crate) fn with_jobs_in_progress(
        mut self,
        held: impl Fn(&SettleOp) -> bool + Send + Sync + 'static,
    ) -> Watched {
        self.jobs_in_progress = Box::new(held);
        self
    }

    fn watch<'a, T: Send + 'a>(
        &'a self,
        call: &Call<'_>,
        make: impl FnOnce() -> BoxFuture<'a, EngineResult<T>>,
    ) -> BoxFuture<'a, EngineResult<T>> {
        match (self.before)(call) {
            Ok(()) => make(),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

impl Engine for Watched {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
    fn add(&self, params: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        self.watch(&Call::Add(&params.clone()), || self.inner.add(params))
    }
    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        let leasing = self.watch(&Call::Lease(&params.clone()), || self.inner.lease(params));
        Box::pin(async {
            let jobs = leasing.await?;
            (self.leased)(&jobs);
            Ok(jobs)
        })
    }
    fn lease_deliveries(&self, params: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        self.inner.lease_deliveries(params)
    }
    fn deliveries_after(&self, seen: u64) -> BoxFuture<'_, u64> {
        self.inner.deliveries_after(seen)
    }
    fn settle(&self, ops: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        Box::pin(async move {
            (self.before)(&Call::Settle(&ops))?;
            if let Some(gate) = &self.settle_gate {
                gate.acquire().await.unwrap().forget();
            }
            let held: Vec<bool> = ops.iter().map(|op| (self.jobs_in_progress)(op)).collect();
            let free = ops.into_iter().zip(&held).filter(|(_, held)| !**held).map(|(op, _)| op);
            let mut settled = self.inner.settle(free.collect()).await?.into_iter();
            let answer = |held| if held { Some(Err(Refusal::JobInProgress)) } else { settled.next() };
            Ok(held.into_iter().filter_map(answer).collect())
        })
    }
    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.inner.cancel(id, force)
    }
    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.inner.retry(id, accept_duplicates)
    }
    fn redrive(&self, params: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>> {
        self.inner.redrive(params)
    }
    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.inner.edit(id, edit)
    }
    fn delete(&self, id: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        self.inner.delete(id)
    }
    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>> {
        self.inner.get(id)
    }
    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>> {
        self.inner.list(params)
    }
    fn finished(&self, id: JobId) -> BoxFuture<'_, EngineResult<()>> {
        self.inner.finished(id)
    }
    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>> {
        self.inner.queues()
    }
    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>> {
        self.inner.queue(name)
    }
    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>> {
        self.inner.set_queue(name, patch)
    }
    fn delete_queue(
        &self,
        name: QueueName,
        force: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>> {
        self.inner.delete_queue(name, force)
    }
    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.inner.key(queue, key)
    }
    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        self.inner.release_key(queue, key)
    }
    fn setting(&self, name: String) -> BoxFuture<'_, EngineResult<Option<Setting>>> {
        self.inner.setting(name)
    }
    fn set_setting(
        &self,
        name: String,
        value: bytes::Bytes,
        expected: u64,
    ) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>> {
        self.inner.set_setting(name, value, expected)
    }
    fn effects(&self, ops: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>> {
        self.watch(&Call::Effects(&ops.clone()), || self.inner.effects(ops))
    }
    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>> {
        self.inner.effect(name)
    }
    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>> {
        self.inner.list_effects(params)
    }
    fn events(&self, params: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>> {
        self.inner.events(params)
    }
    fn events_after(&self, cursor: EventCursor) -> BoxFuture<'_, EngineResult<()>> {
        self.inner.events_after(cursor)
    }
    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        self.watch(&Call::Tick, || self.inner.tick())
    }
    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        self.inner.tick_sooner()
    }
    fn backup(&self, to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>> {
        self.inner.backup(to)
    }
    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        self.inner.stats()
    }
    fn drain(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.inner.drain()
    }
    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        self.inner.close()
    }
}

impl Schedules for Watched {
    fn put_schedule(&self, id: ScheduleId, new: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>> {
        self.inner.put_schedule(id, new)
    }
    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>> {
        self.inner.schedule(id)
    }
    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>> {
        self.inner.schedules(params)
    }
    fn pause_schedule(
        &self,
        id: ScheduleId,
        paused: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.inner.pause_schedule(id, paused)
    }
    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>> {
        self.inner.run_schedule(id)
    }
    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.inner.delete_schedule(id)
    }
}

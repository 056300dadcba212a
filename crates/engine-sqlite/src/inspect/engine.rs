//! The Engine contract over a store that is only looked into, so that whatever shows an engine
//! can show a data directory.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use onefold_core::schedule::{
    ListSchedules, NewSchedule, PutSchedule, ScheduleId, SchedulePage, ScheduleView, Schedules,
};
use onefold_core::{
    AddParams, Added, BackupDone, BoxFuture, Capabilities, DeletedQueue, DeliveryParams, Effect, EffectName,
    EffectOp, EffectPage, EffectResult, Engine, EngineError, EngineResult, EventCursor, EventPage,
    EventsParams, ItemResult, JobEdit, JobId, JobPage, JobView, Key, KeyView, LeaseParams, LeasedJob,
    ListEffects, ListParams, QueueName, QueuePatch, QueueView, RedriveParams, Redriven, Setting, SettleOp,
    Settled, StoreStats, Ticked,
};

use super::Inspector;

/// A store that can be looked into, and nothing else: jobs, queues and backups. Everything that
/// would change it, or wait for a change, is refused with [`EngineError::Io`].
#[derive(Debug)]
pub struct LookOnly(Mutex<Inspector>);

impl LookOnly {
    /// Shows what `inspector` sees.
    pub fn new(inspector: Inspector) -> LookOnly {
        LookOnly(Mutex::new(inspector))
    }

    fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Inspector) -> EngineResult<T>,
    ) -> BoxFuture<'_, EngineResult<T>> {
        let seen = look(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(std::future::ready(seen))
    }
}

fn refuse<T: Send + 'static>() -> BoxFuture<'static, EngineResult<T>> {
    let why = "the data directory is only looked into; ask the server that serves it".to_owned();
    Box::pin(std::future::ready(Err(EngineError::Io(why))))
}

impl Engine for LookOnly {
    fn capabilities(&self) -> Capabilities {
        Capabilities { durable: true, multi_process: false, backup: true }
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, EngineResult<Option<JobView>>> {
        self.look(|inspector| inspector.get(id))
    }

    fn list(&self, params: ListParams) -> BoxFuture<'_, EngineResult<JobPage>> {
        self.look(|inspector| inspector.list(&params))
    }

    fn queues(&self) -> BoxFuture<'_, EngineResult<Vec<QueueView>>> {
        self.look(Inspector::queues)
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, EngineResult<Option<QueueView>>> {
        self.look(|inspector| Ok(inspector.queues()?.into_iter().find(|queue| queue.name == name)))
    }

    fn backup(&self, to: PathBuf) -> BoxFuture<'_, EngineResult<BackupDone>> {
        self.look(|inspector| inspector.backup(&to))
    }

    fn add(&self, _: AddParams) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Added>>>> {
        refuse()
    }

    fn lease(&self, _: LeaseParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        refuse()
    }

    fn lease_deliveries(&self, _: DeliveryParams) -> BoxFuture<'_, EngineResult<Vec<LeasedJob>>> {
        refuse()
    }

    fn deliveries_after(&self, _: u64) -> BoxFuture<'_, u64> {
        Box::pin(std::future::pending())
    }

    fn settle(&self, _: Vec<SettleOp>) -> BoxFuture<'_, EngineResult<Vec<ItemResult<Settled>>>> {
        refuse()
    }

    fn cancel(&self, _: JobId, _: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        refuse()
    }

    fn retry(&self, _: JobId, _: bool) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        refuse()
    }

    fn redrive(&self, _: RedriveParams) -> BoxFuture<'_, EngineResult<ItemResult<Redriven>>> {
        refuse()
    }

    fn edit(&self, _: JobId, _: JobEdit) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        refuse()
    }

    fn delete(&self, _: JobId) -> BoxFuture<'_, EngineResult<ItemResult<JobView>>> {
        refuse()
    }

    fn finished(&self, _: JobId) -> BoxFuture<'_, EngineResult<()>> {
        refuse()
    }

    fn set_queue(&self, _: QueueName, _: QueuePatch) -> BoxFuture<'_, EngineResult<QueueView>> {
        refuse()
    }

    fn delete_queue(&self, _: QueueName, _: bool) -> BoxFuture<'_, EngineResult<ItemResult<DeletedQueue>>> {
        refuse()
    }

    fn key(&self, _: QueueName, _: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        refuse()
    }

    fn release_key(&self, _: QueueName, _: Key) -> BoxFuture<'_, EngineResult<Option<KeyView>>> {
        refuse()
    }

    fn setting(&self, _: String) -> BoxFuture<'_, EngineResult<Option<Setting>>> {
        refuse()
    }

    fn set_setting(&self, _: String, _: Bytes, _: u64) -> BoxFuture<'_, EngineResult<Result<u64, Setting>>> {
        refuse()
    }

    fn effects(&self, _: Vec<EffectOp>) -> BoxFuture<'_, EngineResult<Vec<EffectResult>>> {
        refuse()
    }

    fn effect(&self, name: EffectName) -> BoxFuture<'_, EngineResult<Option<Effect>>> {
        self.look(|inspector| inspector.effect(&name))
    }

    fn list_effects(&self, params: ListEffects) -> BoxFuture<'_, EngineResult<EffectPage>> {
        self.look(|inspector| inspector.list_effects(&params))
    }

    fn events(&self, _: EventsParams) -> BoxFuture<'_, EngineResult<EventPage>> {
        refuse()
    }

    fn events_after(&self, _: EventCursor) -> BoxFuture<'_, EngineResult<()>> {
        refuse()
    }

    fn tick(&self) -> BoxFuture<'_, EngineResult<Ticked>> {
        refuse()
    }

    fn tick_sooner(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn stats(&self) -> BoxFuture<'_, EngineResult<StoreStats>> {
        refuse()
    }

    fn drain(&self) -> BoxFuture<'_, EngineResult<()>> {
        refuse()
    }

    fn close(&self) -> BoxFuture<'_, EngineResult<()>> {
        refuse()
    }
}

impl Schedules for LookOnly {
    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>> {
        self.look(|inspector| inspector.schedule(&id))
    }

    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>> {
        self.look(|inspector| inspector.schedules(&params))
    }

    fn put_schedule(&self, _: ScheduleId, _: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>> {
        refuse()
    }

    fn pause_schedule(
        &self,
        _: ScheduleId,
        _: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        refuse()
    }

    fn run_schedule(&self, _: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>> {
        refuse()
    }

    fn delete_schedule(&self, _: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        refuse()
    }
}

//! What every store does with schedules: the part of the [`Engine`](crate::Engine) contract that is about them.

use super::{NewSchedule, Schedule, ScheduleId};
use crate::{BoxFuture, EngineResult, ItemResult, JobId, JobSpec};

/// Schedules of a store. They are evaluated by [`Engine::tick`](crate::Engine::tick), by whoever calls it.
///
/// A tick's job, its entry in a key space of the ledger that no caller can reach, and the schedule's last tick, which never
/// goes back, are one transaction (I9).
pub trait Schedules {
    /// Makes a schedule, or changes it: see [`Schedule::redefined`]. The same again changes nothing and is told to nobody.
    fn put_schedule(&self, id: ScheduleId, new: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>>;

    /// One schedule.
    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>>;

    /// Schedules by their ids.
    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>>;

    /// Pauses a schedule or resumes it.
    fn pause_schedule(
        &self,
        id: ScheduleId,
        paused: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>>;

    /// Adds the schedule's job now, also while it is paused and after its end. It is no tick and settles none, but meets
    /// the same [`Overlap`](super::Overlap), and is the last job for the next tick.
    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>>;

    /// Deletes a schedule. Its jobs stay, and no tick of theirs is ever added again. Gives its last view.
    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>>;
}

/// A schedule with its job.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleView {
    /// The schedule.
    pub schedule: Schedule,
    /// What each tick adds; in a list its payload is left out.
    pub job: JobSpec,
}

/// A schedule that was put.
#[derive(Debug, Clone, PartialEq)]
pub struct PutSchedule {
    /// As it is now.
    pub view: ScheduleView,
    /// There was none before.
    pub created: bool,
}

/// Which schedules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListSchedules {
    /// After this one.
    pub after: Option<ScheduleId>,
    /// At most this many.
    pub limit: u32,
}

/// A page of schedules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulePage {
    /// By their ids.
    pub schedules: Vec<ScheduleView>,
    /// There are more after the last of them.
    pub more: bool,
}

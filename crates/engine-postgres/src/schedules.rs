//! Schedules: the part of the contract that is about them, and how a node evaluates them beside others (I9).

use onefold_core::schedule::{
    ListSchedules, NewSchedule, PutSchedule, ScheduleId, SchedulePage, ScheduleView, Schedules,
};
use onefold_core::{BoxFuture, DurationMs, EngineResult, ItemResult, JobId};

use crate::PostgresEngine;
use crate::engine::WAIT_TOGETHER;
use crate::error::Outcome;
use crate::node::{Failed, Node, Verdict, commit};
use crate::ops::schedules::{self, Evaluated};
use crate::ops::tick::{self, Done};
use crate::work::Work;

/// Schedules that one tick evaluates.
const BATCH: i64 = 500;
/// When to look again at a schedule that cannot be evaluated now.
const LOOK_AGAIN: DurationMs = DurationMs::from_ms(1_000);

/// Evaluates schedules that are due and that nobody else is at, a bounded number, and does what is due of jobs: in one
/// transaction, so that nothing is handed out before all of it is in line.
pub(crate) async fn evaluate_beside(node: &Node, retires: bool) -> EngineResult<(Evaluated, Done)> {
    match commit!(node, within Some(WAIT_TOGETHER), |work| all_due(work, retires)) {
        Ok(done) => Ok(done),
        Err(Failed::Engine(error)) => Err(error),
        Err(Failed::Locked) => {
            let evaluated = one_by_one(node).await?;
            Ok((evaluated, commit!(node, |work| tick::jobs(work, retires))?))
        }
    }
}

async fn all_due(work: &mut Work, retires: bool) -> Outcome<(Evaluated, Done)> {
    let evaluated = schedules::evaluate(work, BATCH).await?;
    Ok((evaluated, tick::jobs(work, retires).await?))
}

/// Evaluates each by itself: what somebody's open transaction holds up is only put off.
async fn one_by_one(node: &Node) -> EngineResult<Evaluated> {
    let mut sum = Evaluated::default();
    for id in &commit!(node, |work| schedules::due(work, BATCH))? {
        match commit!(node, within Some(WAIT_TOGETHER), |work| schedules::evaluate_one(work, id)) {
            Ok(done) => sum.ticks += done.ticks,
            Err(Failed::Locked) => commit!(node, |work| schedules::put_off(work, id, LOOK_AGAIN))?,
            Err(Failed::Engine(error)) => return Err(error),
        }
    }
    Ok(sum)
}

/// Brings the next ticks up to this program's time zone database.
pub(crate) async fn follow_tz(node: &Node) -> EngineResult<()> {
    while commit!(node, |work| schedules::follow_tz(work, BATCH))? {}
    Ok(())
}

impl Schedules for PostgresEngine {
    fn put_schedule(&self, id: ScheduleId, new: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>> {
        self.run(|node| async move {
            let (id, new) = (&id, &new);
            commit!(node, |work| schedules::put(work, id, new))
        })
    }

    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>> {
        self.run(|node| async move {
            let id = &id;
            commit!(node, |work| schedules::one(work, id))
        })
    }

    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>> {
        self.run(|node| async move {
            let params = &params;
            commit!(node, |work| schedules::page(work, params))
        })
    }

    fn pause_schedule(
        &self,
        id: ScheduleId,
        paused: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.run(move |node| async move {
            let id = &id;
            commit!(node, |work| schedules::pause(work, id, paused))
        })
    }

    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>> {
        self.run(|node| async move {
            let id = &id;
            commit!(node, |work| schedules::run(work, id))
        })
    }

    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.run(|node| async move {
            let id = &id;
            commit!(node, |work| schedules::delete(work, id))
        })
    }
}

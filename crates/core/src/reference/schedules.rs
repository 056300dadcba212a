//! Schedules in the reference engine.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::ReferenceEngine;
use super::model::Model;
use crate::schedule::{
    Admission, ListSchedules, NewSchedule, PutSchedule, Schedule, ScheduleEvent, ScheduleId, SchedulePage,
    ScheduleView, Schedules, Tick,
};
use crate::{
    BoxFuture, EngineResult, EventKind, ItemResult, JobId, Payload, QueueName, Refusal, State, Timestamp,
};

impl Model {
    fn put_schedule(&mut self, id: ScheduleId, new: &NewSchedule, now: Timestamp) -> PutSchedule {
        let before = self.schedules.get(&id).cloned();
        let created = before.is_none();
        let schedule = match &before {
            None => Schedule::new(id.clone(), new, now),
            Some(before) => before.schedule.redefined(new, now),
        };
        let mut view = ScheduleView { schedule, job: new.job.spec.clone() };
        if let Some(before) = before {
            let same = Schedule { changed_at: before.schedule.changed_at, ..view.schedule.clone() };
            if same == before.schedule && view.job == before.job {
                view.schedule = same;
                return PutSchedule { view, created };
            }
        }
        self.queue_mut(&new.queue);
        self.schedules.insert(id.clone(), view.clone());
        self.tell(EventKind::ScheduleChanged, id, now);
        PutSchedule { view, created }
    }

    fn tell(&mut self, kind: EventKind, id: ScheduleId, now: Timestamp) {
        self.emit_schedule(kind, ScheduleEvent { id, dropped: None }, now);
    }

    fn pause_schedule(&mut self, id: &ScheduleId, paused: bool, now: Timestamp) -> ItemResult<ScheduleView> {
        let view = self.schedules.get_mut(id).ok_or(Refusal::ScheduleNotFound)?;
        let changed = view.schedule.set_paused(paused, now);
        let view = view.clone();
        if changed {
            self.tell(EventKind::ScheduleChanged, id.clone(), now);
        }
        Ok(view)
    }

    fn delete_schedule(&mut self, id: &ScheduleId, now: Timestamp) -> ItemResult<ScheduleView> {
        let view = self.schedules.get(id).cloned().ok_or(Refusal::ScheduleNotFound)?;
        self.tell(EventKind::ScheduleDeleted, id.clone(), now);
        self.schedules.remove(id);
        Ok(view)
    }

    fn state_of(&self, job: Option<JobId>) -> Option<State> {
        self.find(job?).map(|record| record.job.state)
    }

    fn run_schedule(&mut self, id: &ScheduleId, now: Timestamp) -> ItemResult<JobId> {
        let view = self.schedules.get(id).cloned().ok_or(Refusal::ScheduleNotFound)?;
        let last = view.schedule.last_job;
        if let (Admission::Drop, Some(job)) = (view.schedule.overlap.admit(self.state_of(last)), last) {
            return Err(Refusal::ScheduleJobUnfinished { job });
        }
        let job = self.add_of(&view, None, now);
        if let Some(view) = self.schedules.get_mut(id) {
            view.schedule.last_job = Some(job);
        }
        Ok(job)
    }

    fn add_of(&mut self, view: &ScheduleView, tick: Option<Tick>, now: Timestamp) -> JobId {
        let queue: &QueueName = &view.schedule.queue;
        let mut new = view.schedule.job(&view.job, tick);
        self.queue_mut(queue).settings.clone().apply_to(&mut new);
        self.insert(queue, new, now).id
    }

    /// Schedules whose time has come. Returns how many jobs they added.
    pub(super) fn evaluate_schedules(&mut self, now: Timestamp) -> u64 {
        let ids: Vec<(Tick, ScheduleId)> = {
            let due = self.schedules.values().filter_map(|view| {
                let next = view.schedule.next().filter(|tick| tick.at() <= now)?;
                Some((next, view.schedule.id.clone()))
            });
            let mut due: Vec<_> = due.collect();
            due.sort();
            due
        };
        ids.into_iter().map(|(_, id)| self.evaluate(&id, now)).sum()
    }

    fn evaluate(&mut self, id: &ScheduleId, now: Timestamp) -> u64 {
        let Some(view) = self.schedules.get(id).cloned() else { return 0 };
        let mut schedule = view.schedule.clone();
        let Some(due) = schedule.due(now) else { return 0 };
        let key_is_held =
            |tick: &&Tick| self.ticks.get(&id.key_of(**tick)).is_some_and(|hold| hold.is_held(None, now));
        let held: BTreeSet<Tick> = due.run.iter().filter(key_is_held).copied().collect();
        let decision = schedule.decide(&due, self.state_of(schedule.last_job), &held);
        let mut last_job = None;
        for tick in &decision.add {
            let job = self.add_of(&view, Some(*tick), now);
            let key = id.key_of(*tick);
            let hold = key.hold(job, now);
            self.ticks.insert(key, hold);
            last_job = Some(job);
        }
        self.queue_mut(&schedule.queue);
        schedule.settle(&due, &decision, last_job);
        for dropped in &decision.dropped {
            let about = ScheduleEvent { id: id.clone(), dropped: Some(*dropped) };
            self.emit_schedule(EventKind::TicksDropped, about, now);
        }
        self.schedules.insert(id.clone(), ScheduleView { schedule, ..view });
        decision.add.len() as u64
    }

    fn schedule_page(&self, params: &ListSchedules) -> SchedulePage {
        let after = match &params.after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut rest = self.schedules.range::<ScheduleId, _>((after, Bound::Unbounded)).map(|(_, view)| {
            let mut view = view.clone();
            view.job.payload = Payload::Absent;
            view
        });
        let schedules = rest.by_ref().take(params.limit as usize).collect();
        SchedulePage { schedules, more: rest.next().is_some() }
    }
}

impl Schedules for ReferenceEngine {
    fn put_schedule(&self, id: ScheduleId, new: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>> {
        self.run(move |model, now| model.put_schedule(id, &new, now))
    }

    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>> {
        self.run(move |model, _| model.schedules.get(&id).cloned())
    }

    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>> {
        self.run(move |model, _| model.schedule_page(&params))
    }

    fn pause_schedule(
        &self,
        id: ScheduleId,
        paused: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.run(move |model, now| model.pause_schedule(&id, paused, now))
    }

    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>> {
        self.run(move |model, now| model.run_schedule(&id, now))
    }

    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.run(move |model, now| model.delete_schedule(&id, now))
    }
}

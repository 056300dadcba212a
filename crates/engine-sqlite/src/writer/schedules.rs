//! Schedules: what is asked of them, and their ticks (I9).

use std::collections::{BTreeSet, HashSet};

use onefold_core::schedule::{
    Admission, Decision, Due, NewSchedule, PutSchedule, Schedule, ScheduleEvent, ScheduleId, ScheduleView,
    Tick, tz_database_version,
};
use onefold_core::{EventKind, ItemResult, JobId, JobSpec, Refusal, Seq, Timestamp};

use super::ledger::{NO_QUEUE, SPACE_TICK};
use super::store::{EVENTS_PER_ROW, Store};
use super::tick::Work;
use crate::error::{StoreError, StoreResult};
use crate::rows::{self, ScheduleRow, read_schedule};

/// Schedules one tick evaluates, and jobs it adds for them, at the most; the last one may go beyond by what is due of it.
const SCHEDULES_PER_TICK: usize = 500;
const JOBS_PER_TICK: u64 = 2_000;
/// Schedules that are looked at together after the time zone database changed.
const CHUNK: usize = 500;

/// When schedules are to be evaluated. The first tick of all is kept in memory, the rest in an index.
#[derive(Debug, Default)]
pub(super) struct DueSchedules {
    next: Option<Timestamp>,
    before: Option<Timestamp>,
    /// Those that cannot be read: passed over until the store is opened again.
    set_aside: HashSet<ScheduleId>,
}

impl DueSchedules {
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.next
    }

    pub(super) fn begin(&mut self) {
        self.before = self.next;
    }

    pub(super) fn roll_back(&mut self) {
        self.next = self.before;
    }
}

/// A schedule whose time has come.
struct Evaluation {
    row: ScheduleRow,
    spec: JobSpec,
    due: Due,
    decision: Decision,
}

impl Store<'_> {
    /// Brings what stands in the index up to this program's time zone database.
    pub(crate) fn load_schedules(&mut self) -> StoreResult<()> {
        let mut after = String::new();
        loop {
            let mut found =
                self.stmts.schedule_other_tz.query((tz_database_version(), &after, CHUNK as i64))?;
            let mut ids: Vec<String> = Vec::new();
            while let Some(row) = found.next()? {
                ids.push(row.get(0)?);
            }
            drop(found);
            let Some(last) = ids.last().cloned() else { break };
            after = last;
            for id in ids.iter().filter_map(|id| id.parse().ok()) {
                match self.schedule_row(&id) {
                    Ok(Some(row)) => row.write(&mut self.stmts.schedule_put)?,
                    Ok(None) => {}
                    Err(error) if error.is_damage() => self.set_schedule_aside(id, &error),
                    Err(error) => return Err(error),
                }
            }
        }
        self.find_next_tick()
    }

    fn find_next_tick(&mut self) -> StoreResult<()> {
        let mut found = self.stmts.schedule_heads.query([self.schedules.set_aside.len() as i64 + 1])?;
        let mut next = None;
        while let Some(row) = found.next()? {
            let id: String = row.get(0)?;
            if !self.schedules.set_aside.contains(id.as_str()) {
                next = Timestamp::from_unix_ms(row.get(1)?);
                break;
            }
        }
        drop(found);
        self.schedules.next = next;
        Ok(())
    }

    fn set_schedule_aside(&mut self, id: ScheduleId, error: &StoreError) {
        tracing::error!(
            %error, schedule = %id,
            "a schedule's rows are damaged: it does not tick until the store is opened again; \
             `onefold doctor` tells more"
        );
        self.schedules.set_aside.insert(id);
    }

    fn schedule_row(&mut self, id: &ScheduleId) -> StoreResult<Option<ScheduleRow>> {
        let mut found = self.stmts.schedule_select.query([id.as_str()])?;
        found.next()?.map(read_schedule).transpose()
    }

    fn template(&mut self, seq: Seq) -> StoreResult<JobSpec> {
        let mut found = self.stmts.spec_select.query([seq.get() as i64])?;
        match found.next()? {
            Some(row) => rows::read_spec(row),
            None => {
                Err(StoreError::corrupt(format!("the job of a schedule, sequence {}, is gone", seq.get())))
            }
        }
    }

    fn schedule_view(&mut self, row: ScheduleRow) -> StoreResult<ScheduleView> {
        Ok(ScheduleView { job: self.template(row.template)?, schedule: row.schedule })
    }

    fn write_schedule(&mut self, row: &ScheduleRow) -> StoreResult<()> {
        row.write(&mut self.stmts.schedule_put)?;
        self.find_next_tick()
    }

    fn tell_schedule(&mut self, kind: EventKind, schedule: &Schedule) -> StoreResult<()> {
        let queue = self.queue_made(&schedule.queue)?;
        self.emit_schedule(kind, queue, ScheduleEvent { id: schedule.id.clone(), dropped: None });
        Ok(())
    }

    pub(crate) fn put_schedule(&mut self, id: &ScheduleId, new: &NewSchedule) -> StoreResult<PutSchedule> {
        let before = match self.schedule_row(id) {
            // Putting it again is how a damaged one is mended.
            Err(error) if error.is_damage() => {
                self.delete_damaged(id)?;
                None
            }
            row => row?,
        };
        let created = before.is_none();
        let mut schedule = match &before {
            None => Schedule::new(id.clone(), new, self.now),
            Some(before) => before.schedule.redefined(new, self.now),
        };
        let old_job = match &before {
            Some(row) => self.template(row.template).ok(),
            None => None,
        };
        let same_job = old_job.as_ref() == Some(&new.job.spec);
        if let Some(before) = &before {
            let changed_at = std::mem::replace(&mut schedule.changed_at, before.schedule.changed_at);
            if same_job && schedule == before.schedule {
                return Ok(PutSchedule {
                    view: ScheduleView { schedule, job: new.job.spec.clone() },
                    created,
                });
            }
            schedule.changed_at = changed_at;
        }
        let template = match &before {
            Some(row) if same_job => row.template,
            _ => {
                let seq = Seq::new(self.take_seq()).unwrap_or(Seq::MAX);
                rows::write_spec(&mut self.stmts.spec_insert, seq, &new.job.spec)?;
                seq
            }
        };
        if let Some(row) = before.filter(|row| row.template != template) {
            self.delete_template(row.template)?;
        }
        self.schedules.set_aside.remove(id);
        self.tell_schedule(EventKind::ScheduleChanged, &schedule)?;
        let row = ScheduleRow { schedule, template };
        self.write_schedule(&row)?;
        Ok(PutSchedule { view: ScheduleView { schedule: row.schedule, job: new.job.spec.clone() }, created })
    }

    /// Deletes a schedule that cannot be read, with its job if that is known.
    fn delete_damaged(&mut self, id: &ScheduleId) -> StoreResult<()> {
        let template: i64 = self.stmts.schedule_select.query_row([id.as_str()], |row| row.get(1))?;
        if let Ok(template) = rows::seq(template) {
            self.delete_template(template)?;
        }
        self.stmts.schedule_delete.execute([id.as_str()])?;
        Ok(())
    }

    fn delete_template(&mut self, seq: Seq) -> StoreResult<()> {
        let seq = seq.get() as i64;
        self.stmts.specs_delete.execute((seq, seq))?;
        Ok(())
    }

    pub(crate) fn pause_schedule(
        &mut self,
        id: &ScheduleId,
        paused: bool,
    ) -> StoreResult<ItemResult<Box<ScheduleView>>> {
        let Some(mut row) = self.schedule_row(id)? else { return Ok(Err(Refusal::ScheduleNotFound)) };
        if row.schedule.set_paused(paused, self.now) {
            self.tell_schedule(EventKind::ScheduleChanged, &row.schedule)?;
            self.write_schedule(&row)?;
        }
        Ok(Ok(Box::new(self.schedule_view(row)?)))
    }

    pub(crate) fn delete_schedule(&mut self, id: &ScheduleId) -> StoreResult<ItemResult<Box<ScheduleView>>> {
        let Some(row) = self.schedule_row(id)? else { return Ok(Err(Refusal::ScheduleNotFound)) };
        self.tell_schedule(EventKind::ScheduleDeleted, &row.schedule)?;
        let view = self.schedule_view(row.clone())?;
        self.delete_template(row.template)?;
        self.stmts.schedule_delete.execute([id.as_str()])?;
        self.find_next_tick()?;
        Ok(Ok(Box::new(view)))
    }

    pub(crate) fn run_schedule(&mut self, id: &ScheduleId) -> StoreResult<ItemResult<JobId>> {
        let Some(mut row) = self.schedule_row(id)? else { return Ok(Err(Refusal::ScheduleNotFound)) };
        if let Some(job) = row.schedule.last_job
            && row.schedule.overlap.admit(self.state_of(job)?) == Admission::Drop
        {
            return Ok(Err(Refusal::ScheduleJobUnfinished { job }));
        }
        let spec = self.template(row.template)?;
        let job = self.add_of(&row.schedule, &spec, None)?;
        row.schedule.last_job = Some(job);
        self.write_schedule(&row)?;
        Ok(Ok(job))
    }

    fn add_of(&mut self, schedule: &Schedule, spec: &JobSpec, tick: Option<Tick>) -> StoreResult<JobId> {
        let queue = self.queue_made(&schedule.queue)?;
        let mut new = schedule.job(spec, tick);
        if let Some(found) = self.mem.queue(queue) {
            found.settings.apply_to(&mut new);
        }
        let job = self.insert(queue, new)?.id;
        if let Some(tick) = tick {
            let key = schedule.id.key_of(tick);
            self.hold(SPACE_TICK, NO_QUEUE, &key.to_key(), key.hold(job, self.now))?;
        }
        if self.events_pending() >= EVENTS_PER_ROW {
            self.flush_events()?;
        }
        Ok(job)
    }

    /// Adds the jobs of schedules whose time has come, a bounded number.
    pub(super) fn evaluate_schedules(&mut self, work: &mut Work) -> StoreResult<()> {
        if self.schedules.next.is_none_or(|next| next > self.now) {
            return Ok(());
        }
        let limit = SCHEDULES_PER_TICK + self.schedules.set_aside.len();
        let mut found = self.stmts.schedule_due.query((self.now.as_unix_ms(), limit as i64))?;
        let mut ids: Vec<ScheduleId> = Vec::new();
        while let Some(row) = found.next()? {
            ids.extend(row.get::<_, String>(0)?.parse().ok());
        }
        drop(found);
        ids.retain(|id| !self.schedules.set_aside.contains(id));
        for id in ids {
            if work.ticks >= JOBS_PER_TICK {
                break;
            }
            match self.look_at_schedule(&id) {
                Ok(Some(evaluation)) => work.ticks += self.settle_ticks(evaluation)?,
                Ok(None) => {}
                Err(error) if error.is_damage() => self.set_schedule_aside(id, &error),
                Err(error) => return Err(error),
            }
        }
        self.find_next_tick()?;
        work.more |= self.schedules.next.is_some_and(|next| next <= self.now);
        Ok(())
    }

    /// Everything that has to be read, before anything is changed.
    fn look_at_schedule(&mut self, id: &ScheduleId) -> StoreResult<Option<Evaluation>> {
        let Some(row) = self.schedule_row(id)? else { return Ok(None) };
        let Some(due) = row.schedule.due(self.now) else {
            // What stood in the index was not so.
            row.write(&mut self.stmts.schedule_put)?;
            return Ok(None);
        };
        let spec = self.template(row.template)?;
        let previous = match row.schedule.last_job {
            Some(job) => self.state_of(job)?,
            None => None,
        };
        let mut held = BTreeSet::new();
        for tick in &due.run {
            if self.held(SPACE_TICK, NO_QUEUE, &id.key_of(*tick).to_key())?.is_some() {
                held.insert(*tick);
            }
        }
        let decision = row.schedule.decide(&due, previous, &held);
        Ok(Some(Evaluation { row, spec, due, decision }))
    }

    /// Jobs, ledger entries and the schedule's last tick, all in this transaction. Gives how many jobs.
    fn settle_ticks(&mut self, evaluation: Evaluation) -> StoreResult<u64> {
        let Evaluation { mut row, spec, due, decision } = evaluation;
        let mut last_job = None;
        for tick in &decision.add {
            last_job = Some(self.add_of(&row.schedule, &spec, Some(*tick))?);
        }
        row.schedule.settle(&due, &decision, last_job);
        let queue = self.queue_made(&row.schedule.queue)?;
        for dropped in &decision.dropped {
            let about = ScheduleEvent { id: row.schedule.id.clone(), dropped: Some(*dropped) };
            self.emit_schedule(EventKind::TicksDropped, queue, about);
        }
        row.write(&mut self.stmts.schedule_put)?;
        Ok(decision.add.len() as u64)
    }
}

//! Schedules, as cases speak of them.

use onefold_core::schedule::{
    DroppedTicks, Interval, Missed, NewSchedule, Overlap, Pattern, PutSchedule, Schedule, ScheduleId,
    ScheduleView, Template, Timing,
};
use onefold_core::{DurationMs, ItemResult, JobFilter, JobId, ListParams, NewJob, StoreEvent, Timestamp};

use crate::{Harness, queue, secs};

/// The id of a schedule.
///
/// # Panics
/// If there is no such thing.
pub fn schedule_id(text: &str) -> ScheduleId {
    text.parse().expect("a schedule id")
}

/// Ticks at every so much from an anchor on.
///
/// # Panics
/// If there is no such thing.
pub fn every(length: DurationMs, anchor: Timestamp) -> Timing {
    Timing::new(Pattern::Every(Interval::new(length, anchor).unwrap()), None, None).unwrap()
}

/// Ticks of an expression in a zone.
///
/// # Panics
/// If there is no such thing.
pub fn cron(text: &str, zone: &str) -> Timing {
    Timing::new(Pattern::cron(text, Some(zone.parse().unwrap())).unwrap(), None, None).unwrap()
}

/// A schedule that adds an empty job to `q`.
pub fn asked(timing: Timing) -> NewSchedule {
    let (missed, overlap) = (Missed::default(), Overlap::default());
    NewSchedule { timing, queue: queue("q"), missed, overlap, job: Template::default() }
}

/// What a job is, as the job of a schedule.
pub fn template(job: NewJob) -> Template {
    Template { spec: job.spec, priority: job.priority, max_attempts: job.max_attempts }
}

impl<'a> dyn Harness + 'a {
    /// A schedule `s` that ticks each minute from now on.
    pub async fn put_minutely(&self, change: impl FnOnce(&mut NewSchedule)) -> PutSchedule {
        let mut new = asked(every(secs(60), self.now()));
        change(&mut new);
        self.put_schedule("s", new).await
    }

    /// Sets the wall clock back.
    pub fn step_back(&self, by: DurationMs) {
        self.world().clock.step_to(self.now().saturating_sub(by));
    }

    /// Puts a schedule.
    pub async fn put_schedule(&self, name: &str, new: NewSchedule) -> PutSchedule {
        self.engine().put_schedule(schedule_id(name), new).await.unwrap()
    }

    /// A schedule, if it is there.
    pub async fn find_schedule(&self, name: &str) -> Option<ScheduleView> {
        self.engine().schedule(schedule_id(name)).await.unwrap()
    }

    /// A schedule, which must be there.
    pub async fn a_schedule(&self, name: &str) -> Schedule {
        self.find_schedule(name).await.expect("the schedule is there").schedule
    }

    /// Pauses a schedule or resumes it.
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> ItemResult<ScheduleView> {
        self.engine().pause_schedule(schedule_id(name), paused).await.unwrap()
    }

    /// Adds a schedule's job now.
    pub async fn run_schedule(&self, name: &str) -> ItemResult<JobId> {
        self.engine().run_schedule(schedule_id(name)).await.unwrap()
    }

    /// Deletes a schedule.
    pub async fn delete_schedule(&self, name: &str) -> ItemResult<ScheduleView> {
        self.engine().delete_schedule(schedule_id(name)).await.unwrap()
    }

    /// The nominal times of the ticks that got a job of this queue, in the order of their jobs.
    pub async fn ticks_of(&self, name: &str) -> Vec<Timestamp> {
        let filter = JobFilter { queue: Some(queue(name)), ..JobFilter::default() };
        let (mut ticks, mut before) = (Vec::new(), None);
        loop {
            let params = ListParams { filter: filter.clone(), limit: 500, before };
            let page = self.engine().list(params).await.unwrap();
            for summary in page.jobs {
                let told = summary.spec.headers.iter().find(|(name, _)| name == Schedule::TICK_HEADER);
                ticks.extend(told.map(|(_, tick)| tick.parse::<Timestamp>().unwrap()));
            }
            before = page.next;
            if before.is_none() {
                ticks.reverse();
                return ticks;
            }
        }
    }

    /// What was told of schedules.
    pub async fn events_of_schedules(&self) -> Vec<StoreEvent> {
        let mut events = self.events_since(0).await;
        events.retain(|event| event.kind.is_of_schedule());
        events
    }

    /// Ticks that were told to get no job.
    pub async fn dropped(&self) -> Vec<DroppedTicks> {
        let events = self.events_of_schedules().await;
        events.into_iter().filter_map(|event| event.schedule?.dropped).collect()
    }
}

/// Times so many seconds after another.
pub fn after(start: Timestamp, times: &[u64]) -> Vec<Timestamp> {
    times.iter().map(|s| start.saturating_add(secs(*s))).collect()
}

//! Schedules: jobs on time.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onefold_core::schedule::{
    Interval, InvalidTiming, Missed, Overlap, Pattern, Schedule as Stored, ScheduleId, Tick, TickCounts,
    Timing, Zone,
};
use onefold_core::{JobId, QueueName, Timestamp, When};

use crate::add::BoxFuture;
use crate::backend::{Backend, ToAdd, ToSchedule};
use crate::time::{to_ms, to_timestamp};
use crate::{Error, ErrorCode, Invalid};

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScheduleView {
    /// What it is called.
    pub id: String,
    /// When it ticks: [`Timing::ticks_after`] tells in advance.
    pub timing: Timing,
    /// Where its jobs go.
    pub queue: String,
    /// What becomes of ticks that nobody was there for.
    pub missed: Missed,
    /// What a tick does while the last job is unfinished.
    pub overlap: Overlap,
    /// It does not tick while set.
    pub paused: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was made, changed, paused or resumed last.
    pub changed_at: Timestamp,
    /// When it ticks next; `None` while it is paused, and once it has ended.
    pub next_tick: Option<Timestamp>,
    /// The latest tick that is settled, with or without a job.
    pub last_tick: Option<Timestamp>,
    /// The latest job it added.
    pub last_job: Option<JobId>,
    /// What became of its ticks.
    pub ticks: TickCounts,
}

impl From<&Stored> for ScheduleView {
    fn from(stored: &Stored) -> ScheduleView {
        ScheduleView {
            id: stored.id.to_string(),
            timing: stored.timing.clone(),
            queue: stored.queue.to_string(),
            missed: stored.missed,
            overlap: stored.overlap,
            paused: stored.paused,
            created_at: stored.created_at,
            changed_at: stored.changed_at,
            next_tick: stored.next().map(Tick::at),
            last_tick: stored.last_tick,
            last_job: stored.last_job,
            ticks: stored.counts,
        }
    }
}

/// Makes a schedule, or puts another in its place, when awaited: each tick adds one job, whoever evaluates it. Made by
/// [`Queue::schedule`](crate::Queue::schedule).
///
/// The same again changes nothing, so a program may set its schedules each time it starts.
#[must_use = "nothing is scheduled until this is awaited"]
pub struct SetSchedule {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) id: Result<ScheduleId, Invalid>,
    pub(crate) queue: Result<QueueName, Invalid>,
    pub(crate) job: Result<ToAdd, Invalid>,
    pattern: Option<Result<Pattern, Invalid>>,
    start: Option<Result<Timestamp, Invalid>>,
    end: Option<Result<Timestamp, Invalid>>,
    missed: Missed,
    overlap: Overlap,
}

fn refused(why: &InvalidTiming) -> Invalid {
    let (code, what) = match why {
        InvalidTiming::Cron(_) => (ErrorCode::InvalidCron, "cron"),
        InvalidTiming::Zone(_) => (ErrorCode::InvalidTimeZone, "zone"),
        InvalidTiming::Interval(_) => (ErrorCode::InvalidDuration, "every"),
        InvalidTiming::TwoZones | InvalidTiming::NotOnePattern | InvalidTiming::Anchor => {
            (ErrorCode::ConflictingFields, "timing")
        }
        InvalidTiming::NeverTicks => (ErrorCode::InvalidSchedule, "end"),
    };
    Invalid::coded(code, what, format!("cannot be used: {why}"))
}

impl SetSchedule {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        id: &str,
        queue: Result<QueueName, Invalid>,
        job: Result<ToAdd, Invalid>,
    ) -> SetSchedule {
        SetSchedule {
            backend,
            id: schedule_id(id),
            queue,
            job,
            pattern: None,
            start: None,
            end: None,
            missed: Missed::default(),
            overlap: Overlap::default(),
        }
    }

    /// Ticks by a cron expression and the clock of a zone, like `("30 2 * * *", "Europe/Berlin")`.
    pub fn cron(mut self, expression: &str, zone: &str) -> SetSchedule {
        let zone: Result<Zone, Invalid> = zone.parse().map_err(|why| refused(&InvalidTiming::Zone(why)));
        let pattern = |zone| Pattern::cron(expression, Some(zone)).map_err(|why| refused(&why));
        self.pattern = Some(zone.and_then(pattern));
        self
    }

    /// Ticks at every so much real time, from `1s` to `3650d`, counted from the start of 1970: one hour ticks on the hour.
    pub fn every(self, length: Duration) -> SetSchedule {
        self.every_from(length, SystemTime::UNIX_EPOCH)
    }

    /// The same, counted from another time.
    pub fn every_from(mut self, length: Duration, anchor: SystemTime) -> SetSchedule {
        let interval = to_ms("every", length).and_then(|length| {
            let interval = Interval::new(length, to_timestamp("anchor", anchor)?);
            interval.map_err(|why| refused(&InvalidTiming::Interval(why)))
        });
        self.pattern = Some(interval.map(Pattern::Every));
        self
    }

    /// No tick comes earlier.
    pub fn start(mut self, time: SystemTime) -> SetSchedule {
        self.start = Some(to_timestamp("start", time));
        self
    }

    /// No tick comes later.
    pub fn end(mut self, time: SystemTime) -> SetSchedule {
        self.end = Some(to_timestamp("end", time));
        self
    }

    /// What becomes of ticks that nobody was there for; one job for all unless given.
    pub fn missed(mut self, missed: Missed) -> SetSchedule {
        self.missed = missed;
        self
    }

    /// What a tick does while the last job is unfinished; it adds its job all the same unless given.
    pub fn overlap(mut self, overlap: Overlap) -> SetSchedule {
        self.overlap = overlap;
        self
    }

    fn finish(self) -> Result<(Arc<dyn Backend>, ScheduleId, ToSchedule), Invalid> {
        let needed = || Invalid::coded(ErrorCode::MissingField, "cron or every", "must be given");
        let pattern = self.pattern.ok_or_else(needed)??;
        let (start, end) = (self.start.transpose()?, self.end.transpose()?);
        let timing = Timing::new(pattern, start, end).map_err(|why| refused(&why))?;
        let job = self.job?;
        let own = job.job.spec.key.is_some() || job.fingerprint.is_some() || job.job.when != When::Now;
        if own || job.job.window_given {
            let rule = "must have no key, fingerprint, dedup, delay or time: its tick is its identity";
            return Err(Invalid::coded(ErrorCode::InvalidSchedule, "the job of a schedule", rule));
        }
        check_headers(&job.job.spec.headers)?;
        let (missed, overlap) = (self.missed, self.overlap);
        Ok((self.backend, self.id?, ToSchedule { timing, queue: self.queue?, missed, overlap, job }))
    }
}

/// Every job of a schedule has two headers already.
fn check_headers(headers: &[(String, String)]) -> Result<(), Invalid> {
    const OURS: [&str; 2] = [Stored::ID_HEADER, Stored::TICK_HEADER];
    let is_ours = |(name, _): &(String, String)| OURS.iter().any(|our| name.eq_ignore_ascii_case(our));
    if headers.len() + OURS.len() > onefold_core::limits::HEADERS_MAX || headers.iter().any(is_ours) {
        let rule = "must leave room for schedule-id and schedule-tick, which every job of a schedule has";
        return Err(Invalid::coded(ErrorCode::InvalidHeader, "a header", rule));
    }
    Ok(())
}

fn schedule_id(id: &str) -> Result<ScheduleId, Invalid> {
    id.parse().map_err(|why| {
        Invalid::coded(ErrorCode::InvalidScheduleId, "a schedule", format!("is refused: {why}"))
    })
}

impl IntoFuture for SetSchedule {
    type Output = Result<ScheduleView, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (backend, id, schedule) = self.finish()?;
            backend.put_schedule(id, schedule).await
        })
    }
}

impl std::fmt::Debug for SetSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSchedule")
            .field("id", &self.id)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// A schedule that may be there. Made by [`Onefold::schedule`](crate::Onefold::schedule).
#[derive(Clone)]
pub struct Schedule {
    backend: Arc<dyn Backend>,
    id: Result<ScheduleId, Invalid>,
}

impl Schedule {
    pub(crate) fn new(backend: Arc<dyn Backend>, id: &str) -> Schedule {
        Schedule { backend, id: schedule_id(id) }
    }

    fn id(&self) -> Result<ScheduleId, Error> {
        Ok(self.id.clone()?)
    }

    /// The schedule as it stands; `None` if there is none.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self) -> Result<Option<ScheduleView>, Error> {
        self.backend.schedule(self.id()?).await
    }

    /// Lets it not tick until [`Schedule::resume`].
    ///
    /// # Errors
    /// `schedule-not-found`, and the store's.
    pub async fn pause(&self) -> Result<ScheduleView, Error> {
        self.backend.pause_schedule(self.id()?, true).await
    }

    /// Lets it tick again, from now on.
    ///
    /// # Errors
    /// `schedule-not-found`, and the store's.
    pub async fn resume(&self) -> Result<ScheduleView, Error> {
        self.backend.pause_schedule(self.id()?, false).await
    }

    /// Adds its job now, beside its ticks.
    ///
    /// # Errors
    /// `schedule-not-found`, `schedule-job-unfinished` under [`Overlap::Skip`], and the store's.
    pub async fn run(&self) -> Result<JobId, Error> {
        self.backend.run_schedule(self.id()?).await
    }

    /// Deletes it. Its jobs stay.
    ///
    /// # Errors
    /// `schedule-not-found`, and the store's.
    pub async fn delete(&self) -> Result<ScheduleView, Error> {
        self.backend.delete_schedule(self.id()?).await
    }
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule").field("id", &self.id).finish_non_exhaustive()
    }
}

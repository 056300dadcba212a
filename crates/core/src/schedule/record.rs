//! A schedule as it is stored, and what an evaluation makes of it. Pure: engines load, ask, and store.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Admission, Dropped, Due, Missed, Overlap, ScheduleId, Settled, Tick, Timing};
use crate::state::words;
use crate::{Group, JobId, JobSpec, NewJob, QueueName, State, Timestamp, When};

/// What a schedule is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSchedule {
    /// When it ticks.
    pub timing: Timing,
    /// Where its jobs go.
    pub queue: QueueName,
    /// What becomes of ticks that nobody was there for.
    pub missed: Missed,
    /// What a tick does beside an unfinished job.
    pub overlap: Overlap,
    /// What each tick adds.
    pub job: Template,
}

/// The job of every tick: everything an add may have but a key, dedup options and a time of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// What it is. Its key is `None`: the tick is the job's identity.
    pub spec: JobSpec,
    /// Lower first.
    pub priority: i16,
    /// Failures plus lost leases that end it, or the queue's setting, or the default.
    pub max_attempts: Option<u32>,
}

words! {
    /// Why a tick got no job.
    DropReason {
        /// It was noticed too late: nobody served the store.
        Missed = "missed",
        /// The schedule's last job was unfinished.
        Overlap = "overlap",
    }
}

/// Ticks that got no job, as they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedTicks {
    /// Why.
    pub reason: DropReason,
    /// How many, or [`Timing::COUNTED_MAX`] if there are more.
    pub count: u64,
    /// Whether there are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The nominal time of the oldest.
    pub first: Timestamp,
    /// The nominal time of the latest.
    pub last: Timestamp,
}

/// What an event about a schedule tells beside its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEvent {
    /// Which schedule.
    pub id: ScheduleId,
    /// Ticks that got no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<DroppedTicks>,
}

/// What became of the ticks of a schedule since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TickCounts {
    /// Got a job.
    pub added: u64,
    /// Were missed and dropped; at least so many.
    pub missed: u64,
    /// Were dropped because the last job was unfinished.
    pub overlapped: u64,
}

/// A schedule, but for the content of its job, which engines store as they store any job's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// What it is called.
    pub id: ScheduleId,
    /// When it ticks.
    pub timing: Timing,
    /// Where its jobs go.
    pub queue: QueueName,
    /// What becomes of ticks that nobody was there for.
    pub missed: Missed,
    /// What a tick does beside an unfinished job.
    pub overlap: Overlap,
    /// The priority of its jobs.
    pub priority: i16,
    /// See [`Template::max_attempts`].
    pub max_attempts: Option<u32>,
    /// It does not tick while set.
    pub paused: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was made, changed, paused or resumed last.
    pub changed_at: Timestamp,
    /// Ticks up to here are settled.
    pub settled: Settled,
    /// The latest tick that was settled, with or without a job.
    pub last_tick: Option<Timestamp>,
    /// The latest job it added.
    pub last_job: Option<JobId>,
    /// What became of its ticks.
    pub counts: TickCounts,
}

/// What an evaluation has to do, in one transaction with [`Schedule::settle`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Ticks that get a job, oldest first.
    pub add: Vec<Tick>,
    /// Ticks that get none, to be told.
    pub dropped: Vec<DroppedTicks>,
}

impl Schedule {
    /// The header of a schedule's job that names the schedule.
    pub const ID_HEADER: &'static str = "schedule-id";
    /// The header of a tick's job that tells the tick's nominal time.
    pub const TICK_HEADER: &'static str = "schedule-tick";

    /// A schedule that begins at `now`.
    pub fn new(id: ScheduleId, new: &NewSchedule, now: Timestamp) -> Schedule {
        Schedule {
            id,
            timing: new.timing.clone(),
            queue: new.queue.clone(),
            missed: new.missed,
            overlap: new.overlap,
            priority: new.job.priority,
            max_attempts: new.job.max_attempts,
            paused: false,
            created_at: now,
            changed_at: now,
            settled: Settled::up_to(now),
            last_tick: None,
            last_job: None,
            counts: TickCounts::default(),
        }
    }

    /// The schedule once it is put again. With another timing it begins anew; with the same one, what is due stays due, so
    /// that whoever puts its schedules at every start loses no tick.
    #[must_use]
    pub fn redefined(&self, new: &NewSchedule, now: Timestamp) -> Schedule {
        let settled = if new.timing == self.timing { self.settled } else { self.settled.renewed(now) };
        Schedule {
            paused: self.paused,
            created_at: self.created_at,
            settled,
            last_tick: self.last_tick,
            last_job: self.last_job,
            counts: self.counts,
            ..Schedule::new(self.id.clone(), new, now)
        }
    }

    /// Pauses or resumes it. Says whether that changed anything.
    pub fn set_paused(&mut self, paused: bool, now: Timestamp) -> bool {
        if self.paused == paused {
            return false;
        }
        (self.paused, self.changed_at) = (paused, now);
        if !paused {
            self.settled = self.settled.renewed(now);
        }
        true
    }

    /// When to evaluate it next: `None` while it is paused, and once it has ended.
    pub fn next(&self) -> Option<Tick> {
        if self.paused { None } else { self.timing.next_after(self.settled.time()) }
    }

    /// What it wants at `now`; `None` if nothing, as while it is paused.
    pub fn due(&self, now: Timestamp) -> Option<Due> {
        self.next().filter(|tick| tick.at() <= now)?;
        Some(self.timing.due(self.missed, self.settled, now))
    }

    /// Which of the ticks that are due get a job. `previous` is where [`Schedule::last_job`] stands, `None` if its row is
    /// gone; `held` are the due ticks whose key is held, so that they have their job already (I9).
    pub fn decide(&self, due: &Due, previous: Option<State>, held: &BTreeSet<Tick>) -> Decision {
        let mut decision = Decision::default();
        decision.dropped.extend(due.dropped.map(|dropped| DroppedTicks::of(DropReason::Missed, &dropped)));
        let mut previous = previous;
        let mut overlapped: Option<Dropped> = None;
        for tick in due.run.iter().copied().filter(|tick| !held.contains(tick)) {
            match self.overlap.admit(previous) {
                Admission::Add | Admission::AddInTurn => {
                    decision.add.push(tick);
                    previous = Some(State::Available);
                }
                Admission::Drop => {
                    let so_far =
                        overlapped.unwrap_or(Dropped { count: 0, more: false, first: tick, last: tick });
                    overlapped = Some(Dropped { count: so_far.count + 1, last: tick, ..so_far });
                }
            }
        }
        decision.dropped.extend(overlapped.map(|dropped| DroppedTicks::of(DropReason::Overlap, &dropped)));
        decision
    }

    /// The schedule once the ticks that are due were dealt with: `last_job` is the latest job that was added for them.
    pub fn settle(&mut self, due: &Due, decision: &Decision, last_job: Option<JobId>) {
        self.settled = due.settled;
        self.last_tick = Some(due.settled.time());
        self.last_job = last_job.or(self.last_job);
        self.counts.added += decision.add.len() as u64;
        for dropped in &decision.dropped {
            match dropped.reason {
                DropReason::Missed => self.counts.missed += dropped.count,
                DropReason::Overlap => self.counts.overlapped += dropped.count,
            }
        }
    }

    /// The job it adds: for a tick, or because somebody wants it now.
    pub fn job(&self, spec: &JobSpec, tick: Option<Tick>) -> NewJob {
        let mut spec = spec.clone();
        if self.overlap == Overlap::Queue {
            spec.group = Some(self.group());
        }
        spec.headers.push((Schedule::ID_HEADER.to_owned(), self.id.to_string()));
        spec.headers.extend(tick.map(|tick| (Schedule::TICK_HEADER.to_owned(), tick.at().to_string())));
        NewJob {
            spec,
            when: When::Now,
            priority: self.priority,
            max_attempts: self.max_attempts,
            ..NewJob::default()
        }
    }

    /// The group whose jobs run one at a time under [`Overlap::Queue`].
    #[allow(
        clippy::expect_used,
        reason = "nine characters and an id of at most 128, of 255 that a group may have; none is a control"
    )]
    pub fn group(&self) -> Group {
        Group::new(format!("schedule:{}", self.id)).expect("the name of a group is short and has no controls")
    }
}

impl DroppedTicks {
    fn of(reason: DropReason, dropped: &Dropped) -> DroppedTicks {
        let Dropped { count, more, first, last } = *dropped;
        DroppedTicks { reason, count, more, first: first.at(), last: last.at() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Pattern;
    use crate::{DurationMs, Seq};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn new(cron: &str, overlap: Overlap) -> NewSchedule {
        NewSchedule {
            timing: Timing::new(Pattern::cron(cron, None).unwrap(), None, None).unwrap(),
            queue: QueueName::new("q").unwrap(),
            missed: Missed::All,
            overlap,
            job: Template::default(),
        }
    }

    fn made(cron: &str, overlap: Overlap) -> Schedule {
        Schedule::new("s".parse().unwrap(), &new(cron, overlap), time("2026-01-01T00:00:00Z"))
    }

    /// T-11: with the same timing nothing due is lost, with another one nothing is wanted for the time before.
    #[test]
    fn only_another_timing_begins_anew() {
        let schedule = made("@hourly", Overlap::Allow);
        let now = time("2026-01-01T02:30:00Z");
        let same = schedule.redefined(&new("@hourly", Overlap::Skip), now);
        assert_eq!(same.due(now).map(|due| due.run.len()), Some(2));
        let other = schedule.redefined(&new("15 * * * *", Overlap::Allow), now);
        assert_eq!((other.due(now), other.next().map(Tick::at)), (None, Some(time("2026-01-01T03:15:00Z"))));
    }

    #[test]
    fn a_pause_is_nobodys_time_and_is_ended_once() {
        let mut schedule = made("@hourly", Overlap::Allow);
        assert!(schedule.set_paused(true, time("2026-01-01T00:30:00Z")));
        let now = time("2026-01-01T05:30:00Z");
        assert_eq!((schedule.next(), schedule.due(now)), (None, None));
        assert!(schedule.set_paused(false, now));
        assert_eq!(
            (schedule.due(now), schedule.next().map(Tick::at)),
            (None, Some(time("2026-01-01T06:00:00Z")))
        );
        // Resuming what runs would make it forget what is due.
        let later = time("2026-01-01T07:30:00Z");
        assert!(!schedule.set_paused(false, later));
        assert_eq!(schedule.due(later).map(|due| due.run.len()), Some(2));
    }

    /// T-12, ticks that are due together: each is the previous of the next.
    #[test]
    fn ticks_due_together_meet_the_overlap_one_after_another() {
        let now = time("2026-01-01T03:30:00Z");
        let ticks = |overlap, previous| {
            let schedule = made("@hourly", overlap);
            let decision = schedule.decide(&schedule.due(now).unwrap(), previous, &BTreeSet::new());
            (decision.add.len(), decision.dropped.iter().map(|dropped| dropped.count).sum::<u64>())
        };
        assert_eq!(ticks(Overlap::Allow, Some(State::Running)), (3, 0));
        assert_eq!(ticks(Overlap::Queue, Some(State::Running)), (3, 0));
        assert_eq!(ticks(Overlap::Skip, Some(State::Running)), (0, 3));
        assert_eq!(ticks(Overlap::Skip, Some(State::Completed)), (1, 2));
        assert_eq!(ticks(Overlap::Skip, None), (1, 2));
    }

    /// I9: a tick whose key is held has its job, whatever the schedule remembers.
    #[test]
    fn a_tick_that_has_its_job_gets_no_other() {
        let mut schedule = made("@hourly", Overlap::Allow);
        let due = schedule.due(time("2026-01-01T03:30:00Z")).unwrap();
        let held: BTreeSet<Tick> = due.run.iter().copied().take(2).collect();
        let decision = schedule.decide(&due, None, &held);
        assert_eq!((decision.add.as_slice(), decision.dropped.len()), (&due.run[2..], 0));
        let job = JobId::new(time("2026-01-01T03:30:00Z"), Seq::new(7).unwrap());
        schedule.settle(&due, &decision, Some(job));
        assert_eq!(schedule.last_tick, Some(time("2026-01-01T03:00:00Z")));
        assert_eq!((schedule.last_job, schedule.counts.added), (Some(job), 1));
        assert_eq!(schedule.due(time("2026-01-01T03:59:59Z")), None);
    }

    #[test]
    fn a_job_says_which_tick_it_is_and_queues_in_its_schedules_group() {
        let schedule = made("@hourly", Overlap::Queue);
        let due = schedule.due(time("2026-01-01T01:00:00Z")).unwrap();
        let job = schedule.job(&JobSpec::default(), due.run.first().copied());
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            job.spec.headers,
            [header("schedule-id", "s"), header("schedule-tick", "2026-01-01T01:00:00.000Z")]
        );
        assert_eq!(job.spec.group.map(|group| group.as_str().to_owned()), Some("schedule:s".to_owned()));
        let by_hand = made("@hourly", Overlap::Allow).job(&JobSpec::default(), None);
        assert_eq!((by_hand.spec.headers.len(), by_hand.spec.group), (1, None));
    }

    #[test]
    fn a_schedule_survives_json() {
        let mut schedule = made("*/5 1 * * *", Overlap::Skip);
        schedule.timing = Timing::new(
            Pattern::Every(
                crate::schedule::Interval::new(DurationMs::from_ms(90_000), Timestamp::EPOCH).unwrap(),
            ),
            None,
            Some(time("2030-01-01T00:00:00Z")),
        )
        .unwrap();
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}

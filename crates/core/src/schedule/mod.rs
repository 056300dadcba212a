//! What a schedule is and when it ticks, without I/O or clock: `docs/guide/schedules.md` has the rules
//! with examples, and a test reads them there.
//!
//! A [`Timing`] is a [`Pattern`] (a [`Cron`] expression in a [`Zone`], or an [`Interval`]) between an optional start
//! and end. It says which [`Tick`] comes next and which came last. [`Timing::due`] decides what an evaluation
//! at some moment has to add, given what is [`Settled`]; [`Overlap::admit`] whether a tick's job may be added beside
//! an unfinished one; [`ScheduleId::key_of`] is the key by which a tick has at most one job (I9). A [`Schedule`] puts these
//! together for engines, which keep it and do what it says: [`Schedules`].

mod calendar;
mod contract;
mod cron;
mod due;
mod grammar;
mod identity;
mod interval;
mod overlap;
mod record;
mod timing;
mod zone;

pub use contract::{ListSchedules, PutSchedule, SchedulePage, ScheduleView, Schedules};
pub use cron::Cron;
pub use due::{Dropped, Due, Missed, Settled};
pub use grammar::{Field, InvalidCron};
pub use identity::{InvalidScheduleId, ScheduleId, TickKey};
pub use interval::{Interval, InvalidInterval};
pub use overlap::{Admission, Overlap};
pub use record::{
    Decision, DropReason, DroppedTicks, NewSchedule, Schedule, ScheduleEvent, Template, TickCounts,
};
pub use timing::{InvalidTiming, Pattern, Tick, Ticks, Timing};
pub use zone::{InvalidZone, Zone, tz_database_version};

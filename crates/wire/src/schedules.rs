//! Schedules: jobs that are added on time.

use serde::{Deserialize, Serialize};

use crate::{NewJob, Span, Text};

/// `PUT /v1/schedules/{id}`: the whole schedule. Either `cron` or `every`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSchedule<'a> {
    /// Five fields, or `@daily` and its like; `L`, `W` and `#` are understood.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Text<'a>>,
    /// The IANA name of the zone whose clock `cron` goes by; UTC unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Text<'a>>,
    /// A length of real time between ticks, from `1s` to `3650d`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span<'a>>,
    /// One of the ticks of `every`, from which the others are counted; 1970-01-01T00:00:00Z unless given.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Text<'a>>,
    /// No tick comes earlier (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Text<'a>>,
    /// No tick comes later (RFC 3339).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Text<'a>>,
    /// Where its jobs go.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// What each tick adds: a job without `key`, `fingerprint`, `dedup`, `delay` and `run_at`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub job: Option<NewJob<'a>>,
    /// What becomes of ticks that nobody was there for: `once` (default), `skip` or `all`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Text<'a>>,
    /// What a tick does while the last job is unfinished: `allow` (default), `skip` or `queue`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Text<'a>>,
}

/// A schedule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedule<'a> {
    /// What it is called.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Its expression, if it has one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Text<'a>>,
    /// The zone whose clock the expression goes by.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<Text<'a>>,
    /// Its interval, if it has one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span<'a>>,
    /// From when the interval is counted.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Text<'a>>,
    /// No tick comes earlier.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Text<'a>>,
    /// No tick comes later.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Text<'a>>,
    /// Where its jobs go.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// What each tick adds; in a list its payload is left out.
    #[serde(borrow)]
    pub job: NewJob<'a>,
    /// What becomes of ticks that nobody was there for.
    #[serde(borrow)]
    pub missed: Text<'a>,
    /// What a tick does while the last job is unfinished.
    #[serde(borrow)]
    pub overlap: Text<'a>,
    /// It does not tick while set.
    pub paused: bool,
    /// When it was made.
    #[serde(borrow)]
    pub created_at: Text<'a>,
    /// When it was made, changed, paused or resumed last.
    #[serde(borrow)]
    pub changed_at: Text<'a>,
    /// When it ticks next; absent while it is paused, and once it has ended.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub next_tick: Option<Text<'a>>,
    /// The latest tick that is settled, with or without a job; it never goes back.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub last_tick: Option<Text<'a>>,
    /// The latest job it added.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub last_job: Option<Text<'a>>,
    /// What became of its ticks.
    pub ticks: TickCounts,
}

/// What became of the ticks of a schedule since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TickCounts {
    /// Got a job.
    pub added: u64,
    /// Were missed and dropped; at least so many.
    pub missed: u64,
    /// Were dropped because the last job was unfinished.
    pub overlapped: u64,
}

/// Ticks of a schedule that got no job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DroppedTicks<'a> {
    /// `missed` or `overlap`.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// How many; with `more`, at least so many.
    pub count: u64,
    /// There are more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The nominal time of the oldest.
    #[serde(borrow)]
    pub first: Text<'a>,
    /// The nominal time of the latest.
    #[serde(borrow)]
    pub last: Text<'a>,
}

/// `GET /v1/schedules`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleList<'a> {
    /// By their ids.
    #[serde(borrow)]
    pub schedules: Vec<Schedule<'a>>,
    /// Where to go on; absent at the end.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Text<'a>>,
}

/// `GET /v1/schedules/{id}/next`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NextTicks<'a> {
    /// When it will tick, were it not paused.
    #[serde(borrow)]
    pub ticks: Vec<Text<'a>>,
}

/// `POST /v1/schedules/{id}/run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleRun<'a> {
    /// The job that was added.
    #[serde(borrow)]
    pub id: Text<'a>,
}

//! Schedules.

use onefold_core::Seq;
use onefold_core::schedule::{Pattern, Schedule, Tick, tz_database_version};
use rusqlite::{Row, Statement};

use super::{Checksum, bad, opt_bytes, seq, text};
use crate::error::{StoreError, StoreResult};

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScheduleRow {
    pub(crate) schedule: Schedule,
    /// Where the spec of its jobs stands.
    pub(crate) template: Seq,
}

fn crc(id: &str, template: i64, json: &[u8]) -> i64 {
    Checksum::new().bytes(Some(id.as_bytes())).int(Some(template)).bytes(Some(json)).finish()
}

impl ScheduleRow {
    /// Writes it with `schedule_put`.
    pub(crate) fn write(&self, stmt: &mut Statement<'_>) -> StoreResult<()> {
        let ScheduleRow { schedule, template } = self;
        let json = serde_json::to_string(schedule).map_err(|_| bad("schedule"))?;
        let (id, template) = (schedule.id.as_str(), template.get() as i64);
        let tz = match schedule.timing.pattern() {
            Pattern::Cron { .. } => Some(tz_database_version()),
            Pattern::Every(_) => None,
        };
        let next = schedule.next().map(Tick::at).map(|at| at.as_unix_ms());
        stmt.execute((id, template, next, tz, &json, crc(id, template, json.as_bytes())))?;
        Ok(())
    }
}

/// Reads a schedule selected with id, template, schedule and checksum.
pub(crate) fn read_schedule(row: &Row<'_>) -> StoreResult<ScheduleRow> {
    let id = text(opt_bytes(row, 0)?.unwrap_or_default())?;
    let (template, json): (i64, _) = (row.get(1)?, opt_bytes(row, 2)?.unwrap_or_default());
    if crc(id, template, json) != row.get::<_, i64>(3)? {
        return Err(StoreError::corrupt(format!("schedule {id} does not match its checksum")));
    }
    let schedule: Schedule = serde_json::from_slice(json).map_err(|_| bad("schedule"))?;
    Ok(ScheduleRow { schedule, template: seq(template)? })
}

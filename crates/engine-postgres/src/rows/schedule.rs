//! Schedules.

use onefold_core::schedule::{Pattern, Schedule, tz_database_version};
use tokio_postgres::Row;

use crate::error::{Outcome, corrupt};
use crate::params;
use crate::pool::Params;

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScheduleRow {
    pub(crate) schedule: Schedule,
    /// Where the spec of its jobs stands.
    pub(crate) template: i64,
}

impl ScheduleRow {
    /// When to evaluate it next.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.schedule.next().map(|tick| tick.at().as_unix_ms())
    }

    fn tz(&self) -> Option<String> {
        match self.schedule.timing.pattern() {
            Pattern::Cron { .. } => Some(tz_database_version().to_owned()),
            Pattern::Every(_) => None,
        }
    }

    fn json(&self) -> Outcome<String> {
        serde_json::to_string(&self.schedule).map_err(|_| corrupt("a schedule that cannot be written"))
    }

    /// The columns of a new one.
    pub(crate) fn columns(&self) -> Outcome<Params> {
        let id = self.schedule.id.as_str().to_owned();
        Ok(params![id, self.template, self.next_ms(), self.tz(), self.json()?])
    }
}

/// The columns of several.
pub(crate) fn schedule_columns(rows: &[ScheduleRow]) -> Outcome<Params> {
    let json = rows.iter().map(ScheduleRow::json).collect::<Outcome<Vec<String>>>()?;
    Ok(params![
        rows.iter().map(|row| row.schedule.id.as_str().to_owned()).collect::<Vec<_>>(),
        rows.iter().map(|row| row.template).collect::<Vec<_>>(),
        rows.iter().map(ScheduleRow::next_ms).collect::<Vec<_>>(),
        rows.iter().map(ScheduleRow::tz).collect::<Vec<_>>(),
        json,
    ])
}

/// Reads one that was selected with id, template and schedule.
pub(crate) fn read_schedule(row: &Row) -> Outcome<ScheduleRow> {
    let id: &str = row.try_get(0)?;
    let schedule: Schedule = serde_json::from_str(row.try_get(2)?)
        .map_err(|error| corrupt(&format!("the schedule {id}: {error}")))?;
    Ok(ScheduleRow { schedule, template: row.try_get(1)? })
}

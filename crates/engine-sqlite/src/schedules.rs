//! The part of the contract that is about schedules: looking on readers' connections, changing in the writer.

use onefold_core::schedule::{
    ListSchedules, NewSchedule, PutSchedule, ScheduleId, SchedulePage, ScheduleView, Schedules,
};
use onefold_core::{BoxFuture, EngineResult, ItemResult, JobId, Payload};
use rusqlite::Connection;

use crate::SqliteEngine;
use crate::error::StoreResult;
use crate::reader::read_spec;
use crate::rows::{ScheduleRow, read_schedule};
use crate::writer::Command;

/// One schedule.
pub(crate) fn one(conn: &Connection, id: &ScheduleId) -> StoreResult<Option<ScheduleView>> {
    let conn = conn.unchecked_transaction()?;
    let mut stmt = conn.prepare_cached(include_str!("../sql/schedule_select.sql"))?;
    let mut found = stmt.query([id.as_str()])?;
    let Some(row) = found.next()?.map(read_schedule).transpose()? else { return Ok(None) };
    view(&conn, row).map(Some)
}

/// A page of schedules, without the payloads of their jobs.
pub(crate) fn page(conn: &Connection, params: &ListSchedules) -> StoreResult<SchedulePage> {
    let conn = conn.unchecked_transaction()?;
    let after = params.after.as_ref().map_or("", ScheduleId::as_str);
    let mut stmt = conn.prepare_cached(include_str!("../sql/schedule_page.sql"))?;
    let mut found = stmt.query((after, i64::from(params.limit) + 1))?;
    let mut page = SchedulePage::default();
    while let Some(row) = found.next()? {
        if page.schedules.len() == params.limit as usize {
            page.more = true;
            break;
        }
        let mut view = view(&conn, read_schedule(row)?)?;
        view.job.payload = Payload::Absent;
        page.schedules.push(view);
    }
    Ok(page)
}

fn view(conn: &Connection, row: ScheduleRow) -> StoreResult<ScheduleView> {
    Ok(ScheduleView { job: read_spec(conn, row.template)?, schedule: row.schedule })
}

impl Schedules for SqliteEngine {
    fn put_schedule(&self, id: ScheduleId, new: NewSchedule) -> BoxFuture<'_, EngineResult<PutSchedule>> {
        self.ask(|answer| Command::PutSchedule(id, Box::new(new), answer))
    }

    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<Option<ScheduleView>>> {
        self.query(move |conn, _| one(conn, &id))
    }

    fn schedules(&self, params: ListSchedules) -> BoxFuture<'_, EngineResult<SchedulePage>> {
        self.query(move |conn, _| page(conn, &params))
    }

    fn pause_schedule(
        &self,
        id: ScheduleId,
        paused: bool,
    ) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.ask(|answer| Command::PauseSchedule(id, paused, answer))
    }

    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<JobId>>> {
        self.ask(|answer| Command::RunSchedule(id, answer))
    }

    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, EngineResult<ItemResult<ScheduleView>>> {
        self.ask(|answer| Command::DeleteSchedule(id, answer))
    }
}

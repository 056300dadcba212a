//! Schedules.

use axum::extract::State;
use http::StatusCode;
use onefold_core::limits;
use onefold_core::schedule::{ListSchedules, ScheduleId, Tick};
use onefold_wire::{self as wire, ErrorCode, NextTicks, ScheduleList, ScheduleRun, Text};

use crate::answer::{json, ok};
use crate::extract::{InPath, JsonBody, NoQuery, Query};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::add::Around;
use crate::translate::schedule::{new_schedule, view};

/// Ticks a preview has unless told otherwise, and at the most.
const NEXT_DEFAULT: u32 = 10;
const NEXT_MAX: u32 = 1_000;

fn schedule_id(text: &str) -> Result<ScheduleId, Failure> {
    text.parse().map_err(|why| Failure::field(ErrorCode::InvalidScheduleId, "id", why))
}

fn number(query: &mut Query, name: &'static str, default: u32, max: u32) -> Result<u32, Failure> {
    match query.one(name)?.map(|given| given.parse::<u32>()) {
        None => Ok(default),
        Some(Ok(number)) if (1..=max).contains(&number) => Ok(number),
        Some(_) => Err(Failure::field(ErrorCode::InvalidField, name, format!("this is 1 to {max}"))),
    }
}

/// Schedules, by their ids.
#[utoipa::path(
    get,
    operation_id = "listSchedules",
    path = "/v1/schedules",
    tag = "Schedules",
    params(
        ("cursor" = Option<String>, Query, description = "Of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 unless given"),
    ),
    responses((status = 200, description = "By id, payloads left out", body = ScheduleList<'static>)),
)]
pub(crate) async fn list(State(app): State<AppState>, mut query: Query) -> Answer {
    let limit = number(&mut query, "limit", limits::LIST_JOBS_DEFAULT, limits::LIST_JOBS_MAX)?;
    let after = query.one("cursor")?.map(|cursor| {
        let why = "this is not a cursor: use the one of the page before, unchanged";
        cursor.parse().map_err(|_| Failure::field(ErrorCode::InvalidCursor, "cursor", why))
    });
    query.finish()?;
    let page = app.engine().schedules(ListSchedules { after: after.transpose()?, limit }).await?;
    let last = page.schedules.last().filter(|_| page.more);
    let cursor = last.map(|view| Text::from(view.schedule.id.as_str()));
    let schedules = page.schedules.iter().map(view).collect::<Result<_, Failure>>()?;
    Ok(ok(&ScheduleList { schedules, cursor }))
}

/// One schedule.
#[utoipa::path(
    get,
    operation_id = "getSchedule",
    path = "/v1/schedules/{id}",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The schedule", body = wire::Schedule<'static>)),
)]
pub(crate) async fn get(State(app): State<AppState>, InPath(id): InPath<String>, _: NoQuery) -> Answer {
    let schedule = app.engine().schedule(schedule_id(&id)?).await?;
    Ok(ok(&view(&schedule.ok_or_else(Failure::schedule_not_found)?)?))
}

/// Makes a schedule, or puts another in its place; the same again changes nothing.
#[utoipa::path(
    put,
    operation_id = "putSchedule",
    path = "/v1/schedules/{id}",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    request_body = wire::NewSchedule<'static>,
    responses(
        (status = 201, description = "Made", body = wire::Schedule<'static>),
        (status = 200, description = "As it is now", body = wire::Schedule<'static>),
    ),
)]
pub(crate) async fn put(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let id = schedule_id(&id)?;
    let around = Around {
        body: &body.bytes,
        traceparent: None,
        payload_bytes_max: app.config().payload_bytes_max,
        delivers: app.delivers(),
    };
    let new = new_schedule(body.read()?, &around)?;
    let put = app.engine().put_schedule(id, new).await?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &view(&put.view)?))
}

/// Deletes a schedule. Its jobs stay.
#[utoipa::path(
    delete,
    operation_id = "deleteSchedule",
    path = "/v1/schedules/{id}",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "Gone; as it was last", body = wire::Schedule<'static>)),
)]
pub(crate) async fn delete(State(app): State<AppState>, InPath(id): InPath<String>, _: NoQuery) -> Answer {
    let deleted = app.engine().delete_schedule(schedule_id(&id)?).await??;
    Ok(ok(&view(&deleted)?))
}

/// Lets a schedule not tick.
#[utoipa::path(
    post,
    operation_id = "pauseSchedule",
    path = "/v1/schedules/{id}/pause",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The schedule as it is now", body = wire::Schedule<'static>)),
)]
pub(crate) async fn pause(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    set_paused(&app, &id, &body, true).await
}

/// Lets a schedule tick again, from now on.
#[utoipa::path(
    post,
    operation_id = "resumeSchedule",
    path = "/v1/schedules/{id}/resume",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The schedule as it is now", body = wire::Schedule<'static>)),
)]
pub(crate) async fn resume(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    set_paused(&app, &id, &body, false).await
}

async fn set_paused(app: &AppState, id: &str, body: &JsonBody, paused: bool) -> Answer {
    let id = schedule_id(id)?;
    body.read::<wire::Empty>()?;
    Ok(ok(&view(&app.engine().pause_schedule(id, paused).await??)?))
}

/// Adds the schedule's job now, beside its ticks.
#[utoipa::path(
    post,
    operation_id = "runSchedule",
    path = "/v1/schedules/{id}/run",
    tag = "Schedules",
    params(("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 201, description = "The job that was added", body = ScheduleRun<'static>)),
)]
pub(crate) async fn run(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let id = schedule_id(&id)?;
    body.read::<wire::Empty>()?;
    let job = app.engine().run_schedule(id).await??;
    Ok(json(StatusCode::CREATED, &ScheduleRun { id: Text::from(job.to_string()) }))
}

/// When a schedule will tick, were it not paused.
#[utoipa::path(
    get,
    operation_id = "nextTicks",
    path = "/v1/schedules/{id}/next",
    tag = "Schedules",
    params(
        ("id" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`"),
        ("n" = Option<u32>, Query, description = "How many, 1 to 1,000; 10 unless given"),
    ),
    responses((status = 200, description = "In order; fewer if it ends before", body = NextTicks<'static>)),
)]
pub(crate) async fn next(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    mut query: Query,
) -> Answer {
    let id = schedule_id(&id)?;
    let n = number(&mut query, "n", NEXT_DEFAULT, NEXT_MAX)?;
    query.finish()?;
    let schedule = app.engine().schedule(id).await?.ok_or_else(Failure::schedule_not_found)?.schedule;
    let after = schedule.settled.renewed(app.clock().now()).time();
    let ticks = schedule.timing.ticks_after(after).take(n as usize);
    let ticks = ticks.map(Tick::at).map(|at| Text::from(at.to_string())).collect();
    Ok(ok(&NextTicks { ticks }))
}

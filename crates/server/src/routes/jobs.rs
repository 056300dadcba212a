//! Looking at jobs and changing them.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use onefold_core::{DurationMs, ItemResult, JobEdit, JobView, ListParams, State as JobState, limits};
use onefold_wire::{self as wire, ErrorCode, JobList, JobPending, JobResult, Text};

use crate::answer::{json, ok, raw};
use crate::cursor::Cursor;
use crate::extract::{InPath, JsonBody, NoQuery, Query, job_id};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::job::{summary, view};
use crate::translate::{filter, wait};

fn shown(outcome: ItemResult<JobView>) -> Answer {
    Ok(ok(&view(&outcome?)?))
}

/// Everything about a job.
#[utoipa::path(
    get,
    operation_id = "getJob",
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses((status = 200, description = "Everything about it", body = wire::Job<'static>)),
)]
pub(crate) async fn get(State(app): State<AppState>, InPath(id): InPath<String>, _: NoQuery) -> Answer {
    let job = app.engine().get(job_id(&id)?).await?.ok_or_else(Failure::job_not_found)?;
    Ok(ok(&view(&job)?))
}

/// Jobs, newest first.
#[utoipa::path(
    get,
    operation_id = "listJobs",
    path = "/v1/jobs",
    tag = "Jobs",
    params(
        ("queue" = Option<String>, Query, description = "In this queue"),
        ("state" = Option<String>, Query, description = "In one of these states, repeated or with commas"),
        ("kind" = Option<String>, Query, description = "Of this kind"),
        ("label" = Option<String>, Query, description = "With this label"),
        ("key" = Option<String>, Query, description = "Added with this key"),
        ("group" = Option<String>, Query, description = "Of this group"),
        ("since" = Option<String>, Query, description = "Accepted at or after, RFC 3339"),
        ("until" = Option<String>, Query, description = "Accepted before, RFC 3339"),
        ("cursor" = Option<String>, Query, description = "Of the page before, with the same filters"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 unless given"),
    ),
    responses((status = 200, description = "Newest first", body = JobList<'static>)),
)]
pub(crate) async fn list(State(app): State<AppState>, mut query: Query) -> Answer {
    let limit = query.one("limit")?;
    let cursor = query.one("cursor")?;
    let mark = Cursor::mark(query.pairs());
    let filter = filter::from_query(&mut query)?;
    query.finish()?;
    let limit = match limit.map(|limit| limit.parse::<u32>()) {
        None => limits::LIST_JOBS_DEFAULT,
        Some(Ok(limit)) if (1..=limits::LIST_JOBS_MAX).contains(&limit) => limit,
        Some(_) => {
            let why = format!("this is 1 to {}", limits::LIST_JOBS_MAX);
            return Err(Failure::field(ErrorCode::InvalidField, "limit", why));
        }
    };
    let before = cursor.map(|cursor| Cursor::read(&cursor, mark)).transpose()?;
    let page = app.engine().list(ListParams { filter, limit, before }).await?;
    let cursor = page.next.map(|next| Text::from(Cursor::write(next, mark)));
    Ok(ok(&JobList { jobs: page.jobs.iter().map(summary).collect(), cursor }))
}

/// What a job's handler returned, waited for if asked to.
#[utoipa::path(
    get,
    operation_id = "getJobResult",
    path = "/v1/jobs/{id}/result",
    tag = "Jobs",
    params(
        ("id" = String, Path, description = "`job_` and 32 hex digits"),
        ("wait" = Option<String>, Query, description = "At most 60 s"),
    ),
    responses(
        (status = 200, description = "What the handler returned", body = JobResult<'static>),
        (status = 202, description = "Not finished yet", body = JobPending<'static>),
        (status = 410, description = "It is dead or cancelled", body = wire::Problem),
    ),
)]
pub(crate) async fn result(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    mut query: Query,
) -> Answer {
    let id = job_id(&id)?;
    let wait = query.one("wait")?.map(|text| wait::parse(&text)).transpose()?.unwrap_or(DurationMs::ZERO);
    query.finish()?;
    let over = tokio::time::sleep(Duration::from(wait));
    tokio::pin!(over);
    loop {
        let job = app.engine().get(id).await?.ok_or_else(Failure::job_not_found)?;
        if job.job.state.is_finished() {
            return outcome(&job);
        }
        let looks_again = !wait.is_zero()
            && tokio::select! {
                finished = app.engine().finished(id) => finished.map(|()| true)?,
                () = &mut over => false,
                () = app.drained() => false,
            };
        if !looks_again {
            let state = Text::from(job.job.state.as_str());
            return Ok(json(StatusCode::ACCEPTED, &JobPending { state }));
        }
    }
}

fn outcome(view: &JobView) -> Answer {
    let gone = |code: ErrorCode, detail: String| {
        let mut failure = Failure::new(code, detail);
        failure.0.state = Some(view.job.state.as_str().into());
        failure.0.reason = view.job.reason.map(|reason| reason.as_str().into());
        failure
    };
    let error = view.job.attempt.as_ref().and_then(|attempt| attempt.end.as_ref()?.error.as_ref());
    let why = error.map(|error| format!(": {}", error.message)).unwrap_or_default();
    match view.job.state {
        JobState::Dead => {
            let reason = view.job.reason.map_or("", |reason| reason.as_str());
            Err(gone(ErrorCode::JobDead, format!("the job died ({reason}){why}")))
        }
        JobState::Cancelled => Err(gone(ErrorCode::JobCancelled, "the job was cancelled".to_owned())),
        JobState::Completed
        | JobState::Scheduled
        | JobState::Available
        | JobState::Running
        | JobState::Retrying => Ok(ok(&JobResult { result: view.result.as_deref().map(raw).transpose()? })),
    }
}

/// Changes a job that has not started.
#[utoipa::path(
    patch,
    operation_id = "editJob",
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    request_body = wire::JobPatch<'static>,
    responses((status = 200, description = "The job", body = wire::Job<'static>)),
)]
pub(crate) async fn edit(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let id = job_id(&id)?;
    let given: wire::JobPatch<'_> = body.read()?;
    let edit: JobEdit = crate::translate::job::edit(given)?;
    shown(app.engine().edit(id, edit).await?)
}

/// Cancels a job: at once, or if it runs as a request to its holder.
#[utoipa::path(
    post,
    operation_id = "cancelJob",
    path = "/v1/jobs/{id}/cancel",
    tag = "Jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    request_body = Option<wire::CancelRequest>,
    responses((status = 200, description = "The job", body = wire::Job<'static>)),
)]
pub(crate) async fn cancel(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let (id, given) = (job_id(&id)?, body.read::<wire::CancelRequest>()?);
    shown(app.engine().cancel(id, given.force.unwrap_or(false)).await?)
}

/// Makes a dead, cancelled or retrying job run again.
#[utoipa::path(
    post,
    operation_id = "retryJob",
    path = "/v1/jobs/{id}/retry",
    tag = "Jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    request_body = Option<wire::RetryRequest>,
    responses((status = 200, description = "The job", body = wire::Job<'static>)),
)]
pub(crate) async fn retry(
    State(app): State<AppState>,
    InPath(id): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let (id, given) = (job_id(&id)?, body.read::<wire::RetryRequest>()?);
    shown(app.engine().retry(id, given.accept_duplicates.unwrap_or(false)).await?)
}

/// Deletes a finished job; its key stays held for the rest of its window.
#[utoipa::path(
    delete,
    operation_id = "deleteJob",
    path = "/v1/jobs/{id}",
    tag = "Jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses((status = 200, description = "The job as it was", body = wire::Job<'static>)),
)]
pub(crate) async fn delete(State(app): State<AppState>, InPath(id): InPath<String>, _: NoQuery) -> Answer {
    shown(app.engine().delete(job_id(&id)?).await?)
}

//! Queues and their settings.

use axum::extract::State;
use onefold_core::QueuePatch;
use onefold_wire::{self as wire, QueueList};

use crate::answer::ok;
use crate::extract::{InPath, JsonBody, NoQuery, Query, queue_name};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::queue::{patch, view};

/// All queues.
#[utoipa::path(
    get,
    operation_id = "listQueues",
    path = "/v1/queues",
    tag = "Queues",
    responses((status = 200, description = "All queues, by name", body = QueueList<'static>)),
)]
pub(crate) async fn list(State(app): State<AppState>, _: NoQuery) -> Answer {
    let queues = app.engine().queues().await?;
    let now = app.clock().now();
    Ok(ok(&QueueList { queues: queues.iter().map(|queue| view(queue, now)).collect() }))
}

/// One queue.
#[utoipa::path(
    get,
    operation_id = "getQueue",
    path = "/v1/queues/{queue}",
    tag = "Queues",
    params(("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The queue", body = wire::Queue<'static>)),
)]
pub(crate) async fn get(State(app): State<AppState>, InPath(queue): InPath<String>, _: NoQuery) -> Answer {
    let queue = app.engine().queue(queue_name(&queue)?).await?.ok_or_else(Failure::queue_not_found)?;
    Ok(ok(&view(&queue, app.clock().now())))
}

/// Makes the queue if there is none and changes the given settings.
#[utoipa::path(
    put,
    operation_id = "putQueue",
    path = "/v1/queues/{queue}",
    tag = "Queues",
    params(("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    request_body = wire::QueuePatch<'static>,
    responses((status = 200, description = "The queue as it is now", body = wire::Queue<'static>)),
)]
pub(crate) async fn put(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let queue = queue_name(&queue)?;
    let patch = patch(body.read::<wire::QueuePatch<'_>>()?)?;
    change(&app, queue, patch).await
}

/// Hands out nothing more of a queue.
#[utoipa::path(
    post,
    operation_id = "pauseQueue",
    path = "/v1/queues/{queue}/pause",
    tag = "Queues",
    params(("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The queue as it is now", body = wire::Queue<'static>)),
)]
pub(crate) async fn pause(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    set_paused(&app, &queue, &body, true).await
}

/// Hands out jobs of a queue again.
#[utoipa::path(
    post,
    operation_id = "resumeQueue",
    path = "/v1/queues/{queue}/resume",
    tag = "Queues",
    params(("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    responses((status = 200, description = "The queue as it is now", body = wire::Queue<'static>)),
)]
pub(crate) async fn resume(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    set_paused(&app, &queue, &body, false).await
}

async fn set_paused(app: &AppState, queue: &str, body: &JsonBody, paused: bool) -> Answer {
    let queue = queue_name(queue)?;
    body.read::<wire::Empty>()?;
    change(app, queue, QueuePatch { paused: Some(paused), ..QueuePatch::default() }).await
}

async fn change(app: &AppState, queue: onefold_core::QueueName, patch: QueuePatch) -> Answer {
    let queue = app.engine().set_queue(queue, patch).await?;
    Ok(ok(&view(&queue, app.clock().now())))
}

/// Deletes a queue, its jobs and the keys they hold.
#[utoipa::path(
    delete,
    operation_id = "deleteQueue",
    path = "/v1/queues/{queue}",
    tag = "Queues",
    params(
        ("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`"),
        ("force" = Option<bool>, Query, description = "Also with unfinished jobs"),
    ),
    responses((status = 200, description = "Gone, with its jobs and keys", body = wire::DeletedQueue)),
)]
pub(crate) async fn delete(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    mut query: Query,
) -> Answer {
    let queue = queue_name(&queue)?;
    let force = query.flag("force")?;
    query.finish()?;
    let deleted = app.engine().delete_queue(queue, force).await??;
    Ok(ok(&wire::DeletedQueue { jobs: deleted.jobs }))
}

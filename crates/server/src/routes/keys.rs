//! Who holds a dedup key, and freeing it.

use axum::extract::State;
use onefold_core::{Key, KeyView, QueueName};
use onefold_wire::{self as wire, ErrorCode};

use crate::answer::ok;
use crate::extract::{InPath, NoQuery, key, queue_name};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::add::held_key;

type Place = InPath<(String, String)>;

fn place((queue, text): &(String, String)) -> Result<(QueueName, Key), Failure> {
    Ok((queue_name(queue)?, key(text)?))
}

fn shown(queue: &QueueName, key: &Key, view: Option<KeyView>) -> Answer {
    match view {
        Some(view) => Ok(ok(&held_key(queue, key, &view))),
        None => Err(Failure::new(ErrorCode::KeyNotFound, "no job of this queue holds the key: it is free")),
    }
}

/// Who holds a dedup key, and until when.
#[utoipa::path(
    get,
    operation_id = "getKey",
    path = "/v1/queues/{queue}/keys/{key}",
    tag = "Jobs",
    params(
        ("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`"),
        ("key" = String, Path, description = "Percent-encoded"),
    ),
    responses((status = 200, description = "Who holds it", body = wire::HeldKey<'static>)),
)]
pub(crate) async fn get(State(app): State<AppState>, InPath(given): Place, _: NoQuery) -> Answer {
    let (queue, key) = place(&given)?;
    let view = app.engine().key(queue.clone(), key.clone()).await?;
    shown(&queue, &key, view)
}

/// Frees a dedup key, leaving evidence.
#[utoipa::path(
    delete,
    operation_id = "releaseKey",
    path = "/v1/queues/{queue}/keys/{key}",
    tag = "Jobs",
    params(
        ("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`"),
        ("key" = String, Path, description = "Percent-encoded"),
    ),
    responses((status = 200, description = "Who held it until now", body = wire::HeldKey<'static>)),
)]
pub(crate) async fn release(State(app): State<AppState>, InPath(given): Place, _: NoQuery) -> Answer {
    let (queue, key) = place(&given)?;
    let view = app.engine().release_key(queue.clone(), key.clone()).await?;
    shown(&queue, &key, view)
}

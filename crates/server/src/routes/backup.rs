//! A copy of the store, taken beside running work.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::State;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH};
use http::{HeaderValue, StatusCode};
use onefold_wire::{self as wire, ErrorCode};
use tempfile::TempDir;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::answer::plain;
use crate::extract::{JsonBody, NoQuery};
use crate::failure::{Answer, Failure};
use crate::state::AppState;

const PREFIX: &str = "onefold-backup-";
const PIECE: usize = 256 * 1024;

/// The store's file, as it was at one moment.
#[utoipa::path(
    post,
    operation_id = "backup",
    path = "/v1/backup",
    tag = "Server",
    responses(
        (
            status = 200,
            description = "The SQLite file",
            body = Vec<u8>,
            content_type = "application/octet-stream",
        ),
    ),
)]
pub(crate) async fn backup(State(app): State<AppState>, _: NoQuery, body: JsonBody) -> Answer {
    body.read::<wire::Empty>()?;
    if !app.engine().capabilities().backup {
        let why = match app.engine().capabilities().multi_process {
            true => {
                "this store is backed up as its database is: by pg_dump, or pg_basebackup with archived WAL"
            }
            false => "this store has no file to copy",
        };
        return Err(Failure::new(ErrorCode::NotSupported, why));
    }
    let parent = app.config().backup_dir.clone().unwrap_or_else(std::env::temp_dir);
    let room = off_thread(move || new_room(parent)).await?;
    let path = room.path().join("onefold.db");
    let done = app.engine().backup(path.clone()).await?;
    let file = File::open(&path).await.map_err(|error| unusable(&error))?;
    // The open file stays readable, and nothing is left behind whatever becomes of the client.
    off_thread(move || room.close()).await?;
    let mut response = plain(
        StatusCode::OK,
        "application/octet-stream",
        Body::from_stream(ReaderStream::with_capacity(file, PIECE)),
    );
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(done.bytes));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"onefold.db\""));
    Ok(response)
}

/// Removes what a server that was killed in the middle of a backup left in `parent`.
pub(crate) fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::info!("removed {}, left by an unfinished backup", entry.path().display()),
                Err(error) => tracing::warn!("cannot remove {}: {error}", entry.path().display()),
            }
        }
    }
}

fn new_room(parent: PathBuf) -> std::io::Result<TempDir> {
    std::fs::create_dir_all(&parent)?;
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| unusable(&error)),
        Err(error) => Err(Failure::internal(error.to_string())),
    }
}

fn unusable(error: &std::io::Error) -> Failure {
    tracing::error!("the directory for backups cannot be used: {error}");
    Failure::internal(format!(
        "the directory for backups cannot be used ({error}): set another one, or make room in it"
    ))
}

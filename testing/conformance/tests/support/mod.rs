//! The embedded engine as a harness.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

use std::path::Path;
use std::sync::Arc;

use onefold_conformance::{Harness, World};
use onefold_core::{BoxFuture, DurationMs, Engine};
use onefold_engine_sqlite::{KEY_INDEX_BYTES, OpenError, Options, SqliteEngine};
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) type SqliteHarness = Sqlite<{ KEY_INDEX_BYTES }>;

/// A store in a directory of its own, with so much memory for its key index.
pub(crate) struct Sqlite<const KEYS: usize> {
    engine: Arc<SqliteEngine>,
    directory: TempDir,
    world: World,
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(directory: &Path, world: &World, key_index_bytes: usize) -> Arc<SqliteEngine> {
    loop {
        let options = Options {
            // What is due is purged at the tick it is due.
            retention_slack: DurationMs::ZERO,
            key_index_bytes,
            ..Options::new(world.clock.clone(), world.dice.clone())
        };
        match SqliteEngine::open(directory, options) {
            Ok(engine) => {
                // An answer means that it has read the clock: from now on a step is one to notice.
                engine.stats().await.unwrap();
                return Arc::new(engine);
            }
            // The closed engine is about to let go of the directory.
            Err(OpenError::Locked(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Copies the files as a crash would leave them: all that was written, nothing that a goodbye
/// would add. The log goes first: a checkpoint may move its frames to the database meanwhile, which
/// then has them twice, but the log cannot be written anew while nobody asks for anything.
fn copy_as_after_a_crash(from: &Path, to: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.to_string_lossy().ends_with("-shm"));
    files.sort_by_key(|file| !file.to_string_lossy().ends_with("-wal"));
    for file in files {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

impl<const KEYS: usize> Harness for Sqlite<KEYS> {
    fn open(world: World) -> BoxFuture<'static, Self> {
        Box::pin(async move {
            let directory = directory();
            let engine = open(directory.path(), &world, KEYS).await;
            Sqlite { engine, directory, world }
        })
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn reopen_after_crash(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let copy = directory();
            copy_as_after_a_crash(self.directory.path(), copy.path());
            self.engine = open(copy.path(), &self.world, KEYS).await;
            self.directory = copy;
        })
    }

    fn reopen_cleanly(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.close().await.unwrap();
            self.engine = open(self.directory.path(), &self.world, KEYS).await;
        })
    }
}

//! `onefold backup` and `onefold restore`.

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use onefold_engine_sqlite::inspect::{self, Inspector};
use serde::Serialize;
use tokio::io::AsyncWriteExt;

use crate::client::{CallError, Client};
use crate::config::{Bytes, Config, DataArgs, RemoteArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;
use crate::table::some;
use crate::time::now;

/// A server first makes its own copy, which takes as long as it takes.
const UNTIL_THE_COPY_IS_MADE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What to do instead of `restore` with a store in PostgreSQL.
const RESTORED_ELSEWHERE: &str = "restore the database with PostgreSQL's own means, pg_restore or a base backup with its \
    WAL; tokens grow by themselves when a node opens it";

/// `onefold backup`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Copy straight from a data directory instead; safe beside a running server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "token"])]
    data: Option<PathBuf>,
    /// Where to; the file must not exist
    file: PathBuf,
}

/// `onefold restore`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Replace the store that is there; what is in it is lost
    #[arg(long)]
    force: bool,
    /// Hand out fencing tokens from this number on at the least; needed only if the clock was set
    /// back since the backup
    #[arg(long, value_name = "TOKEN")]
    token_at_least: Option<u64>,
    /// The backup
    file: PathBuf,
}

#[derive(Serialize)]
struct BackedUp<'a> {
    file: &'a Path,
    bytes: u64,
}

pub(crate) async fn backup(args: BackupArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let file = &args.file;
    if file.exists() {
        return Err(Failure::failed(format!(
            "{} exists already: choose another name, or remove it",
            file.display()
        )));
    }
    let part = part_of(file);
    let made = match &args.data {
        Some(data) => copy(data, &part),
        None => {
            let client = Client::server(&config.remote(args.remote.clone()).map_err(Failure::usage)?)?;
            download(&client, &part, output).await
        }
    };
    let bytes = match made.and_then(|()| finish(&part, file)) {
        Ok(bytes) => bytes,
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            return Err(failure);
        }
    };
    if output.json {
        return output.json(&BackedUp { file, bytes });
    }
    output.line(format!("{} written to {}", Bytes(bytes), file.display()))
}

/// The name of a backup that is not complete yet.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::failed(format!("cannot write {path}: {error}"))
}

fn copy(data: &Path, part: &Path) -> Result<(), Failure> {
    let inspector = Inspector::open(data).map_err(Failure::failed)?;
    inspector.backup(part).map(drop).map_err(Failure::failed)
}

async fn download(client: &Client, part: &Path, output: Output) -> Result<(), Failure> {
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(part)
        .await
        .map_err(unusable(part))?;
    let answer = client.open(Method::POST, "/v1/backup", None, UNTIL_THE_COPY_IS_MADE).await?;
    let length = answer.headers().get(http::header::CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let bar = Bar::bytes(output, length);
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| CallError::Lost { server: "the server".to_owned(), why: error.to_string() })?;
        if let Ok(bytes) = frame.into_data() {
            bar.add(bytes.len() as u64);
            file.write_all(&bytes).await.map_err(unusable(part))?;
        }
    }
    file.flush().await.map_err(unusable(part))?;
    file.sync_all().await.map_err(unusable(part))
}

/// Looks whether it is a store, and gives it its name.
fn finish(part: &Path, file: &Path) -> Result<u64, Failure> {
    let facts =
        Inspector::open_file(part, part).map_err(Failure::failed)?.facts().map_err(Failure::failed)?;
    std::fs::rename(part, file).map_err(unusable(file))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable(dir))?;
    Ok(facts.bytes)
}

#[derive(Serialize)]
struct RestoredJson<'a> {
    data: &'a Path,
    queues: u64,
    jobs: u64,
    keys: u64,
    tokens_from: u64,
}

pub(crate) fn restore(args: RestoreArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let data = config.directory(args.data, RESTORED_ELSEWHERE).map_err(Failure::usage)?;
    let bar = Bar::new(output);
    let mut progress = |progress: inspect::Progress| bar.set(progress.reading, progress.done, progress.of);
    let restored = inspect::restore(&args.file, &data, args.force, args.token_at_least, now(), &mut progress);
    drop(bar);
    let restored = restored.map_err(Failure::failed)?;
    let (checked, tokens_from) = (&restored.checked, restored.tokens_from);
    if output.json {
        let (queues, jobs, keys) = (checked.queues, checked.jobs, checked.keys);
        return output.json(&RestoredJson { data: &data, queues, jobs, keys, tokens_from });
    }
    output.line(format!(
        "{} in {} and {} restored to {}",
        some(checked.jobs, "job"),
        some(checked.queues, "queue"),
        some(checked.keys, "key"),
        data.display()
    ))?;
    output.line(format!(
        "fencing tokens go on from {tokens_from} at the least; start the server with `onefold serve --data {}`",
        data.display()
    ))
}

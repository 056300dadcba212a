//! `onefold work`: runs a command for every job.

mod process;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use onefold::{CancelReason, Context, HandlerError, Job, Onefold, RawPayload, Worker, WorkerReport};
use onefold_core::{DurationMs, QueueName, WorkerName};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::{CallError, Client};
use crate::config::{Config, RemoteArgs, RemoteSettings};
use crate::failure::Failure;
use crate::logging;
use crate::output::{Output, note};
use crate::signals::Signals;
use process::{Ended, Process};
use streams::Printed;

/// Exit code of a command that need not be run again: EX_DATAERR of sysexits.h. Any other failure is
/// tried again, 75 (EX_TEMPFAIL) by its very name.
const PERMANENT: i32 = 65;
/// The step that the idempotency key of a command is derived from.
const STEP: &str = "exec";
/// Between SIGTERM and SIGKILL, for a command whose job was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// `onefold work`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Take jobs of this queue; of several, given again or with commas, an earlier one goes first
    #[arg(long, short, required = true, value_delimiter = ',')]
    queue: Vec<QueueName>,
    /// The command, run by sh -c with the payload on its standard input
    #[arg(long, short, value_name = "COMMAND")]
    exec: String,
    /// Run up to this many at once
    #[arg(long, short, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// How soon another worker takes over should this one die; extended while a command runs
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    lease: DurationMs,
    /// How long commands may take to end once the worker is told to stop
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    grace: DurationMs,
    /// What the worker is called in the history of jobs [default: host and process id]
    #[arg(long)]
    name: Option<WorkerName>,
    /// Take from the queues in turn instead of in order
    #[arg(long)]
    fair: bool,
}

#[derive(Serialize)]
struct Report {
    completed: u64,
    failed: u64,
    released: u64,
    lost: u64,
}

impl From<WorkerReport> for Report {
    fn from(report: WorkerReport) -> Report {
        let WorkerReport { completed, failed, released, lost, .. } = report;
        Report { completed, failed, released, lost }
    }
}

pub(crate) async fn work(args: WorkArgs, config: &Config, output: Output) -> Result<(), Failure> {
    logging::start("warn", Some(crate::config::LogFormat::Human))?;
    let remote = config.remote(args.remote.clone()).map_err(Failure::usage)?;
    let mut signals = Signals::catch()?;
    look_for_the_server(&remote).await?;
    let token = remote.token.as_ref().map(crate::config::Token::reveal);
    let onefold = Onefold::connect(remote.url.as_str(), token).map_err(Failure::usage)?;
    let mut worker = Worker::new(&onefold)
        .concurrency(args.concurrency as usize)
        .prefetch(args.concurrency as usize)
        .lease(args.lease.into())
        .grace(args.grace.into())
        .name(args.name.as_ref().map_or_else(own_name, ToString::to_string));
    for queue in &args.queue {
        worker = worker.queue(queue.as_str());
    }
    if args.fair {
        worker = worker.fair();
    }
    let command = Arc::new(args.exec.clone());
    let ready = worker.handle(move |job, context| {
        let command = Arc::clone(&command);
        async move { run(job, context, &command).await }
    });
    // One stream for both: the second signal is waited for only once the first was taken.
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let told_twice = async {
        let name = signals.next().await;
        note(&format!("{name}: takes no more jobs, and gives its commands {} to end", args.grace));
        let _ = stop.send(());
        signals.next().await
    };
    let stop = async {
        let _ = stopped.await;
    };
    let report = tokio::select! {
        report = ready.run_until(stop) => report.map_err(Failure::failed)?,
        // Dropping the worker kills its commands; their leases run out.
        name = told_twice => return Err(Failure::failed(format!("ended by a second signal, {name}"))),
    };
    let report = Report::from(report);
    if output.json {
        return output.json(&report);
    }
    output.line(format!(
        "{} completed, {} failed, {} given back, {} lost",
        report.completed, report.failed, report.released, report.lost
    ))
}

/// A worker waits for a server that is away; but it says so.
async fn look_for_the_server(remote: &RemoteSettings) -> Result<(), Failure> {
    match Client::server(remote)?.get("/v1/queues").await {
        Ok(_) => Ok(()),
        Err(error @ (CallError::Unreachable { .. } | CallError::Lost { .. })) => {
            note(&format!("{error}; waiting for it"));
            Ok(())
        }
        Err(error) if error.may_pass() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn own_name() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().into_owned();
    format!("{host}-{}", std::process::id())
}

/// Runs the command for a job.
async fn run(
    job: Job<RawPayload>,
    context: Context,
    command: &str,
) -> Result<Option<Box<RawValue>>, HandlerError> {
    let mut process = Process::start(command, job, &context.idempotency_key(STEP))
        .map_err(|error| HandlerError::retry(format!("the command could not be started: {error}")))?;
    tokio::select! {
        ended = process.ended() => return outcome(ended, &context),
        () = context.cancelled() => {}
    }
    if context.cancel_reason() == Some(CancelReason::Requested) {
        process.terminate();
        if let Ok(ended) = tokio::time::timeout(LAST_WORDS, process.ended()).await {
            return outcome(ended, &context);
        }
    }
    // The lease is lost, and somebody else may have the job already; or the time is over. Dropping
    // the process kills it.
    Err(HandlerError::release())
}

/// What the end of a command says about its job.
fn outcome(ended: std::io::Result<Ended>, context: &Context) -> Result<Option<Box<RawValue>>, HandlerError> {
    let ended = ended.map_err(|error| HandlerError::retry(format!("the command was lost: {error}")))?;
    match ended.code {
        Some(0) => match ended.stdout.printed() {
            Printed::Nothing => Ok(None),
            Printed::Result(result) => Ok(Some(result)),
            Printed::TooMuch(bytes) => {
                // The work is done. If the lease is gone, so is the place to say it.
                let _ =
                    context.log(format!("the command printed {bytes} bytes, too many to keep as its result"));
                Ok(None)
            }
        },
        Some(code @ PERMANENT) => Err(HandlerError::permanent(ended.message()).kind(format!("exit-{code}"))),
        Some(code) => Err(HandlerError::retry(ended.message()).kind(format!("exit-{code}"))),
        None => Err(HandlerError::retry(ended.message()).kind("signal")),
    }
}

//! `onefold add`: one job from the command line, or one for every line of standard input.

mod job;
mod lines;
mod sender;
mod tally;

use clap::Args;
use onefold_core::{DurationMs, QueueName, State, Timestamp};
use onefold_wire::Added;
use tokio::sync::mpsc;

use crate::client::{CallError, Client};
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;
use job::{Template, header};
use sender::{Patience, Sender};

/// Batches that are read ahead while one is on its way.
const READ_AHEAD: usize = 2;
/// How long a server that went away is waited for, unless asked otherwise.
const RETRY_FOR: DurationMs = DurationMs::from_ms(30_000);

/// `onefold add`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The queue
    queue: QueueName,
    /// The payload, any JSON; - reads standard input, one job for each line of JSON
    #[arg(value_name = "JSON|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// What sort of work it is
    #[arg(long)]
    kind: Option<String>,
    /// Key: at most one job of the queue holds it, so adding it again is answered with the first job
    #[arg(long, conflicts_with = "key_from")]
    key: Option<String>,
    /// Take the key from this field of the payload
    #[arg(long, value_name = "FIELD")]
    key_from: Option<String>,
    /// Run it this long from now, like 10m
    #[arg(long, value_name = "DURATION", conflicts_with = "run_at")]
    delay: Option<DurationMs>,
    /// Run it at this time, like 2026-11-21T09:30:00Z
    #[arg(long, value_name = "TIME")]
    run_at: Option<Timestamp>,
    /// Lower runs first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Jobs of one group run one at a time, in order
    #[arg(long)]
    group: Option<String>,
    /// A word to find it by; several times for several
    #[arg(long)]
    label: Vec<String>,
    /// A header handed on to whoever runs it; several times for several
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Deliver it to this URL, instead of having a worker run it
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// How the target is asked [default: POST]
    #[arg(long, value_name = "METHOD", requires = "target")]
    target_method: Option<String>,
    /// A header sent to the target; several times for several
    #[arg(long, value_name = "NAME:VALUE", value_parser = header, requires = "target")]
    target_header: Vec<(String, String)>,
    /// Deadline of one delivery [default: 30s]
    #[arg(long, value_name = "DURATION", requires = "target")]
    target_timeout: Option<DurationMs>,
    /// Tell this URL once it completed, with a job of its own
    #[arg(long, value_name = "URL")]
    on_success: Option<String>,
    /// Tell this URL once it is dead or cancelled, with a job of its own
    #[arg(long, value_name = "URL")]
    on_failure: Option<String>,
    /// Failures and lost leases that end it
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Hard limit of one attempt, like 15m
    #[arg(long, value_name = "DURATION")]
    timeout: Option<DurationMs>,
    /// How long a server that goes away meanwhile is waited for [default: 30s]
    #[arg(long, value_name = "DURATION")]
    retry_for: Option<DurationMs>,
}

impl AddArgs {
    fn template(&self) -> Template {
        Template {
            kind: self.kind.clone(),
            key: self.key.clone(),
            key_from: self.key_from.clone(),
            delay: self.delay.map(|delay| delay.to_string()),
            run_at: self.run_at.map(|time| time.to_string()),
            priority: self.priority,
            group: self.group.clone(),
            labels: self.label.clone(),
            headers: self.header.clone(),
            target: self.target.clone(),
            target_method: self.target_method.clone(),
            target_headers: self.target_header.clone(),
            target_timeout: self.target_timeout.map(|timeout| timeout.to_string()),
            on_success: self.on_success.clone(),
            on_failure: self.on_failure.clone(),
            max_attempts: self.max_attempts,
            timeout: self.timeout.map(|timeout| timeout.to_string()),
        }
    }

    fn patience(&self) -> Patience {
        Patience {
            // Without a server at the start there is more likely none than one that comes back.
            from_the_start: self.retry_for.is_some(),
            retry_for: self.retry_for.unwrap_or(RETRY_FOR),
            safe: self.key.is_some() || self.key_from.is_some(),
        }
    }
}

pub(crate) async fn add(args: AddArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = Client::server(&config.remote(args.remote.clone()).map_err(Failure::usage)?)?;
    match args.payload.as_deref() {
        Some("-") if args.key.is_some() => Err(Failure::usage(
            "one --key for many lines would make them one job: take each line's own with --key-from FIELD",
        )),
        Some("-") => add_lines(client, &args, output).await,
        payload => add_one(client, &args, payload, output).await,
    }
}

async fn add_one(
    client: Client,
    args: &AddArgs,
    payload: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let job = args.template().job(payload).map_err(|why| {
        Failure::usage(format!("the payload cannot be used: {why}; quote it like '{{\"to\":\"ada\"}}'"))
    })?;
    let mut sender = Sender::new(client, &args.queue, args.patience());
    let answer = match sender.send_one(job.into()).await {
        Ok(answer) => answer,
        Err(error @ CallError::Lost { .. }) if !sender.patience.safe => {
            return Err(Failure::failed(format!(
                "{error}: look with `onefold jobs --queue {}`; with a --key it could have been repeated safely",
                args.queue
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if output.json {
        return output.line(answer.text());
    }
    let added: Added<'_> = answer.read()?;
    let state = State::parse(&added.state).map_or("deleted by now", State::as_str);
    output.line(match added.duplicate {
        false => format!("{}: {state}", added.id),
        true => format!("{}: {state}; it was added with this key before", added.id),
    })
}

async fn add_lines(client: Client, args: &AddArgs, output: Output) -> Result<(), Failure> {
    let (batches, mut received) = mpsc::channel(READ_AHEAD);
    let reader = tokio::spawn(lines::read(tokio::io::stdin(), args.template(), batches));
    let mut sender = Sender::new(client, &args.queue, args.patience());
    let bar = Bar::count(output, "lines");
    let mut tally = tally::Tally::default();
    let mut ended = Ok(());
    while let Some(batch) = received.recv().await {
        let lines = batch.lines();
        ended = sender.send(batch, &mut tally, &bar).await;
        bar.add(lines);
        bar.say(tally.in_short());
        if ended.is_err() {
            break;
        }
    }
    drop((received, bar));
    if ended.is_ok() {
        ended = match reader.await {
            Ok(read) => {
                read.map_err(|error| Failure::failed(format!("standard input cannot be read: {error}")))
            }
            Err(died) => Err(Failure::failed(format!("standard input cannot be read: {died}"))),
        };
    }
    tally.tell(output)?;
    ended?;
    if tally.is_clean() { Ok(()) } else { Err(Failure::Told) }
}

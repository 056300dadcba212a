//! Changing queues and jobs on a server: pause, resume, cancel, retry, delete, redrive.

use clap::Args;
use onefold_core::{JobId, QueueName, State, limits};
use onefold_wire::{
    CancelRequest, Job, JobList, NotRedriven, RedriveFilter, RedriveRequest, Redriven, RetryRequest, Text,
};
use serde::Serialize;

use crate::client::{Answer, CallError, Client};
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::look::{FilterArgs, query, state};
use crate::output::Output;
use crate::table::some;
use crate::time::now;

/// Refusals of a redrive that are told one by one.
const TOLD: usize = 5;
/// Jobs counted with one call.
const PAGE: u32 = limits::LIST_JOBS_MAX;

/// `onefold pause` and `onefold resume`.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The queue
    queue: QueueName,
}

/// `onefold cancel`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
    /// Take a running job from its worker at once, instead of asking it to stop
    #[arg(long)]
    force: bool,
}

/// `onefold retry`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
    /// Also if receivers may have forgotten the job's key by now and would do the work twice
    #[arg(long)]
    accept_duplicates: bool,
}

/// `onefold delete`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The jobs, which must be finished
    #[arg(required = true)]
    ids: Vec<JobId>,
}

/// `onefold redrive`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The queue
    queue: QueueName,
    /// Jobs in this state: dead or cancelled [default: dead]
    #[arg(long, short, value_delimiter = ',', value_parser = finished)]
    state: Vec<State>,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most this many, oldest first [default: all]
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Also jobs whose key receivers may have forgotten by now: they would do the work twice
    #[arg(long)]
    accept_duplicates: bool,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
}

fn finished(word: &str) -> Result<State, String> {
    match state(word)? {
        state @ (State::Dead | State::Cancelled) => Ok(state),
        _ => Err("only dead and cancelled jobs are redriven".to_owned()),
    }
}

fn client(remote: RemoteArgs, config: &Config) -> Result<Client, Failure> {
    Client::server(&config.remote(remote).map_err(Failure::usage)?)
}

/// Hands out no more jobs of a queue, or does again.
pub(crate) async fn pause(
    args: QueueArgs,
    pause: bool,
    config: &Config,
    output: Output,
) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    let word = if pause { "pause" } else { "resume" };
    let answer = client.post_bytes(&format!("/v1/queues/{}/{word}", args.queue), "{}".into()).await?;
    if output.json {
        return output.line(answer.text());
    }
    match pause {
        true => {
            output.line(format!("{} is paused: what runs goes on, nothing more is handed out", args.queue))
        }
        false => output.line(format!("{} goes on", args.queue)),
    }
}

/// Cancels jobs.
pub(crate) async fn cancel(args: CancelArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    let body = CancelRequest { force: args.force.then_some(true) };
    each(&args.ids, output, async |id| client.post(&format!("/v1/jobs/{id}/cancel"), &body).await).await
}

/// Makes jobs run again.
pub(crate) async fn retry(args: RetryArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    let body = RetryRequest { accept_duplicates: args.accept_duplicates.then_some(true) };
    each(&args.ids, output, async |id| client.post(&format!("/v1/jobs/{id}/retry"), &body).await).await
}

/// Deletes finished jobs.
pub(crate) async fn delete(args: DeleteArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    each(&args.ids, output, async |id| client.delete(&format!("/v1/jobs/{id}")).await).await
}

/// Does the same to each job. One that is refused does not keep the others from it.
async fn each(
    ids: &[JobId],
    output: Output,
    call: impl AsyncFn(JobId) -> Result<Answer, CallError>,
) -> Result<(), Failure> {
    let mut refused = false;
    for id in ids {
        match call(*id).await {
            Ok(answer) if output.json => output.line(answer.text())?,
            Ok(answer) => output.line(outcome(&answer.read()?))?,
            Err(error @ CallError::Refused(_)) => {
                refused = true;
                Failure::failed(format!("{id}: {error}")).tell();
            }
            Err(error) => return Err(error.into()),
        }
    }
    if refused { Err(Failure::Told) } else { Ok(()) }
}

fn outcome(job: &Job<'_>) -> String {
    match job.cancel_requested && State::parse(&job.state) == Some(State::Running) {
        true => format!("{}: asked to stop; its worker hears of it with its next heartbeat", job.id),
        false => format!("{}: {}", job.id, job.state),
    }
}

#[derive(Serialize)]
struct Counted {
    would_redrive: u64,
}

#[derive(Default, Serialize)]
struct Done {
    redriven: u64,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    id: String,
    code: String,
    detail: String,
}

/// Makes dead or cancelled jobs run again.
pub(crate) async fn redrive(args: RedriveArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote.clone(), config)?;
    let states = if args.state.is_empty() { vec![State::Dead] } else { args.state.clone() };
    let matching = count(&client, &args, &states).await?.min(args.limit.unwrap_or(u64::MAX));
    if matching == 0 {
        // Tells a queue with nothing to do from one that is not there.
        client.get(&format!("/v1/queues/{}", args.queue)).await?;
    }
    if args.dry_run {
        return match output.json {
            true => output.json(&Counted { would_redrive: matching }),
            false => output.line(format!("{} of {} would run again", some(matching, "job"), args.queue)),
        };
    }
    let done = redrive_all(&client, &args, &states, matching).await?;
    if output.json {
        output.json(&done)?;
    } else {
        output.line(format!("run again: {} of {}", some(done.redriven, "job"), args.queue))?;
        for refused in done.refused.iter().take(TOLD) {
            output.line(format!("refused: {}: {} ({})", refused.id, refused.detail, refused.code))?;
        }
        if !done.refused.is_empty() {
            output.line(format!("refused: {} in all", some(done.refused.len() as u64, "job")))?;
        }
    }
    if done.refused.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// How many jobs are meant.
async fn count(client: &Client, args: &RedriveArgs, states: &[State]) -> Result<u64, Failure> {
    let [since, until] = args.filter.times(now());
    let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
    let (mut count, mut cursor) = (0, None);
    loop {
        let query = query(&[
            ("queue", Some(args.queue.to_string())),
            ("state", Some(words.join(","))),
            ("kind", args.filter.kind.clone()),
            ("label", args.filter.label.clone()),
            ("key", args.filter.key.clone()),
            ("group", args.filter.group.clone()),
            ("since", since.clone()),
            ("until", until.clone()),
            ("limit", Some(PAGE.to_string())),
            ("cursor", cursor),
        ]);
        let answer = client.get(&format!("/v1/jobs{query}")).await?;
        let page: JobList<'_> = answer.read()?;
        count += page.jobs.len() as u64;
        match page.cursor {
            Some(next) => cursor = Some(next.into_owned()),
            None => return Ok(count),
        }
    }
}

/// Redrives as many jobs as were counted, in calls of a bounded size. Not more: a job that dies
/// again meanwhile is not redriven over and over.
async fn redrive_all(
    client: &Client,
    args: &RedriveArgs,
    states: &[State],
    matching: u64,
) -> Result<Done, Failure> {
    let path = format!("/v1/queues/{}/redrive", args.queue);
    let mut done = Done::default();
    while done.redriven < matching {
        let limit = (matching - done.redriven).min(u64::from(limits::REDRIVE_JOBS_MAX));
        let answer = client.post(&path, &request(args, states, limit)).await?;
        let page: Redriven<'_> = answer.read()?;
        done.redriven += page.redriven;
        // What is refused stays where it is, and is refused again by the next call.
        done.refused = page.refused.into_iter().map(refused).collect();
        if page.redriven == 0 || page.redriven + (done.refused.len() as u64) < limit {
            break;
        }
    }
    Ok(done)
}

fn refused(not: NotRedriven<'_>) -> Refused {
    let NotRedriven { id, error } = not;
    Refused { id: id.into_owned(), code: error.code.into_owned(), detail: error.detail.into_owned() }
}

fn request<'a>(args: &'a RedriveArgs, states: &[State], limit: u64) -> RedriveRequest<'a> {
    let [since, until] = args.filter.times(now()).map(|time| time.map(Text::from));
    let text = |text: &'a Option<String>| text.as_deref().map(Text::from);
    RedriveRequest {
        states: Some(states.iter().map(|state| Text::from(state.as_str())).collect()),
        limit: u32::try_from(limit).ok(),
        filter: Some(RedriveFilter {
            kind: text(&args.filter.kind),
            label: text(&args.filter.label),
            key: text(&args.filter.key),
            group: text(&args.filter.group),
            since,
            until,
        }),
        accept_duplicates: args.accept_duplicates.then_some(true),
    }
}

//! `onefold schedules`: jobs on time.

use clap::{Args, Subcommand};
use onefold_core::schedule::{Interval, Missed, Overlap, Pattern, ScheduleId, Tick, Timing, Zone};
use onefold_core::{DurationMs, QueueName, Timestamp};
use onefold_wire::{
    NewJob, NewSchedule, NextTicks, RawValue, Schedule, ScheduleList, ScheduleRun, Span, Text,
};
use serde::Serialize;

use crate::client::Client;
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::{given, now, relative};

/// Schedules of one page.
const PAGE: u32 = 1_000;
/// Ticks that are shown unless told otherwise.
const NEXT: u32 = 10;

/// `onefold schedules`.
#[derive(Debug, Clone, Args)]
#[command(disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(crate) struct SchedulesArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// List schedules
    List(ListArgs),
    /// Make a schedule, or put another in its place
    #[command(after_help = SET)]
    Set(Box<SetArgs>),
    /// Show a schedule and what became of its ticks
    Show(OneArgs),
    /// Show when a schedule will tick, or when one would
    #[command(after_help = NEXT_TICKS)]
    Next(NextArgs),
    /// Let a schedule not tick
    Pause(OneArgs),
    /// Let a paused schedule tick again, from now on
    Resume(OneArgs),
    /// Add a schedule's job now, beside its ticks
    Run(OneArgs),
    /// Delete a schedule; its jobs stay
    Delete(OneArgs),
}

const SET: &str = "\
Examples:
  onefold schedules set nightly --cron '30 2 * * *' --timezone Europe/Berlin --queue reports '{\"of\":\"day\"}'
  onefold schedules set invoices --cron '0 9 LW * *' --queue invoices --overlap skip
  onefold schedules set poll --every 90s --queue poll --missed skip

Five fields: minute, hour, day of month, month, day of week; L the last day, LW the last workday, 15W the
workday nearest to the 15th, mon#2 the second Monday, friL the last Friday; or @daily and its like.
Where clocks are changed, a fixed time ticks once, a rhythm like */15 at each real time.
Setting the same again changes nothing, so a program may set its schedules each time it starts.";

const NEXT_TICKS: &str = "\
Examples:
  onefold schedules next nightly
  onefold schedules next --cron '30 2 * * *' --timezone America/New_York -n 3
  onefold schedules next --every 90m

With --cron or --every no server is asked.";

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Clone, Args)]
struct OneArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The schedule
    id: ScheduleId,
}

/// When it ticks.
#[derive(Debug, Clone, Args)]
struct TimingArgs {
    /// Cron expression, like '0 9 * * mon-fri'
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "every")]
    cron: Option<String>,
    /// The zone whose clock --cron goes by, like Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    timezone: Option<Zone>,
    /// Length of real time between ticks, like 90m
    #[arg(long, value_name = "DURATION")]
    every: Option<DurationMs>,
    /// One of the ticks of --every [default: 1970-01-01T00:00:00Z]
    #[arg(long, value_name = "TIME", requires = "every")]
    anchor: Option<Timestamp>,
    /// No tick comes earlier
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// No tick comes later
    #[arg(long, value_name = "TIME")]
    end: Option<Timestamp>,
}

#[derive(Debug, Clone, Args)]
struct SetArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// What it is called: letters, digits, . _ -
    id: ScheduleId,
    #[command(flatten)]
    timing: TimingArgs,
    /// Where its jobs go
    #[arg(long, short)]
    queue: QueueName,
    /// What becomes of ticks that nobody was there for: once, skip or all [default: once]
    #[arg(long, value_name = "POLICY", value_parser = missed)]
    missed: Option<Missed>,
    /// What a tick does while the last job is unfinished: allow, skip or queue [default: allow]
    #[arg(long, value_name = "POLICY", value_parser = overlap)]
    overlap: Option<Overlap>,
    /// The payload of its jobs, any JSON
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    payload: Option<String>,
    /// What sort of work it is
    #[arg(long)]
    kind: Option<String>,
    /// Lower runs first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Failures and lost leases that end a job
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,
    /// Hard limit of one attempt, like 15m
    #[arg(long, value_name = "DURATION")]
    timeout: Option<DurationMs>,
    /// The whole job as an add takes it, instead of the payload and the flags about it
    #[arg(long, value_name = "JSON", conflicts_with_all = ["payload", "kind", "priority", "max_attempts", "timeout"])]
    job: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct NextArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The schedule
    #[arg(required_unless_present_any = ["cron", "every"], conflicts_with_all = ["cron", "every"])]
    id: Option<ScheduleId>,
    #[command(flatten)]
    timing: TimingArgs,
    /// How many
    #[arg(short, default_value_t = NEXT, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    n: u32,
}

fn missed(word: &str) -> Result<Missed, String> {
    Missed::parse(word).ok_or_else(|| "this is once, skip or all".to_owned())
}

fn overlap(word: &str) -> Result<Overlap, String> {
    Overlap::parse(word).ok_or_else(|| "this is allow, skip or queue".to_owned())
}

fn client(remote: RemoteArgs, config: &Config) -> Result<Client, Failure> {
    Client::server(&config.remote(remote).map_err(Failure::usage)?)
}

/// Does what is asked of schedules.
pub(crate) async fn schedules(args: SchedulesArgs, config: &Config, output: Output) -> Result<(), Failure> {
    match args.action {
        None => list(args.remote, config, output).await,
        Some(Action::List(args)) => list(args.remote, config, output).await,
        Some(Action::Set(args)) => set(*args, config, output).await,
        Some(Action::Show(args)) => show(args, config, output).await,
        Some(Action::Next(args)) => next(args, config, output).await,
        Some(Action::Pause(args)) => pause(args, "pause", config, output).await,
        Some(Action::Resume(args)) => pause(args, "resume", config, output).await,
        Some(Action::Run(args)) => run(args, config, output).await,
        Some(Action::Delete(args)) => delete(args, config, output).await,
    }
}

async fn list(remote: RemoteArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(remote, config)?;
    let mut table = Table::new(&[
        ("SCHEDULE", Align::Left),
        ("TICKS", Align::Left),
        ("QUEUE", Align::Left),
        ("NEXT", Align::Left),
        ("ADDED", Align::Right),
        ("DROPPED", Align::Right),
        ("LAST JOB", Align::Left),
    ]);
    let mut cursor = None;
    loop {
        let from = cursor.map(|cursor: String| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = client.get(&format!("/v1/schedules?limit={PAGE}{from}")).await?;
        if output.json {
            output.line(answer.text())?;
        }
        let page: ScheduleList<'_> = answer.read()?;
        page.schedules.iter().for_each(|schedule| table.row(row(schedule)));
        match page.cursor {
            Some(next) => cursor = Some(next.into_owned()),
            None => break,
        }
    }
    match (output.json, table.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => output.line("no schedules yet; `onefold schedules set --help` says how to make one"),
        (false, false) => table.lines().into_iter().try_for_each(|line| output.line(line)),
    }
}

fn rhythm(schedule: &Schedule<'_>) -> String {
    match (&schedule.cron, &schedule.timezone, &schedule.every) {
        (Some(cron), Some(zone), _) => format!("{cron} {zone}"),
        (Some(cron), None, _) => cron.to_string(),
        (None, _, Some(Span::Text(every))) => format!("every {every}"),
        (None, _, Some(Span::Ms(ms))) => format!("every {ms}ms"),
        (None, _, None) => String::new(),
    }
}

fn next_of(schedule: &Schedule<'_>) -> String {
    match &schedule.next_tick {
        Some(next) => relative(given(next), now()),
        None if schedule.paused => "paused".to_owned(),
        None => "ended".to_owned(),
    }
}

fn row(schedule: &Schedule<'_>) -> Vec<String> {
    vec![
        schedule.id.to_string(),
        rhythm(schedule),
        schedule.queue.to_string(),
        next_of(schedule),
        schedule.ticks.added.to_string(),
        (schedule.ticks.missed + schedule.ticks.overlapped).to_string(),
        schedule.last_job.as_deref().unwrap_or_default().to_owned(),
    ]
}

async fn set(args: SetArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let raw = |what: &str, text: &str| {
        RawValue::from_string(text.to_owned())
            .map_err(|error| Failure::usage(format!("the {what} is not JSON: {error}")))
    };
    let payload = args.payload.as_deref().map(|text| raw("payload", text)).transpose()?;
    let job = match &args.job {
        Some(job) => serde_json::from_str::<NewJob<'_>>(job)
            .map_err(|error| Failure::usage(format!("--job is no job: {error}")))?,
        None => NewJob {
            kind: args.kind.as_deref().map(Text::from),
            payload: payload.as_deref(),
            priority: args.priority,
            max_attempts: args.max_attempts,
            timeout: args.timeout.map(|timeout| Span::from(timeout.to_string())),
            ..NewJob::default()
        },
    };
    let time = |at: Option<Timestamp>| at.map(|at| Text::from(at.to_string()));
    let timing = &args.timing;
    if timing.cron.is_none() && timing.every.is_none() {
        return Err(Failure::usage("say when it ticks: --cron '0 9 * * *' or --every 90m"));
    }
    let body = NewSchedule {
        cron: timing.cron.as_deref().map(Text::from),
        timezone: timing.timezone.as_ref().map(|zone| Text::from(zone.to_string())),
        every: timing.every.map(|every| Span::from(every.to_string())),
        anchor: time(timing.anchor),
        start: time(timing.start),
        end: time(timing.end),
        queue: Text::from(args.queue.as_str()),
        job: Some(job),
        missed: args.missed.map(|missed| Text::from(missed.as_str())),
        overlap: args.overlap.map(|overlap| Text::from(overlap.as_str())),
    };
    let client = client(args.remote, config)?;
    let answer = client.put(&format!("/v1/schedules/{}", args.id), &body).await?;
    if output.json {
        return output.line(answer.text());
    }
    let schedule: Schedule<'_> = answer.read()?;
    let next = match &schedule.next_tick {
        Some(next) => format!("ticks next at {next}, {}", next_of(&schedule)),
        None => format!("does not tick: it is {}", next_of(&schedule)),
    };
    output.line(format!("{} {next}", schedule.id))
}

async fn show(args: OneArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let answer = client(args.remote, config)?.get(&format!("/v1/schedules/{}", args.id)).await?;
    if output.json {
        return output.line(answer.text());
    }
    let schedule: Schedule<'_> = answer.read()?;
    output.line(format!("{}: {} into queue {}", schedule.id, rhythm(&schedule), schedule.queue))?;
    let mut lines = vec![(
        "next",
        schedule
            .next_tick
            .as_deref()
            .map_or_else(|| next_of(&schedule), |at| format!("{at}, {}", next_of(&schedule))),
    )];
    lines.extend(
        schedule.last_tick.as_deref().map(|at| ("last", format!("{at}, {}", relative(given(at), now())))),
    );
    lines.extend(schedule.last_job.as_deref().map(|job| ("job", job.to_owned())));
    lines.extend(schedule.start.as_deref().map(|at| ("start", at.to_owned())));
    lines.extend(schedule.end.as_deref().map(|at| ("end", at.to_owned())));
    lines.push(("missed", schedule.missed.to_string()));
    lines.push(("overlap", schedule.overlap.to_string()));
    let ticks = schedule.ticks;
    lines.push((
        "ticks",
        format!(
            "{} added a job, {} were missed, {} met an unfinished job",
            ticks.added, ticks.missed, ticks.overlapped
        ),
    ));
    let job = serde_json::to_string(&schedule.job).map_err(|error| Failure::failed(error.to_string()))?;
    lines.push(("adds", job));
    lines.into_iter().try_for_each(|(name, what)| output.line(format!("  {name:<8}  {what}")))
}

#[derive(Serialize)]
struct Ticks {
    ticks: Vec<String>,
}

async fn next(args: NextArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let (ticks, zone) = match &args.id {
        Some(id) => {
            let client = client(args.remote, config)?;
            let answer = client.get(&format!("/v1/schedules/{id}/next?n={}", args.n)).await?;
            let next: NextTicks<'_> = answer.read()?;
            let answer = client.get(&format!("/v1/schedules/{id}")).await?;
            let schedule: Schedule<'_> = answer.read()?;
            let zone = schedule.timezone.and_then(|zone| zone.parse::<Zone>().ok());
            (next.ticks.iter().map(|tick| given(tick)).collect::<Vec<_>>(), zone)
        }
        None => {
            let timing = timing(&args.timing)?;
            let ticks = timing.ticks_after(now()).map(Tick::at).take(args.n as usize).collect();
            (ticks, timing.zone().cloned())
        }
    };
    if output.json {
        return output.json(&Ticks { ticks: ticks.iter().map(ToString::to_string).collect() });
    }
    let zone = zone.unwrap_or_default();
    ticks.iter().try_for_each(|tick| output.line(format!("{}  {}", zone.show(*tick), relative(*tick, now()))))
}

fn timing(args: &TimingArgs) -> Result<Timing, Failure> {
    let pattern = match (&args.cron, args.every) {
        (Some(cron), _) => Pattern::cron(cron, args.timezone.clone()),
        (None, Some(every)) => Interval::new(every, args.anchor.unwrap_or(Timestamp::EPOCH))
            .map(Pattern::Every)
            .map_err(Into::into),
        (None, None) => return Err(Failure::usage("give a schedule, --cron or --every")),
    };
    let timing = pattern.and_then(|pattern| Timing::new(pattern, args.start, args.end));
    timing.map_err(|error| Failure::usage(error.to_string()))
}

async fn pause(args: OneArgs, action: &str, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    let answer = client.post_bytes(&format!("/v1/schedules/{}/{action}", args.id), "{}".into()).await?;
    if output.json {
        return output.line(answer.text());
    }
    let schedule: Schedule<'_> = answer.read()?;
    match schedule.paused {
        true => output.line(format!("{} is paused: it does not tick, jobs it added go on", args.id)),
        false => output.line(format!("{} ticks next {}", args.id, next_of(&schedule))),
    }
}

async fn run(args: OneArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = client(args.remote, config)?;
    let answer = client.post_bytes(&format!("/v1/schedules/{}/run", args.id), "{}".into()).await?;
    if output.json {
        return output.line(answer.text());
    }
    output.line(&*answer.read::<ScheduleRun<'_>>()?.id)
}

async fn delete(args: OneArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let answer = client(args.remote, config)?.delete(&format!("/v1/schedules/{}", args.id)).await?;
    if output.json {
        return output.line(answer.text());
    }
    output.line(format!("{} is gone; jobs it added stay", args.id))
}

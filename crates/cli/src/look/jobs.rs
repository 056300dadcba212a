//! `onefold jobs`: a list, newest first, over as many pages as it takes.

use onefold_core::{State, Timestamp};
use onefold_wire::{Job, RawValue};
use serde::{Deserialize, Serialize};

use super::{JobsArgs, query};
use crate::client::Client;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Align, Table, cut};
use crate::time::{given, now, relative, rough};

/// Most characters of a key or a note in a table.
const CELL: usize = 40;
/// Jobs of one page.
const PAGE: u64 = 1_000;

/// A page, its jobs as the server wrote them.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    jobs: Vec<&'a RawValue>,
    cursor: Option<String>,
}

/// What `--json` prints: like the server's own answer.
#[derive(Serialize)]
struct Listed<'a> {
    jobs: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
}

pub(crate) async fn jobs(args: JobsArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = args.source.clone().client(config)?;
    let (jobs, cursor) = collect(&client, &args, now()).await?;
    if output.json {
        return output.json(&Listed { jobs: &jobs, cursor: cursor.as_deref() });
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("QUEUE", Align::Left),
        ("STATE", Align::Left),
        ("ATTEMPT", Align::Right),
        ("AGE", Align::Right),
        ("KIND", Align::Left),
        ("KEY", Align::Left),
        ("NOTE", Align::Left),
    ]);
    let now = now();
    for raw in &jobs {
        table.row(row(&read(raw)?, now));
    }
    if table.is_empty() {
        return output.line("no such jobs");
    }
    for line in table.lines() {
        output.line(line)?;
    }
    match cursor {
        Some(cursor) => output.line(format!("more: --all, or --cursor {cursor}")),
        None => Ok(()),
    }
}

fn read<'a>(raw: &'a RawValue) -> Result<Job<'a>, Failure> {
    serde_json::from_str(raw.get())
        .map_err(|error| Failure::failed(format!("the server's answer cannot be read: {error}")))
}

/// Follows cursors until there are enough jobs.
async fn collect(
    client: &Client,
    args: &JobsArgs,
    now: Timestamp,
) -> Result<(Vec<Box<RawValue>>, Option<String>), Failure> {
    let mut jobs: Vec<Box<RawValue>> = Vec::new();
    let mut cursor = args.cursor.clone();
    loop {
        let wanted = if args.all { PAGE } else { args.limit - jobs.len() as u64 };
        let answer = client.get(&path(args, wanted.clamp(1, PAGE), cursor.as_deref(), now)).await?;
        let page: Page<'_> = answer.read()?;
        jobs.extend(page.jobs.into_iter().map(RawValue::to_owned));
        cursor = page.cursor;
        let enough = !args.all && jobs.len() as u64 >= args.limit;
        if enough || cursor.is_none() {
            return Ok((jobs, cursor));
        }
    }
}

fn path(args: &JobsArgs, limit: u64, cursor: Option<&str>, now: Timestamp) -> String {
    let filter = &args.filter;
    let [since, until] = filter.times(now);
    let states: Vec<&str> = args.state.iter().map(|state| state.as_str()).collect();
    let query = query(&[
        ("queue", args.queue.as_ref().map(ToString::to_string)),
        ("state", (!states.is_empty()).then(|| states.join(","))),
        ("kind", filter.kind.clone()),
        ("label", filter.label.clone()),
        ("key", filter.key.clone()),
        ("group", filter.group.clone()),
        ("since", since),
        ("until", until),
        ("limit", Some(limit.to_string())),
        ("cursor", cursor.map(str::to_owned)),
    ]);
    format!("/v1/jobs{query}")
}

fn row(job: &Job<'_>, now: Timestamp) -> Vec<String> {
    let text = |text: Option<&onefold_wire::Text<'_>>| text.map_or("", |text| text).to_owned();
    vec![
        job.id.to_string(),
        job.queue.to_string(),
        job.state.to_string(),
        job.attempt.to_string(),
        rough(now.since(given(&job.created_at))),
        cut(&text(job.kind.as_ref()), CELL),
        cut(&text(job.key.as_ref()), CELL),
        cut(&note(job, now), CELL * 2),
    ]
}

/// What one wants to know of a job in its state.
fn note(job: &Job<'_>, now: Timestamp) -> String {
    let error = job.error.as_ref().map_or("", |error| &error.message);
    match State::parse(&job.state) {
        Some(State::Scheduled) => format!("due {}", relative(given(&job.run_at), now)),
        Some(State::Available) => match &job.waiting {
            Some(waiting) => format!("waits: {waiting}"),
            None => String::new(),
        },
        Some(State::Running) if job.cancel_requested => "asked to stop".to_owned(),
        Some(State::Retrying) => format!("again {}: {error}", relative(given(&job.run_at), now)),
        Some(State::Dead) => {
            let reason = job.reason.as_ref().map_or("", |reason| reason);
            if error.is_empty() { reason.to_owned() } else { format!("{reason}: {error}") }
        }
        Some(State::Running | State::Completed | State::Cancelled) | None => String::new(),
    }
}

//! `onefold bench`: how fast a server on this machine is, beside what its disk allows.

mod floor;
mod load;
mod measure;
mod temporary;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use onefold::Onefold;
use onefold_core::{DurationMs, Entropy};
use onefold_runtime::SystemEntropy;
use serde::Serialize;

use crate::client::Client;
use crate::config::{Config, RemoteArgs, RemoteSettings, Token};
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::progress::Bar;
use crate::signals::Signals;
use crate::table::{Align, Table};
use floor::Floor;
use load::Load;
use measure::Latencies;
use temporary::Temporary;

/// Single adds on their way at once.
const SINGLES: usize = 64;
/// Jobs of an array.
const ARRAY: usize = 50;
/// Arrays on their way at once.
const ARRAYS: usize = 8;
/// Handlers of the worker.
const HANDLERS: usize = 100;
/// Jobs the worker holds at the most.
const HELD: usize = 200;

/// `onefold bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// How long each part takes
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    time: DurationMs,
    /// Where to put the data meanwhile: on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "url")]
    dir: PathBuf,
}

/// One part.
#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
    /// What one append of the same bytes and one fdatasync for each group commit would allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
}

impl Part {
    fn new(
        name: &'static str,
        per_second: Option<f64>,
        floor_per_second: Option<f64>,
        took: &Latencies,
    ) -> Part {
        let (p50_ms, p99_ms) = (took.percentile_ms(50), took.percentile_ms(99));
        Part { name, per_second, floor_per_second, p50_ms, p99_ms }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    server: &'a str,
    parts: &'a [Part],
}

pub(crate) async fn bench(args: BenchArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    tokio::select! {
        done = measure_all(args, config, output) => done,
        name = signals.next() => Err(Failure::failed(format!("ended by {name}"))),
    }
}

async fn measure_all(args: BenchArgs, config: &Config, output: Output) -> Result<(), Failure> {
    if cfg!(debug_assertions) {
        note("this is a debug build, several times slower than a release build");
    }
    let time = Duration::from(args.time);
    let bar = Bar::count(output, "parts");
    if args.remote.url.is_some() {
        let remote = config.remote(args.remote).map_err(Failure::usage)?;
        let parts = run(&remote, None, time, &bar).await?;
        drop(bar);
        return tell(remote.url.as_str(), &parts, output);
    }
    bar.say("the disk".to_owned());
    let temporary = Temporary::start(&args.dir).await?;
    let floor = Floor::of(temporary.dir(), time).await?;
    bar.add(1);
    let remote = RemoteSettings { url: temporary.url().clone(), named: true, token: None };
    let parts = run(&remote, Some(&floor), time, &bar).await?;
    drop(bar);
    temporary.stop().await;
    tell("a server of its own", &parts, output)
}

async fn run(
    remote: &RemoteSettings,
    floor: Option<&Floor>,
    time: Duration,
    bar: &Bar,
) -> Result<Vec<Part>, Failure> {
    let client = Client::server(remote)?;
    let token = remote.token.as_ref().map(Token::reveal);
    let onefold = Onefold::connect(remote.url.as_str(), token).map_err(Failure::usage)?;
    let queue = format!("bench-{:016x}", SystemEntropy.next_u64());
    let load = Load::new(client.clone(), onefold, queue.clone());
    let parts = parts(&load, floor, time, bar).await;
    // Leaves nothing behind, whatever happened.
    let swept = client.delete(&format!("/v1/queues/{queue}?force=true")).await;
    let parts = parts?;
    if let Err(error) = swept {
        note(&format!("the queue {queue} could not be deleted: {error}"));
    }
    Ok(parts)
}

async fn parts(load: &Load, floor: Option<&Floor>, time: Duration, bar: &Bar) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    let begin = |what: &str| bar.say(what.to_owned());
    let took = |seconds: f64, jobs: u64| jobs as f64 / seconds.max(f64::EPSILON);
    if let Some(floor) = floor {
        parts.push(Part::new(
            "write and fdatasync, one job",
            Some(floor.per_second(1)),
            None,
            floor.single(),
        ));
    }
    begin("single adds");
    let singles = load.add(SINGLES, 1, time).await?;
    let floor_of = |jobs: usize, commits: f64| floor.map(|floor| floor.per_second(jobs) / commits);
    let rate = took(singles.seconds, singles.jobs);
    parts.push(Part::new("single adds, 64 in flight", Some(rate), floor_of(SINGLES, 1.0), &singles.calls));
    bar.add(1);
    begin("arrays");
    let arrays = load.add(ARRAYS, ARRAY, time).await?;
    let rate = took(arrays.seconds, arrays.jobs);
    let per_commit = ARRAY * ARRAYS;
    parts.push(Part::new("arrays of 50, 8 in flight", Some(rate), floor_of(per_commit, 1.0), &arrays.calls));
    bar.add(1);
    begin("drain");
    let jobs = singles.jobs + arrays.jobs;
    let seconds = load.drain(jobs, HANDLERS).await?;
    // A commit that leases and one that completes.
    parts.push(Part::new(
        "drained by one worker",
        Some(took(seconds, jobs)),
        floor_of(HELD, 2.0),
        &Latencies::default(),
    ));
    bar.add(1);
    begin("latency");
    let latencies = load.latency(time, HANDLERS).await?;
    parts.push(Part::new("add to handler at 100 a second", None, None, &latencies));
    bar.add(1);
    Ok(parts)
}

fn tell(server: &str, parts: &[Part], output: Output) -> Result<(), Failure> {
    if output.json {
        return output.json(&Report { server, parts });
    }
    let mut table = Table::new(&[
        ("PART", Align::Left),
        ("A SECOND", Align::Right),
        ("FLOOR", Align::Right),
        ("OF FLOOR", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
    ]);
    let number = |number: Option<f64>| number.map(|number| format!("{number:.0}")).unwrap_or_default();
    let ms = |ms: Option<f64>| ms.map(|ms| format!("{ms:.2} ms")).unwrap_or_default();
    for part in parts {
        let ratio = part.per_second.zip(part.floor_per_second);
        let ratio = ratio.map(|(is, floor)| format!("{:.0} %", is / floor.max(f64::EPSILON) * 100.0));
        table.row(vec![
            part.name.to_owned(),
            number(part.per_second),
            number(part.floor_per_second),
            ratio.unwrap_or_default(),
            ms(part.p50_ms),
            ms(part.p99_ms),
        ]);
    }
    output.line(format!("Measured on {server}, the client on the same machine:"))?;
    for line in table.lines() {
        output.line(line)?;
    }
    if parts.iter().any(|part| part.floor_per_second.is_some()) {
        output.line(
            "FLOOR: the same bytes appended to a file on the same disk, with one fdatasync for as many jobs",
        )?;
        return output
            .line("as one commit could hold at the most: what a queue without any other work could do.");
    }
    Ok(())
}

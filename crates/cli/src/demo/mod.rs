//! `onefold demo`: a shop whose workers and server are killed in the middle of charging its customers.
//!
//! Real processes on this machine: two producers send every order through HTTP, workers charge through a receiver
//! and then ack, all of them children of this one and of the same binary. What they report and what server and
//! receiver hold in the end is counted, never assumed; see [`books`] and [`verdict`].

mod books;
mod crew;
mod director;
mod orders;
mod plan;
mod print;
mod producer;
mod receiver;
mod report;
mod stage;
mod survey;
mod ticks;
mod verdict;
mod worker;

use clap::{Args, Subcommand};
use onefold_core::Entropy;
use onefold_runtime::SystemEntropy;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::config::{Config, PostgresUrl, RemoteSettings, ServeArgs, ServerUrl};
use crate::failure::Failure;
use crate::output::Output;
use crate::serve;
use director::Director;
use stage::Stage;

/// `onefold demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// How many orders there are, each sent twice
    #[arg(long, value_name = "COUNT", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    orders: u32,
    /// Decides who is killed and when, as far as the machine lets it [default: another one every time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Only what happens without an idempotency key; exits non-zero, because customers are charged twice
    #[arg(long)]
    naive_only: bool,
    /// Keep the orders in this PostgreSQL database, served by two nodes, in a schema of its own that is dropped
    /// afterwards
    #[arg(long, value_name = "URL")]
    postgres: Option<PostgresUrl>,
    /// Leave the temporary directory with the server's data, or the schema, where it is
    #[arg(long)]
    keep: bool,
}

/// A process of the demo.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Child {
    Server(Box<ServeArgs>),
    Receiver,
    Producer(producer::ProducerArgs),
    Worker(worker::WorkerArgs),
}

/// Runs the demo.
pub(crate) async fn demo(args: DemoArgs, output: Output) -> Result<(), Failure> {
    let seed = args.seed.unwrap_or_else(|| SystemEntropy.next_u64() % 1_000_000);
    let mut dir = tempfile::Builder::new().prefix("onefold-demo-").tempdir().map_err(|error| {
        Failure::failed(format!("cannot make a temporary directory: {error}; set TMPDIR to where that works"))
    })?;
    let stage = Stage::new(dir.path(), args.postgres.as_ref(), seed)?;
    dir.disable_cleanup(args.keep);
    let outcome = tokio::select! {
        outcome = play(&args, seed, dir.path(), stage.clone(), output) => outcome,
        signal = interrupted() => Err(Failure::failed(format!("ended by {}", signal?))),
    };
    match args.keep {
        true => stage.tell_kept(dir.path()),
        false => stage.strike().await,
    }
    let seen = outcome?;
    print::print(&seen, output)?;
    match seen.is_sound() {
        true => Ok(()),
        false => Err(seen.complaint(seed)),
    }
}

async fn play(
    args: &DemoArgs,
    seed: u64,
    dir: &std::path::Path,
    stage: Stage,
    output: Output,
) -> Result<verdict::Seen, Failure> {
    let director = Director::begin(args, seed, dir, stage, output).await?;
    director.direct().await
}

/// Returns once somebody wants the demo to end.
async fn interrupted() -> Result<&'static str, Failure> {
    let catch =
        |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")));
    let (mut interrupt, mut terminate, mut hangup) =
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?, catch(SignalKind::hangup())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}

/// The server of the demo, which asks for no token.
fn server_at(url: ServerUrl) -> Result<Client, Failure> {
    Client::server(&RemoteSettings { url, named: true, token: None })
}

/// Runs a process of the demo.
pub(crate) fn child(child: Child, config: &Config) -> Result<(), Failure> {
    crew::end_with_the_demo();
    match child {
        Child::Server(args) => {
            serve::run(config.serve(*args).map_err(Failure::usage)?, Output { json: true })
        }
        Child::Receiver => crate::block_on(receiver::run()),
        Child::Producer(args) => crate::block_on(producer::run(args)),
        Child::Worker(args) => crate::block_on(worker::run(args)),
    }
}

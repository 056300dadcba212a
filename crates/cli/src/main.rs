//! The `onefold` binary: the server, and everything one does with it from a shell.

mod add;
mod args;
mod backup;
mod bench;
mod client;
mod config;
mod demo;
mod doctor;
mod effects;
mod failure;
mod logging;
mod look;
mod manage;
mod migrate;
mod output;
mod progress;
mod schedules;
mod serve;
mod signals;
mod signing;
mod table;
mod targets;
mod time;
mod work;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use config::Config;
use failure::Failure;
use output::Output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let config = Config::load(cli.config.as_deref(), |name| std::env::var_os(name));
    let config = config.map_err(Failure::usage)?;
    let output = Output { json: cli.json };
    match cli.command {
        Command::Serve(args) => serve::run(config.serve(args).map_err(Failure::usage)?, output),
        Command::Add(args) => run_on_all_cores(add::add(args, &config, output)),
        Command::Work(args) => run_on_all_cores(work::work(args, &config, output)),
        Command::Jobs(args) => block_on(look::jobs(args, &config, output)),
        Command::Job(args) => block_on(look::job(args, &config, output)),
        Command::Queues(args) => block_on(look::queues(args, &config, output)),
        Command::Schedules(args) => block_on(schedules::schedules(args, &config, output)),
        Command::Pause(args) => block_on(manage::pause(args, true, &config, output)),
        Command::Resume(args) => block_on(manage::pause(args, false, &config, output)),
        Command::Cancel(args) => block_on(manage::cancel(args, &config, output)),
        Command::Retry(args) => block_on(manage::retry(args, &config, output)),
        Command::Delete(args) => block_on(manage::delete(args, &config, output)),
        Command::Effects(args) => block_on(effects::effects(args, &config, output)),
        Command::Targets(args) => block_on(targets::targets(args, &config, output)),
        Command::SigningKey(args) => signing::signing_key(args, output),
        Command::Bench(args) => run_on_all_cores(bench::bench(args, &config, output)),
        Command::Doctor(args) => block_on(doctor::doctor(args, &config, output)),
        Command::Backup(args) => block_on(backup::backup(args, &config, output)),
        Command::Restore(args) => backup::restore(args, &config, output),
        Command::Migrate(args) => block_on(migrate::migrate(args, &config, output)),
        Command::Demo(args) => block_on(demo::demo(args, output)),
        Command::DemoChild { role } => demo::child(role, &config),
        Command::Redrive(args) => block_on(manage::redrive(args, &config, output)),
    }
}

/// Runs a command that is mostly waiting for answers.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

/// Runs a command with much to do.
fn run_on_all_cores(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(command);
    // A read of standard input cannot be taken back; nobody waits for it any more.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// The runtime of a command: as many threads as the machine has cores.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}

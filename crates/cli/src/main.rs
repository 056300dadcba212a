//! The `onefold` binary: the server, and everything one does with it from a shell.

mod args;
mod config;
mod failure;
mod logging;
mod output;
mod serve;

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
    }
}

/// The runtime of a command: as many threads as the machine has cores.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))
}

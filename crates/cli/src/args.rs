//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::ServeArgs;

/// A durable job queue: many deliveries, one effect.
#[derive(Debug, Parser)]
#[command(name = "onefold", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Settings file [env: ONEFOLD_CONFIG] [default: onefold.toml in the current directory, if there]
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON instead of tables and sentences
    #[arg(long, global = true, display_order = 901)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  onefold serve                                         start a server on this machine
  onefold add emails '{\"to\":\"ada@example.com\"}' --key welcome-7
  onefold work --queue emails --exec ./send.sh          run a command for every job
  onefold jobs --queue emails --state dead              what went wrong
  onefold job job_01a1…                                 everything about one job, explained

Exit codes: 0 done, 1 failed, 2 asked for wrongly.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server
    #[command(after_help = SERVE)]
    Serve(ServeArgs),
}

const SERVE: &str = "\
Examples:
  onefold serve
  onefold serve --data /var/lib/onefold --listen 127.0.0.1:8000
  ONEFOLD_TOKEN=$(cat token) onefold serve --listen 0.0.0.0:7717

Prints one line with its URL once it serves. SIGTERM or SIGINT: hands out no more jobs, answers what
is in progress and exits with 0; a second signal ends it at once. Leases that are held go on.";

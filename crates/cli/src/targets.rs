//! `onefold targets`: those that said that they are gone, and going on with them.

use clap::{Args, Subcommand};
use onefold_wire::{ResumeTarget, ResumedTarget, TargetList, Text};

use crate::client::Client;
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::{given, now, relative};

/// `onefold targets`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TargetsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Deliver to a parked target again
    Resume(ResumeArgs),
}

#[derive(Debug, Clone, Args)]
struct ResumeArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Any URL of it: its scheme, host and port are what counts
    target: String,
}

pub(crate) async fn targets(args: TargetsArgs, config: &Config, output: Output) -> Result<(), Failure> {
    match args.what {
        Some(What::Resume(args)) => resume(args, config, output).await,
        None => list(args.remote, config, output).await,
    }
}

async fn list(remote: RemoteArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = Client::server(&config.remote(remote).map_err(Failure::usage)?)?;
    let answer = client.get("/v1/targets").await?;
    if output.json {
        return output.line(answer.text());
    }
    let list: TargetList<'_> = answer.read()?;
    let mut table =
        Table::new(&[("PARKED", Align::Left), ("SINCE", Align::Left), ("BECAUSE OF", Align::Left)]);
    for target in &list.parked {
        let since = relative(given(&target.since), now());
        table.row(vec![target.origin.to_string(), since, target.job.to_string()]);
    }
    if table.is_empty() {
        return output.line("no target is parked");
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))
}

async fn resume(args: ResumeArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = Client::server(&config.remote(args.remote).map_err(Failure::usage)?)?;
    let answer = client.post("/v1/targets/resume", &ResumeTarget { url: Text::from(args.target) }).await?;
    if output.json {
        return output.line(answer.text());
    }
    let resumed: ResumedTarget<'_> = answer.read()?;
    output.line(match resumed.resumed {
        true => format!("{} is delivered to again", resumed.origin),
        false => format!("{} was not parked", resumed.origin),
    })
}

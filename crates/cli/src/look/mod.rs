//! Looking at jobs and queues: of a server, or straight in a data directory.

mod exchange;
mod explain;
mod job;
mod jobs;
mod queues;

use std::path::PathBuf;

use clap::Args;
use onefold_core::{JobId, QueueName, State, Timestamp};

use crate::client::{Client, Directory, escaped};
use crate::config::{Config, RemoteArgs};
use crate::failure::Failure;
use crate::time::Moment;

pub(crate) use job::job;
pub(crate) use jobs::jobs;
pub(crate) use queues::queues;

/// Where to look.
#[derive(Debug, Clone, Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Look straight into a data directory instead; safe beside a running server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "token"])]
    data: Option<PathBuf>,
}

impl SourceArgs {
    /// What to ask.
    pub(crate) fn client(self, config: &Config) -> Result<Client, Failure> {
        match self.data {
            Some(data) => Ok(Client::directory(Directory::open(&data)?)),
            None => Client::server(&config.remote(self.remote).map_err(Failure::usage)?),
        }
    }
}

/// Which jobs; every given condition must hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// With this label
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Added with this key
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Accepted at or after this time, or at most this long ago, like 1h
    #[arg(long, value_name = "TIME|AGO")]
    pub(crate) since: Option<Moment>,
    /// Accepted before this time, or longer ago than this
    #[arg(long, value_name = "TIME|AGO")]
    pub(crate) until: Option<Moment>,
}

impl FilterArgs {
    /// The bounds in time, as they are sent.
    pub(crate) fn times(&self, now: Timestamp) -> [Option<String>; 2] {
        [self.since, self.until].map(|moment| moment.map(|moment| moment.before(now).to_string()))
    }
}

/// `onefold jobs`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Of this queue
    #[arg(long, short)]
    queue: Option<QueueName>,
    /// In this state; several times or with commas: in one of them
    #[arg(long, short, value_delimiter = ',', value_parser = state)]
    state: Vec<State>,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most this many
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Go on where an earlier answer ended
    #[arg(long)]
    cursor: Option<String>,
}

/// `onefold job`.
#[derive(Debug, Clone, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The job's id
    id: JobId,
}

/// `onefold queues`.
#[derive(Debug, Clone, Args)]
pub(crate) struct QueuesArgs {
    #[command(flatten)]
    source: SourceArgs,
}

/// Parses a state, or names all there are.
pub(crate) fn state(word: &str) -> Result<State, String> {
    State::parse(word).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("a state is one of {}", words.join(", "))
    })
}

/// A query string from those parameters that are there.
pub(crate) fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<String> = given.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::add::AddArgs;
use crate::backup::{BackupArgs, RestoreArgs};
use crate::bench::BenchArgs;
use crate::config::ServeArgs;
use crate::demo::{Child, DemoArgs};
use crate::doctor::DoctorArgs;
use crate::effects::EffectsArgs;
use crate::look::{JobArgs, JobsArgs, QueuesArgs};
use crate::manage::{CancelArgs, DeleteArgs, QueueArgs, RedriveArgs, RetryArgs};
use crate::migrate::MigrateArgs;
use crate::schedules::SchedulesArgs;
use crate::signing::SigningKeyArgs;
use crate::targets::TargetsArgs;
use crate::work::WorkArgs;

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
    /// Add a job, or one for every line of standard input
    #[command(after_help = ADD)]
    Add(AddArgs),
    /// Run a command for every job of some queues
    #[command(after_help = WORK)]
    Work(WorkArgs),
    /// List jobs, newest first
    #[command(after_help = JOBS)]
    Jobs(JobsArgs),
    /// Show everything about a job: every attempt, why it ran again, why it is not running
    #[command(after_help = JOB)]
    Job(JobArgs),
    /// List queues and what they hold
    #[command(after_help = QUEUES)]
    Queues(QueuesArgs),
    /// List, make and change schedules: jobs on time
    #[command(after_help = SCHEDULES)]
    Schedules(SchedulesArgs),
    /// Hand out no more jobs of a queue; what runs goes on
    Pause(QueueArgs),
    /// Hand out jobs of a paused queue again
    Resume(QueueArgs),
    /// Cancel jobs
    #[command(after_help = CANCEL)]
    Cancel(CancelArgs),
    /// Make dead, cancelled or retrying jobs run again now
    #[command(after_help = RETRY)]
    Retry(RetryArgs),
    /// Delete finished jobs; their keys stay held for the rest of their window
    Delete(DeleteArgs),
    /// Make the dead jobs of a queue run again
    #[command(after_help = REDRIVE)]
    Redrive(RedriveArgs),
    /// Show effects and what was recorded of them; resolve those nobody knows about
    #[command(after_help = EFFECTS)]
    Effects(EffectsArgs),
    /// List targets that said that they are gone, and go on with them
    #[command(after_help = TARGETS)]
    Targets(TargetsArgs),
    /// Make a key that signs deliveries
    #[command(after_help = SIGNING_KEY)]
    SigningKey(SigningKeyArgs),
    /// Measure how fast a server is here, beside what the disk allows
    #[command(after_help = BENCH)]
    Bench(BenchArgs),
    /// Check the store, the machine and the server, and say what to do
    #[command(after_help = DOCTOR)]
    Doctor(DoctorArgs),
    /// Write a consistent copy of the store, beside running work
    #[command(after_help = BACKUP)]
    Backup(BackupArgs),
    /// Put a backup where a server will find it
    #[command(after_help = RESTORE)]
    Restore(RestoreArgs),
    /// Make the schema of a store in PostgreSQL, or bring it to this version
    #[command(after_help = MIGRATE)]
    Migrate(MigrateArgs),
    /// Kill workers and a server in the middle of their work, and see what their customers are charged
    #[command(after_help = DEMO)]
    Demo(DemoArgs),
    /// A process of the demo
    #[command(hide = true)]
    DemoChild {
        #[command(subcommand)]
        role: Child,
    },
}

const SERVE: &str = "\
Examples:
  onefold serve
  onefold serve --data /var/lib/onefold --listen 127.0.0.1:8000
  ONEFOLD_TOKEN=$(cat token) onefold serve --listen 0.0.0.0:7717
  ONEFOLD_POSTGRES=postgres://onefold:…@db/jobs onefold serve

Prints one line with its URL once it serves. SIGTERM or SIGINT: hands out no more jobs, answers what
is in progress and exits with 0; a second signal ends it at once. Leases that are held go on.";

const ADD: &str = "\
Examples:
  onefold add emails '{\"to\":\"ada@example.com\"}' --key welcome-7
  onefold add reports --kind monthly --delay 1h
  onefold add invoices - --key-from order_id < orders.jsonl

With - each line is the payload of one job. Bad lines are told with their number and left out; they make
the exit code 1. Lines with a key may be sent again at will, so a server that restarts meanwhile is waited
for; the summary says how many were new, repeated and refused.";

const WORK: &str = "\
Examples:
  onefold work --queue invoices --exec ./invoice.sh
  onefold work --queue urgent,normal --exec 'node send.mjs' --concurrency 8

The command gets the payload on its standard input and these variables: ONEFOLD_JOB_ID, ONEFOLD_ATTEMPT,
ONEFOLD_FENCING_TOKEN, ONEFOLD_IDEMPOTENCY_KEY (the same in every attempt), ONEFOLD_QUEUE, ONEFOLD_KIND,
ONEFOLD_KEY, ONEFOLD_RETRY_UNTIL. How it exits decides:
  0         done; what it printed, JSON or text up to 1 MiB, is the result
  65        failed for good: the job is a dead letter
  75, else  failed: tried again after its backoff; the end of standard error is kept as the reason
Leases are extended while commands run. A command whose lease is lost is killed, with all it started.
SIGTERM or SIGINT: takes no more jobs and gives its commands the --grace to end; a second one ends it at once.";

const JOBS: &str = "\
Examples:
  onefold jobs --queue invoices
  onefold jobs --state dead,retrying --since 1h
  onefold jobs --queue invoices --key order-17
  onefold jobs --data ./onefold-data --all --json | jq -r '.jobs[].id'

States: scheduled, available, running, retrying, completed, dead, cancelled.";

const JOB: &str = "\
Examples:
  onefold job job_01a1fe047dc070008000000000000007
  onefold job job_01a1fe047dc070008000000000000007 --json
  onefold job job_01a1fe047dc070008000000000000007 --data ./onefold-data";

const QUEUES: &str = "\
Examples:
  onefold queues
  onefold queues --data ./onefold-data --json

A queue's jobs are conserved: accepted = scheduled + available + running + retrying + completed + dead +
cancelled + purged.";

const SCHEDULES: &str = "\
Examples:
  onefold schedules
  onefold schedules set nightly --cron '30 2 * * *' --timezone Europe/Berlin --queue reports
  onefold schedules next nightly
  onefold schedules run nightly

Each tick adds one job, whichever server evaluates it. Ticks that nobody was there for are caught up as --missed
says; the list counts those that got no job.";

const CANCEL: &str = "\
Examples:
  onefold cancel job_01a1fe047dc070008000000000000007
  onefold cancel --force job_01a1fe047dc070008000000000000007

A job that does not run is cancelled at once. A running one is asked to stop: its worker hears of it with
its next heartbeat, and if it completes all the same, that counts. --force revokes its lease at once.";

const RETRY: &str = "\
Examples:
  onefold retry job_01a1fe047dc070008000000000000007

The job keeps its id and key, gets new budgets, and its attempt numbers go on.";

const REDRIVE: &str = "\
Examples:
  onefold redrive invoices --dry-run
  onefold redrive invoices --kind charge --since 1d
  onefold redrive invoices --state dead,cancelled --limit 100";

const EFFECTS: &str = "\
Examples:
  onefold effects --state indeterminate
  onefold effects show job_01a1fe047dc070008000000000000007 charge
  onefold effects resolve job_01a1fe047dc070008000000000000007 charge --outcome completed --note 'in their books'

States: executing, completed, released, indeterminate. A job that died of an indeterminate effect may be retried
once that is resolved.";

const TARGETS: &str = "\
Examples:
  onefold targets
  onefold targets resume https://shop.example

A target that answers 410 is parked: its jobs wait, and cost no attempts, until it is resumed.";

const SIGNING_KEY: &str = "\
Examples:
  (umask 077; onefold signing-key > signing-keys)
  onefold serve --signing-key-file signing-keys
  onefold signing-key --ed25519 >> signing-keys

Secrets are printed nowhere else: the file is all there is. It has a key a line, newest first; a line that ends in
`until 2026-12-24T18:00:00Z` signs along until then. Below a line like [https://shop.example] stand the keys of that
origin, which then has no others.";

const BENCH: &str = "\
Examples:
  onefold bench
  onefold bench --dir /var/lib --time 10s
  onefold bench --url http://127.0.0.1:7717

Starts a server of its own on a temporary directory, unless --url names one that runs: there it uses a queue
of its own and deletes it afterwards.";

const DOCTOR: &str = "\
Examples:
  onefold doctor
  onefold doctor --data /var/lib/onefold --json
  onefold doctor --postgres postgres://onefold@db/jobs

Reads the whole store of a directory, which takes some seconds for each million jobs; safe beside a running server.
Exit code 1 if a line says FAIL.";

const BACKUP: &str = "\
Examples:
  onefold backup monday.db
  onefold backup monday.db --data ./onefold-data        without a server, or beside it";

const RESTORE: &str = "\
Examples:
  onefold restore monday.db
  onefold restore monday.db --data ./elsewhere
  onefold restore monday.db --force --token-at-least 1882473431040000

Stop the server first. The backup is copied, checked and put in place at once. Fencing tokens go on growing,
because a store that is opened hands out none below unix seconds x 2^20; only if the clock was set back since
the backup must they be told where to start.";

const MIGRATE: &str = "\
Examples:
  onefold migrate --postgres postgres://onefold@db/jobs
  ONEFOLD_POSTGRES=$(cat url) onefold migrate --postgres-schema queue

Never goes back, and refuses a schema newer than this program. Each version is one transaction, and one program
at a time applies them. `onefold serve` makes the schema in a database that has none, and never changes one.";

const DEMO: &str = "\
Examples:
  onefold demo
  onefold demo --naive-only                             what happens without idempotency keys
  onefold demo --orders 20000 --seed 7 --json
  onefold demo --postgres postgres://me@localhost/scratch

Real processes on a free port of this machine, in a temporary directory; nothing is left behind. Exit code 1
if a promise was broken or a customer was charged twice or never.";

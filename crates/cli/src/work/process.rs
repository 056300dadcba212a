//! A command that runs for a job: a process group of its own, killed with everything in it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use onefold::{Job, RawPayload};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;

use super::streams::{Stderr, Stdout};

/// How long the output of a command is waited for after its end, if something it left behind
/// keeps it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// A running command. Dropped, it and everything it started are killed.
pub(super) struct Process {
    child: Child,
    /// `None` once the child was waited for: its number may belong to somebody else by now.
    group: Option<Pid>,
    stdout: Stdout,
    stderr: Stderr,
    streams: JoinSet<()>,
}

/// How a command ended.
pub(super) struct Ended {
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    signal: Option<i32>,
    pub(super) stdout: Stdout,
    stderr: Stderr,
}

impl Process {
    /// Starts a command with the payload of a job on its standard input.
    pub(super) fn start(command: &str, job: Job<RawPayload>, idempotency_key: &str) -> io::Result<Process> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.process_group(0);
        for (name, value) in environment(&job, idempotency_key) {
            match value {
                Some(value) => shell.env(name, value),
                // Not what a command around us was given.
                None => shell.env_remove(name),
            };
        }
        let mut child = shell.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (stdout, stderr) = (Stdout::default(), Stderr::default());
        let mut streams = JoinSet::new();
        if let Some(stdin) = child.stdin.take() {
            streams.spawn(feed(stdin, job.payload));
        }
        if let Some(pipe) = child.stdout.take() {
            streams.spawn(stdout.clone().read(pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            streams.spawn(stderr.clone().read(pipe, std::io::stderr()));
        }
        Ok(Process { child, group, stdout, stderr, streams })
    }

    /// Waits for its end. May be given up and called again.
    pub(super) async fn ended(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        self.group = None;
        let everything_read = async { while self.streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_OUTPUT, everything_read).await;
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
        })
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended just now.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Ended {
    /// Why it failed: the end of what it said, or how it ended.
    pub(super) fn message(&self) -> String {
        let said = self.stderr.tail();
        if !said.is_empty() {
            return said;
        }
        match (self.code, self.signal) {
            (Some(code), _) => {
                format!("the command ended with exit code {code} and wrote nothing to standard error")
            }
            (None, Some(signal)) => format!("the command was ended by signal {signal}"),
            (None, None) => "the command ended".to_owned(),
        }
    }
}

fn environment(job: &Job<RawPayload>, idempotency_key: &str) -> [(&'static str, Option<String>); 8] {
    [
        ("ONEFOLD_JOB_ID", Some(job.id.to_string())),
        ("ONEFOLD_ATTEMPT", Some(job.attempt.to_string())),
        ("ONEFOLD_FENCING_TOKEN", Some(job.fencing_token.to_string())),
        ("ONEFOLD_IDEMPOTENCY_KEY", Some(idempotency_key.to_owned())),
        ("ONEFOLD_QUEUE", Some(job.queue.clone())),
        ("ONEFOLD_KIND", job.kind.clone()),
        ("ONEFOLD_KEY", job.key.clone()),
        ("ONEFOLD_RETRY_UNTIL", job.retry_until.map(|time| time.to_string())),
    ]
}

/// A command need not read its input.
async fn feed(mut stdin: ChildStdin, payload: RawPayload) {
    let _ = stdin.write_all(payload.bytes()).await;
}

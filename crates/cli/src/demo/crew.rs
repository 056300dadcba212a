//! The processes of the demo: started, heard, stopped, killed, and gone when the demo is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{mpsc, oneshot};

use super::report::{Report, Serving};
use crate::failure::Failure;

/// What all processes say on standard error.
const LOG: &str = "processes.log";

/// A process said something, or nothing any more.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) pid: u32,
    /// `None`: its output has ended.
    pub(super) report: Option<Report>,
}

/// What the processes say, in order.
pub(super) struct Ears {
    reports: mpsc::UnboundedReceiver<Heard>,
    /// What came in and was not listened to yet.
    backlog: VecDeque<Heard>,
}

impl Ears {
    fn new(reports: mpsc::UnboundedReceiver<Heard>) -> Ears {
        Ears { reports, backlog: VecDeque::new() }
    }

    /// What was said next. Nothing is lost if it is awaited no longer.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        match self.backlog.pop_front() {
            Some(heard) => Some(heard),
            None => self.reports.recv().await,
        }
    }

    /// The same, if anything was said.
    pub(super) fn next_now(&mut self) -> Option<Heard> {
        self.take_in();
        self.backlog.pop_front()
    }

    /// Whether nothing was said that was not listened to.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.take_in();
        self.backlog.is_empty()
    }

    /// Whether this process said more that was not listened to yet.
    pub(super) fn has_more_of(&mut self, pid: u32) -> bool {
        self.take_in();
        self.backlog.iter().any(|heard| heard.pid == pid)
    }

    fn take_in(&mut self) {
        while let Ok(heard) = self.reports.try_recv() {
            self.backlog.push_back(heard);
        }
    }
}

/// Starts processes.
pub(super) struct Crew {
    exe: PathBuf,
    dir: PathBuf,
    heard: mpsc::UnboundedSender<Heard>,
}

/// A process, killed when dropped.
pub(super) struct Member {
    child: Child,
}

impl Crew {
    /// Processes in `dir`, and what they report.
    pub(super) fn gather(dir: &Path) -> Result<(Crew, Ears), Failure> {
        let exe = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
        let (heard, reports) = mpsc::unbounded_channel();
        Ok((Crew { exe, dir: dir.to_owned(), heard }, Ears::new(reports)))
    }

    /// Starts a process that reports.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Member, Failure> {
        let (member, stdout) = self.spawn(arguments, &[])?;
        let (pid, heard) = (member.pid(), self.heard.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A line cut short by SIGKILL is no report.
                let Ok(report) = serde_json::from_str(&line) else { continue };
                if heard.send(Heard { pid, report: Some(report) }).is_err() {
                    return;
                }
            }
            let _ = heard.send(Heard { pid, report: None });
        });
        Ok(member)
    }

    /// Starts a process that listens, and waits until it says where. What others may not see stands in `variables`.
    pub(super) async fn start_serving(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<(Member, String), Failure> {
        let (member, stdout) = self.spawn(arguments, variables)?;
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let url = lines.next().and_then(|line| serde_json::from_str::<Serving>(&line).ok());
            let _ = tell.send(url.map(|serving| serving.url));
            lines.for_each(drop);
        });
        match told.await {
            Ok(Some(url)) => Ok((member, url)),
            Ok(None) | Err(_) => Err(self.explain("a process of the demo did not start")),
        }
    }

    fn spawn(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<(Member, ChildStdout), Failure> {
        let trouble =
            |error: std::io::Error| Failure::failed(format!("cannot start {}: {error}", self.exe.display()));
        let log = File::options().create(true).append(true).open(self.dir.join(LOG)).map_err(trouble)?;
        let mut command = Command::new(&self.exe);
        command.arg("demo-child").args(arguments).current_dir(&self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        // Ctrl-C is for the demo, which then ends them all.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ONEFOLD_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().copied());
        let mut child = command.spawn().map_err(trouble)?;
        let stdout = child.stdout.take();
        let member = Member { child };
        stdout.map(|stdout| (member, stdout)).ok_or_else(|| Failure::failed("a process has no output"))
    }

    /// A failure, with the last words of the processes.
    pub(super) fn explain(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(self.dir.join(LOG)).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Failure::failed(format!("{what}; the processes last said:\n{}", last.join("\n")))
    }
}

impl Member {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(super) fn kill(self) {}

    /// SIGSTOP: what a long pause of a virtual machine or a garbage collector looks like from outside.
    pub(super) fn stop(&self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let sent = pid.map(|pid| kill_process(pid, signal));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Failure::failed(format!("cannot send {signal:?} to process {}", self.pid()))),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends this process when the demo that started it is gone, even if that was killed: its end of our standard input
/// is closed then.
pub(super) fn end_with_the_demo() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is struck is chosen by this: others may talk all the time, and that says nothing of the one who has just charged.
    #[tokio::test]
    async fn nothing_is_missed_and_who_said_more_is_known() {
        let (say, reports) = mpsc::unbounded_channel();
        let mut ears = Ears::new(reports);
        assert!(ears.is_quiet() && ears.next_now().is_none());
        for pid in [1, 2, 1, 3] {
            say.send(Heard { pid, report: None }).unwrap();
        }
        assert_eq!(ears.next().await.unwrap().pid, 1);
        assert_eq!([1, 2, 3, 4].map(|pid| ears.has_more_of(pid)), [true, true, true, false]);
        assert_eq!((ears.next().await.unwrap().pid, ears.next_now().unwrap().pid), (2, 1));
        assert!(!ears.has_more_of(1) && !ears.is_quiet());
        assert_eq!(ears.next().await.unwrap().pid, 3);
        assert!(ears.is_quiet());
    }
}

//! Processes that never outlive their test.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::now;

/// A running process. Its output is read as it comes; it is killed when this is dropped.
pub struct Process {
    name: String,
    /// It is killed with all it started.
    leads_group: bool,
    child: Child,
    /// Behind a lock only so that threads may share the process.
    lines: Mutex<Receiver<String>>,
    errors: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts it with `input` on its standard input.
    pub fn start(command: &mut Command, input: &str) -> Process {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        std::thread::spawn(move || {
            // It may end without having read everything.
            let _ = stdin.write_all(input.as_bytes());
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Process { name, leads_group: false, child, lines: Mutex::new(lines), errors: Some(errors) }
    }

    /// Starts something that starts others, such as a shell: they are killed with it.
    pub fn start_group(command: &mut Command) -> Process {
        let mut leader = Process::start(command.process_group(0), "");
        leader.leads_group = true;
        leader
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output; `None` once there is no more.
    ///
    /// # Panics
    /// If neither happens within `patience`.
    pub fn line(&self, patience: Duration) -> Option<String> {
        match self.lines.lock().unwrap().recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{}: no output for {patience:?}", self.name),
        }
    }

    /// The lines of its standard output that came and were not taken.
    pub fn lines_by_now(&self) -> Vec<String> {
        self.lines.lock().unwrap().try_iter().collect()
    }

    /// Waits for a line of its standard output that `is` it.
    ///
    /// # Errors
    /// What it said on standard error, if it ended instead.
    pub fn wait_line(&mut self, patience: Duration, is: impl Fn(&str) -> bool) -> Result<String, String> {
        let start = now();
        while let Some(line) = self.line(patience.saturating_sub(now() - start)) {
            if is(&line) {
                return Ok(line);
            }
        }
        Err(self.finish(patience).2)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has an id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {signal:?}: {error}", self.name));
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if self.leads_group
            && let Some(group) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end: status, what it printed that was not taken, what it said on standard error.
    ///
    /// # Panics
    /// If it still prints, or is quiet and running, after `patience`.
    pub fn finish(&mut self, patience: Duration) -> (ExitStatus, Vec<String>, String) {
        let start = now();
        let mut printed = Vec::new();
        while let Some(line) = self.line(patience.saturating_sub(now() - start)) {
            printed.push(line);
        }
        let status = self.child.wait().unwrap();
        let errors = self.errors.take().map(|errors| errors.join().unwrap()).unwrap_or_default();
        (status, printed, errors)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Some(errors) = self.errors.take().and_then(|errors| errors.join().ok())
        {
            let tail: Vec<&str> = errors.lines().rev().take(20).collect();
            for line in tail.iter().rev() {
                eprintln!("| {line}");
            }
        }
    }
}

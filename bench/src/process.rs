//! Processes that are measured, and end with the measurement.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A process that says in its first line where it listens.
pub(crate) struct Process {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Process {
    /// Starts it, and waits for that line.
    pub(crate) fn start(command: &mut Command) -> Result<Process, Failure> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).ok_or("no address")?;
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Ok(Process { child, address })
    }

    /// Memory it holds, in MiB.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().next().ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

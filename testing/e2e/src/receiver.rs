//! A receiver of deliveries in a process of its own, and what it got.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Process;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running receiver.
pub struct Receiver {
    process: Process,
    address: SocketAddr,
}

impl Receiver {
    /// Starts one: `program` is `env!("CARGO_BIN_EXE_onefold-receiver")`, which only tests know.
    pub fn start(program: &str) -> Receiver {
        Receiver::run(&mut Command::new(program))
    }

    /// Starts one that makes each request durable in `log`, a line of JSON each, before it answers, and tells here what it
    /// has answered instead of what it got.
    pub fn start_logging(program: &str, log: &Path) -> Receiver {
        Receiver::run(Command::new(program).arg("--log").arg(log))
    }

    fn run(command: &mut Command) -> Receiver {
        let mut process = Process::start(command, "");
        let line = process.wait_line(PATIENCE, |line| line.starts_with("listens on "));
        let line = line.unwrap_or_else(|errors| panic!("the receiver did not start: {errors}"));
        let address = line.trim_start_matches("listens on ").parse().expect("the receiver names its address");
        Receiver { process, address }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request it got, or answered if it logs them.
    pub fn next(&self) -> Value {
        let line = self.process.line(PATIENCE).expect("the receiver goes on");
        serde_json::from_str(&line).expect("a request as JSON")
    }

    /// What it told by now and nobody took.
    pub fn told(&self) -> Vec<Value> {
        let lines = self.process.lines_by_now();
        lines.iter().map(|line| serde_json::from_str(line).expect("a request as JSON")).collect()
    }
}

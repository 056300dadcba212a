//! A receiver of deliveries in a process of its own, and what it got.

use std::net::SocketAddr;
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
        let mut process = Process::start(&mut Command::new(program), "");
        let line = process.wait_line(PATIENCE, |line| line.starts_with("listens on "));
        let line = line.unwrap_or_else(|errors| panic!("the receiver did not start: {errors}"));
        let address = line.trim_start_matches("listens on ").parse().expect("the receiver names its address");
        Receiver { process, address }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request it got.
    pub fn next(&self) -> Value {
        let line = self.process.line(PATIENCE).expect("the receiver goes on");
        serde_json::from_str(&line).expect("a request as JSON")
    }
}

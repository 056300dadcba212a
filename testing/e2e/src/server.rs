//! `onefold serve`, killed and started again.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::{Client, Process, onefold_command};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It keeps its port over restarts.
pub struct Server {
    dir: PathBuf,
    arguments: Vec<OsString>,
    address: SocketAddr,
    process: Option<Process>,
}

impl Server {
    /// Starts one on a data directory and a free port, and waits until it serves.
    pub fn start(data: &Path) -> Server {
        Server::start_with(data, &[]).unwrap_or_else(|errors| panic!("the server did not start: {errors}"))
    }

    /// Starts one with more arguments.
    ///
    /// # Errors
    /// What it said, if it ended instead of serving.
    pub fn start_with(data: &Path, arguments: &[&str]) -> Result<Server, String> {
        let dir = data.parent().expect("the data directory is in another one");
        let of_store = ["--data".into(), data.into()];
        Server::start_in(dir, of_store.into_iter().chain(arguments.iter().map(OsString::from)).collect())
    }

    /// Starts one on a database, with more arguments, to be run in `dir`.
    ///
    /// # Errors
    /// What it said, if it ended instead of serving.
    pub fn start_on(postgres: &str, dir: &Path, arguments: &[&str]) -> Result<Server, String> {
        let all = [&["--postgres", postgres], arguments].concat();
        Server::start_in(dir, all.into_iter().map(OsString::from).collect())
    }

    fn start_in(dir: &Path, arguments: Vec<OsString>) -> Result<Server, String> {
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut server = Server { dir: dir.to_owned(), arguments, address, process: None };
        server.spawn();
        server.wait_serving()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server was started").pid()
    }

    /// Starts the process and does not wait for anything.
    pub fn spawn(&mut self) {
        let mut command = onefold_command(&self.dir);
        command.arg("serve");
        command.args(["--listen", &self.address.to_string()]).args(&self.arguments);
        if !self.arguments.iter().any(|argument| argument == "--log") {
            command.args(["--log", "warn"]);
        }
        self.process = Some(Process::start(&mut command, ""));
    }

    /// Waits until it says that it serves.
    ///
    /// # Errors
    /// What it said, if it ended instead.
    pub fn wait_serving(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().expect("the server was started");
        let line = process.wait_line(PATIENCE, |line| line.contains("serves http://"))?;
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        self.address = url.and_then(|address| address.parse().ok()).expect("the server names its address");
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again and waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.wait_serving().unwrap_or_else(|errors| panic!("the server did not start again: {errors}"));
    }

    /// SIGTERM, and waits for its end: how it ended and what it said.
    pub fn terminate(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("the server was started");
        process.signal(Signal::TERM);
        let (status, _, errors) = process.finish(PATIENCE);
        (status, errors)
    }
}

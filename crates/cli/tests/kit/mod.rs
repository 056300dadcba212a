//! What the tests of the command line share: the built binary in a directory of its own, servers
//! on free ports, and plain HTTP.

#![allow(dead_code, reason = "not every test uses everything")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything is waited for before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory to work in, and the server its commands talk to.
pub(crate) struct Room {
    dir: tempfile::TempDir,
    pub(crate) url: Option<String>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Room {
    pub(crate) fn new() -> Room {
        Room { dir: tempfile::tempdir().unwrap(), url: None }
    }

    /// A room with a server on `./onefold-data`.
    pub(crate) fn served() -> (Room, Server) {
        let mut room = Room::new();
        let server = room.serve(&[]);
        room.url = Some(server.url.clone());
        (room, server)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary, in this directory and without settings from outside.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onefold"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ONEFOLD_") {
                command.env_remove(name);
            }
        }
        if let Some(url) = &self.url {
            command.env("ONEFOLD_URL", url);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args))
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.out
    }

    /// Runs a command that must succeed with `--json`; what it printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// Runs a command with a text on its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ran::from(child.wait_with_output().unwrap())
    }

    /// A server on a free port, once it serves.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        self.serve_on("127.0.0.1:0", args)
    }

    pub(crate) fn serve_on(&self, listen: &str, args: &[&str]) -> Server {
        let process =
            Running::start(self.command(&[&["serve", "--listen", listen, "--json"], args].concat()));
        let started: Value = serde_json::from_str(&process.out_line()).unwrap();
        Server { url: started["url"].as_str().unwrap().to_owned(), process }
    }

    /// The id of the only job of a queue.
    pub(crate) fn only_job(&self, queue: &str) -> String {
        let list = self.json(&["jobs", "--queue", queue]);
        let jobs = list["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{list}");
        jobs[0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job is finished.
    pub(crate) fn finished(&self, id: &str) {
        let url = self.url.as_ref().unwrap();
        let (status, body) = http(url, "GET", &format!("/v1/jobs/{id}/result?wait=60s"), "");
        assert_ne!(status, 202, "{id} does not end: {body}");
    }

    /// Leases one job of a queue for 30 s: its id and token.
    pub(crate) fn lease(&self, queue: &str, worker: &str) -> (String, u64) {
        let body = format!(r#"{{"queues":["{queue}"],"worker":"{worker}","wait":"30s"}}"#);
        let (status, answer) = http(self.url.as_ref().unwrap(), "POST", "/v1/leases", &body);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let job = &answer["jobs"][0];
        (job["id"].as_str().unwrap().to_owned(), job["fencing_token"].as_u64().unwrap())
    }

    /// Does one thing with a lease.
    pub(crate) fn settle(&self, op: &str) -> Value {
        let body = format!(r#"{{"ops":[{op}]}}"#);
        let (status, answer) = http(self.url.as_ref().unwrap(), "POST", "/v1/leases/settle", &body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["results"][0].take()
    }
}

impl Ran {
    fn of(mut command: Command) -> Ran {
        Ran::from(command.output().unwrap())
    }

    pub(crate) fn says(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
    }
}

impl From<std::process::Output> for Ran {
    fn from(output: std::process::Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A process whose lines are read as they come. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Running { child, out, err }
    }

    /// The next line of standard output.
    pub(crate) fn out_line(&self) -> String {
        self.out
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("no line; standard error: {:?}", self.all_err()))
    }

    /// Waits for a line of standard error that holds these words.
    pub(crate) fn err_line(&self, words: &str) -> String {
        loop {
            let line = self.err.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing says {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn all_err(&self) -> Vec<String> {
        self.err.try_iter().collect()
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Waits for its end: exit code and the rest of its output.
    pub(crate) fn finish(mut self) -> Ran {
        let status = self.end();
        let rest = |lines: &Receiver<String>| lines.iter().collect::<Vec<_>>().join("\n");
        Ran { code: status.code(), out: rest(&self.out), err: rest(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A server. Killed when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) process: Running,
}

impl Server {
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.end().code(), Some(0));
    }

    /// Ends it as a power cut would, except that the disk goes on.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// A request on a connection of its own: status and body.
pub(crate) fn http(url: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
    (status, body.to_owned())
}

/// A port where nobody listens.
pub(crate) fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A pipe with a name; its reader sees the end once every process that holds it open for writing
/// is gone.
pub(crate) fn fifo(path: &Path) -> Receiver<String> {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let (sender, ended) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut text = String::new();
        std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        let _ = sender.send(text);
    });
    ended
}

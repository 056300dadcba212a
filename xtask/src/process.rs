//! Running a suite's command: one stream to the terminal, the log and memory; a time limit; no leftovers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long output may stay open after the command itself has ended before something is said to be left running.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure,
    /// The limit passed; the command and all it started were killed.
    TimedOut,
    /// It succeeded, but a process it started still holds its output.
    LeftProcess,
}

pub(crate) struct Finished {
    pub(crate) end: End,
    /// Standard output and error, in the order they were written.
    pub(crate) output: String,
    pub(crate) took: Duration,
}

/// Where a command's output goes besides memory.
pub(crate) enum Show {
    Terminal,
    LogOnly,
}

/// Runs `command` with no standard input and appends its output to `log`.
pub(crate) fn run(
    mut command: Command,
    log: &Path,
    show: &Show,
    limit: Duration,
) -> Result<Finished, String> {
    run_with_grace(&mut command, log, show, limit, GRACE)
}

fn run_with_grace(
    command: &mut Command,
    log: &Path,
    show: &Show,
    limit: Duration,
    grace: Duration,
) -> Result<Finished, String> {
    let started = now();
    let line = format!("{command:?}");
    let trouble = |error: std::io::Error| format!("{line}: {error}");
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(log)
        .map_err(|error| format!("{}: {error}", log.display()))?;

    let (mut reader, writer) = std::io::pipe().map_err(trouble)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(trouble)?).stderr(writer);
    let mut child = command.spawn().map_err(trouble)?;
    // The command keeps copies of the pipe's write end; while they live the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let collected = Arc::new(Mutex::new(Vec::new()));
    let (ended, end) = channel();
    let shown = matches!(show, Show::Terminal);
    let sink = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            let (chunk, _) = buffer.split_at(count);
            // A closed terminal or a full disk must not stop the suite.
            let _ = log.write_all(chunk);
            if shown {
                let _ = std::io::stdout().write_all(chunk).and_then(|()| std::io::stdout().flush());
            }
            sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(chunk);
        }
        let _ = ended.send(());
    });

    let mut exited: Option<(Instant, bool)> = None;
    let end = loop {
        match end.recv_timeout(Duration::from_millis(50)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(trouble)?;
                break if status.success() { End::Success } else { End::Failure };
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        match exited {
            Some((at, true)) if at.elapsed() > grace => break End::LeftProcess,
            Some((at, false)) if at.elapsed() > grace => break End::Failure,
            Some(_) => {}
            None => exited = child.try_wait().map_err(trouble)?.map(|status| (now(), status.success())),
        }
        if exited.is_none() && started.elapsed() > limit {
            kill_tree(child.id());
            child.wait().map_err(trouble)?;
            break End::TimedOut;
        }
    };
    let output = collected.lock().unwrap_or_else(PoisonError::into_inner);
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Finished { end, output, took: started.elapsed() })
}

/// Kills a process and its descendants by walking `/proc`. A process group would be simpler, but then Ctrl-C on the
/// terminal would stop us and leave them running.
fn kill_tree(root: u32) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(&std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut doomed = vec![root];
    while let Some(pid) = doomed.pop() {
        doomed.extend(children.remove(&pid).unwrap_or_default());
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The fourth field of `/proc/PID/stat`; the second may hold spaces and parentheses.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[allow(
    clippy::disallowed_methods,
    reason = "measures how long a suite took; nothing is decided by the date"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Names of the tests a `cargo test` output reports with `verdict`: `ok` or `FAILED`.
pub(crate) fn tests<'a>(output: &'a str, verdict: &str) -> Vec<&'a str> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.rsplit_once(" ... "))
        .filter(|(_, said)| {
            said.split_whitespace().next().is_some_and(|word| word.trim_end_matches(',') == verdict)
        })
        .map(|(name, _)| name.trim_end_matches(" - should panic"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Finished, String) {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let finished =
            run_with_grace(&mut command, &log, &Show::LogOnly, limit, Duration::from_millis(100)).unwrap();
        (finished, std::fs::read_to_string(log).unwrap())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    /// A log is readable only if errors stand where they happened.
    #[test]
    fn both_streams_arrive_in_order_and_in_the_log() {
        let (finished, log) = shell("echo one; echo two >&2; echo three; exit 3", MINUTE);
        assert_eq!(finished.output, "one\ntwo\nthree\n");
        assert_eq!(log, finished.output);
        assert_eq!(finished.end, End::Failure);
    }

    /// A hung suite must end, with everything it started, or the run never reports anything.
    #[test]
    fn a_limit_kills_the_whole_tree() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (said, closed) = channel();
        let read = pipe.clone();
        std::thread::spawn(move || said.send(std::fs::read(read).map(|bytes| bytes.len()).ok()));
        // The grandchild alone holds the pipe open, and would for ever.
        let script = format!("tail -f /dev/null >{} & wait", pipe.display());
        let (finished, _) = shell(&script, Duration::from_millis(300));
        assert_eq!(finished.end, End::TimedOut);
        assert_eq!(closed.recv_timeout(MINUTE), Ok(Some(0)), "the grandchild lives on");
    }

    /// A server left behind by a passing test would disturb the next suite.
    #[test]
    fn a_process_left_behind_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let (finished, _) = shell(&format!("mkfifo {0}; cat {0} &", pipe.display()), MINUTE);
        // Opening the other end lets the left process finish.
        drop(File::options().write(true).open(&pipe).unwrap());
        assert_eq!(finished.end, End::LeftProcess);
    }

    #[test]
    fn a_parent_is_read_past_a_hostile_name() {
        assert_eq!(parent("41 (a ) b) S 7 41 41 0"), Some(7));
        assert_eq!(parent(""), None);
    }

    #[test]
    fn tests_are_named_by_verdict() {
        let output = "test a::b ... ok\ntest c - should panic ... ok\ntest d ... FAILED\n\
                      test e ... ignored, slow\ntest result: ok. 1 passed";
        assert_eq!(tests(output, "ok"), ["a::b", "c"]);
        assert_eq!(tests(output, "FAILED"), ["d"]);
        assert_eq!(tests(output, "ignored"), ["e"]);
    }
}

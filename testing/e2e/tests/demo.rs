//! `onefold demo`, as README tells a newcomer to run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

#[path = "demo/page.rs"]
mod page;

use std::path::Path;
use std::time::Duration;

use onefold_e2e::{Process, onefold_command, until};
use page::{INVARIANTS, figures};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(180);

fn start(room: &Path, arguments: &[&str]) -> Process {
    let mut command = onefold_command(room);
    Process::start(command.env("TMPDIR", room).arg("demo").args(arguments), "")
}

fn is_empty(room: &Path) -> bool {
    std::fs::read_dir(room).unwrap().next().is_none()
}

/// The demo prints what it counted and a line for each promise in force, and leaves nothing behind.
#[test]
fn customers_are_charged_once_by_onefolds_way_and_twice_by_the_naive_one() {
    let room = tempfile::tempdir().unwrap();
    let (status, printed, errors) = start(room.path(), &["--orders", "300"]).finish(PATIENCE);
    let page = printed.join("\n");
    assert_eq!(status.code(), Some(0), "{page}\n{errors}");
    page::is_sound(&printed, 300);
    assert!(is_empty(room.path()), "the demo left something behind");
}

/// Without idempotency keys customers are charged twice, and the demo does not pass that off as fine.
#[test]
fn the_naive_handler_alone_is_a_failure() {
    let room = tempfile::tempdir().unwrap();
    let (status, printed, errors) = start(room.path(), &["--orders", "300", "--naive-only"]).finish(PATIENCE);
    assert_eq!(status.code(), Some(1), "{printed:?}\n{errors}");
    let [twice] = figures(&printed, "customers charged twice")[..] else { panic!("{printed:?}") };
    assert!(twice > 0);
    assert!(errors.contains("customers were charged twice"), "{errors}");
    assert!(is_empty(room.path()));
}

/// For programs: the same as JSON, and the directory on request.
#[test]
fn json_tells_the_same_and_keep_keeps_the_data() {
    let room = tempfile::tempdir().unwrap();
    let arguments = ["--orders", "200", "--seed", "11", "--json", "--keep"];
    let (status, printed, errors) = start(room.path(), &arguments).finish(PATIENCE);
    assert_eq!(status.code(), Some(0), "{printed:?}\n{errors}");
    let seen: serde_json::Value = serde_json::from_str(&printed.join("")).unwrap();
    assert_eq!((&seen["orders"], &seen["seed"]), (&200.into(), &11.into()));
    let ids: Vec<&str> =
        seen["invariants"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
    assert_eq!(ids, INVARIANTS);
    let kept = std::fs::read_dir(room.path()).unwrap().next().unwrap().unwrap().path();
    assert!(kept.join("data/onefold.db").is_file());
}

/// Whoever loses patience, or is killed, leaves no process behind; and no directory where there was time to delete it.
#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_an_interrupted_demo() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let room = tempfile::tempdir().unwrap();
        let mut demo = start(room.path(), &[]);
        let children = until("the demo's processes to run", PATIENCE, || {
            let children = children(demo.pid());
            // A server, a receiver, two producers, four workers.
            (children.len() == 8).then_some(children)
        });
        demo.signal(signal);
        let (status, ..) = demo.finish(PATIENCE);
        assert!(!status.success());
        until("its processes to be gone", PATIENCE, || {
            children.iter().all(|pid| is_gone(*pid)).then_some(())
        });
        assert!(is_empty(room.path()) || signal == Signal::KILL, "{signal:?}");
    }
}

#[cfg(target_os = "linux")]
/// Whether a process has ended, even if whoever inherited it has not taken note of that.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(target_os = "linux")]
/// The processes a process has started.
fn children(of: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

//! `onefold work`: what exit codes mean, what a command is given, and when it is killed.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::{PATIENCE, Room, Running, fifo};
use rustix::process::Signal;
use serde_json::{Value, json};

impl Room {
    fn work(&self, args: &[&str]) -> Running {
        Running::start(self.command(&[&["work", "--json"], args].concat()))
    }

    /// Adds a job with a payload; its id.
    fn add(&self, queue: &str, payload: &str) -> String {
        self.json(&["add", queue, payload])["id"].as_str().unwrap().to_owned()
    }
}

/// Stops a worker as an operator would; what it reports.
fn stop(mut worker: Running) -> Value {
    worker.signal(Signal::TERM);
    let report = serde_json::from_str(&worker.out_line()).unwrap();
    assert_eq!(worker.end().code(), Some(0));
    report
}

#[test]
fn the_exit_code_decides_and_what_is_printed_is_the_result() {
    let (room, _server) = Room::served();
    let exec = r#"read code; case $code in 0) printf '{"sum": 1.0}';; esac; echo "no paper" >&2; exit $code"#;
    let jobs: Vec<String> = ["0", "65", "75", "7"].iter().map(|code| room.add("q", code)).collect();
    let worker = room.work(&["--queue", "q", "--exec", exec, "--name", "w1"]);
    for _ in &jobs {
        worker.err_line("no paper");
    }
    // Taken in order by one runner: when this one is done, so are those before it.
    let last = room.add("q", "0");
    room.finished(&last);
    let job = |n: usize| room.json(&["job", &jobs[n]]);
    assert_eq!((&job(0)["state"], &job(0)["result"]), (&json!("completed"), &json!({"sum": 1.0})));
    assert_eq!((&job(1)["state"], &job(1)["reason"]), (&json!("dead"), &json!("permanent")));
    for n in [2, 3] {
        let job = job(n);
        assert_eq!((&job["state"], &job["error"]["message"]), (&json!("retrying"), &json!("no paper")));
    }
    assert_eq!((&job(2)["error"]["kind"], &job(3)["error"]["kind"]), (&json!("exit-75"), &json!("exit-7")));
    assert_eq!(job(0)["attempts"][0]["worker"], "w1");
    assert_eq!(stop(worker), json!({"completed": 2, "failed": 3, "released": 0, "lost": 0}));
}

#[test]
fn a_command_is_given_its_payload_and_everything_it_needs_to_be_idempotent() {
    let (room, _server) = Room::served();
    let id = room.json(&["add", "q", "{ \"a\" : 1.0 }", "--key", "k 1"])["id"].as_str().unwrap().to_owned();
    let exec = r#"env | grep ^ONEFOLD_ | sort; cat"#;
    let mut command = room.command(&["work", "--queue", "q", "--exec", exec, "--json"]);
    command.env("ONEFOLD_KIND", "of a command around this one");
    let worker = Running::start(command);
    room.finished(&id);
    let job = room.json(&["job", &id]);
    let printed = job["result"].as_str().unwrap();
    assert!(printed.ends_with("{ \"a\" : 1.0 }"), "the bytes that were sent: {printed}");
    let token = job["attempts"][0]["fencing_token"].to_string();
    for (name, value) in
        [("JOB_ID", id.as_str()), ("ATTEMPT", "1"), ("FENCING_TOKEN", &token), ("KEY", "k 1"), ("QUEUE", "q")]
    {
        assert!(printed.contains(&format!("ONEFOLD_{name}={value}\n")), "{name}: {printed}");
    }
    let digits = id.strip_prefix("job_").unwrap();
    assert!(printed.contains(&format!("ONEFOLD_IDEMPOTENCY_KEY={digits}-")), "{printed}");
    assert!(!printed.contains("ONEFOLD_KIND"), "{printed}");
    stop(worker);
}

/// The pipe ends only when every process that was started for the job is gone.
#[test]
fn a_command_whose_lease_is_revoked_is_killed_with_all_it_started() {
    let (room, _server) = Room::served();
    let gone = fifo(&room.path("alive"));
    let id = room.add("q", "1");
    let exec = "exec 3>alive; trap '' TERM; echo started >&2; sleep 1000 & sleep 1000";
    let worker = room.work(&["--queue", "q", "--exec", exec, "--lease", "300ms"]);
    worker.err_line("started");
    room.ok(&["cancel", "--force", &id]);
    gone.recv_timeout(PATIENCE).unwrap();
    let report = stop(worker);
    assert_eq!((&report["completed"], &report["lost"]), (&json!(0), &json!(1)), "{report}");
    assert_eq!(room.json(&["job", &id])["state"], "cancelled");
}

#[test]
fn a_cancelled_job_asks_its_command_to_stop_and_what_it_completes_counts() {
    let (room, _server) = Room::served();
    let id = room.add("q", "1");
    let exec = "trap 'echo half; exit 0' TERM; echo started >&2; sleep 1000 & wait";
    let worker = room.work(&["--queue", "q", "--exec", exec, "--lease", "300ms"]);
    worker.err_line("started");
    assert!(room.ok(&["cancel", &id]).contains("asked to stop"));
    room.finished(&id);
    let job = room.json(&["job", &id]);
    assert_eq!((&job["state"], &job["result"]), (&json!("completed"), &json!("half")));
    stop(worker);
}

#[test]
fn a_worker_that_stops_gives_back_what_does_not_end_in_its_grace() {
    let (room, _server) = Room::served();
    let gone = fifo(&room.path("alive"));
    let id = room.add("q", "1");
    let exec = "exec 3>alive; echo started >&2; sleep 1000";
    let worker = room.work(&["--queue", "q", "--exec", exec, "--grace", "100ms"]);
    worker.err_line("started");
    assert_eq!(stop(worker)["released"], 1);
    gone.recv_timeout(PATIENCE).unwrap();
    let job = room.json(&["job", &id]);
    assert_eq!((&job["state"], &job["failures"]), (&json!("available"), &json!(0)));
}

#[test]
fn a_second_signal_kills_the_commands_at_once() {
    let (room, _server) = Room::served();
    let gone = fifo(&room.path("alive"));
    room.add("q", "1");
    let exec = "exec 3>alive; echo started >&2; sleep 1000";
    let mut worker = room.work(&["--queue", "q", "--exec", exec, "--grace", "1h"]);
    worker.err_line("started");
    worker.signal(Signal::INT);
    worker.err_line("takes no more jobs");
    worker.signal(Signal::INT);
    gone.recv_timeout(PATIENCE).unwrap();
    assert_eq!(worker.end().code(), Some(1));
}

#[test]
fn a_restart_of_the_server_is_survived() {
    let (room, server) = Room::served();
    let address = server.address().to_owned();
    let first = room.add("q", "1");
    let worker = room.work(&["--queue", "q", "--exec", "cat"]);
    room.finished(&first);
    server.kill();
    let _server = room.serve_on(&address, &[]);
    let second = room.add("q", "2");
    room.finished(&second);
    assert_eq!(stop(worker)["completed"], 2);
}

#[test]
fn a_worker_waits_for_a_server_but_not_for_a_token() {
    let mut room = Room::new();
    room.url = Some(kit::dead_url());
    let worker = room.work(&["--queue", "q", "--exec", "cat"]);
    worker.err_line("waiting for it");
    drop(worker);
    let server = room.serve(&["--token", "s3cret"]);
    room.url = Some(server.url.clone());
    room.run(&["work", "--queue", "q", "--exec", "cat"]).says(1, "set ONEFOLD_TOKEN");
}

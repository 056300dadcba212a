//! The examples for people who do not write Rust: curl and Node, against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use onefold_e2e::{Process, Server, counts, job, shell_blocks, until, workspace};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Every command of `docs/guide/quickstart.md`, as it is printed.
#[test]
fn the_quick_start_with_curl_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let page = std::fs::read_to_string(workspace().join("docs/guide/quickstart.md")).unwrap();
    // Answers end without a line break.
    let script: String = shell_blocks(&page, "sh").into_iter().map(|block| block + "echo\n").collect();
    let mut bash = Command::new("bash");
    bash.args(["-e", "-u", "-o", "pipefail", "-c", &script])
        .env("ONEFOLD_URL", server.url())
        .current_dir(dir.path());
    let (status, printed, errors) = Process::start_group(&mut bash).finish(PATIENCE);
    assert!(status.success(), "{printed:?}\n{errors}");
    let answers: Vec<Value> = printed
        .iter()
        .flat_map(|line| serde_json::Deserializer::from_str(line).into_iter::<Value>())
        .map(|answer| answer.unwrap())
        .collect();
    let [first, repeat, refused, many, leased, settled, shown, result, queues] = &answers[..] else {
        panic!("{} answers: {answers:#?}", answers.len())
    };
    assert_eq!((&first["duplicate"], &repeat["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["id"], repeat["id"]);
    assert_eq!((&refused["code"], &refused["existing_id"]), (&json!("key-reused"), &first["id"]));
    assert_eq!(many["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(leased["jobs"][0]["id"], first["id"]);
    assert_eq!(settled["results"][0], json!({"ok": true, "state": "completed"}));
    assert_eq!((&shown["state"], &result["result"]), (&json!("completed"), &json!({"sent": true})));
    assert_eq!(queues["queues"][0]["counts"]["accepted"], 3);
}

/// The worker of `examples/node`: works while the server is killed and comes back, ends what it does on SIGTERM.
#[test]
fn the_worker_in_node_works_through_a_restart_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"));
    let mut node = Command::new("node");
    node.arg(workspace().join("examples/node/worker.mjs")).arg("emails").env("ONEFOLD_URL", server.url());
    node.env_remove("ONEFOLD_TOKEN");
    let mut worker = Process::start(&mut node, "");
    add(&server, 0..20);
    let mut handled = HashMap::new();
    handled_by(&worker, 20, &mut handled);
    server.restart();
    add(&server, 20..40);
    handled_by(&worker, 40, &mut handled);
    let mut client = server.client();
    until("all jobs to be completed", PATIENCE, || {
        (counts(&mut client, "emails")["completed"] == 40).then_some(())
    });
    for (id, payload) in &handled {
        let job = job(&mut client, id);
        assert_eq!((&job["payload"], &job["result"]["handled_by"]), (payload, &json!(worker.pid())));
    }
    worker.signal(Signal::TERM);
    let (status, _, errors) = worker.finish(PATIENCE);
    assert!(status.success(), "{errors}");
}

/// What goes wrong in a handler is a failure of the attempt, with its reason, and a long one keeps its lease.
#[test]
fn the_worker_in_node_extends_leases_and_tells_failures() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let example = std::fs::read_to_string(workspace().join("examples/node/worker.mjs")).unwrap();
    // Somebody wrote a handler of his own, and wants short leases.
    let theirs = example
        .replace("  console.log(", "  await new Promise((resume) => setTimeout(resume, 1500));\n  if (job.payload.n === 1) throw new Error(\"no such address\");\n  console.log(")
        .replace("wait: \"20s\",", "wait: \"20s\", lease: \"600ms\",");
    assert_eq!(theirs.matches("600ms").count() + theirs.matches("no such address").count(), 2);
    let path = dir.path().join("theirs.mjs");
    std::fs::write(&path, theirs).unwrap();
    let _worker =
        Process::start(Command::new("node").arg(path).arg("emails").env("ONEFOLD_URL", server.url()), "");
    add(&server, 0..2);
    let mut client = server.client();
    let jobs = until("both jobs to have run", PATIENCE, || {
        let listed = client.get("/v1/jobs?queue=emails&state=completed,retrying").ok();
        let jobs = listed["jobs"].as_array().unwrap().clone();
        (jobs.len() == 2).then_some(jobs)
    });
    assert!(jobs.iter().all(|job| job["attempt"] == 1 && job["lost_leases"] == 0), "{jobs:?}");
    let failed = jobs.iter().find(|job| job["state"] == "retrying").unwrap();
    assert_eq!(failed["error"]["message"], "Error: no such address");
}

fn add(server: &Server, numbers: std::ops::Range<u32>) {
    let jobs: Vec<Value> = numbers.map(|n| json!({"payload": {"n": n}, "key": format!("n-{n}")})).collect();
    server.client().post("/v1/queues/emails/jobs", &json!(jobs)).ok();
}

/// Reads what a worker says until it has handled `count` jobs: id and payload of each.
fn handled_by(worker: &Process, count: usize, handled: &mut HashMap<String, Value>) {
    while handled.len() < count {
        let line = worker.line(PATIENCE).expect("the worker goes on");
        let told: Value = serde_json::from_str(&line).unwrap();
        handled.insert(told["id"].as_str().unwrap().to_owned(), told["payload"].clone());
    }
}

//! Bad input and bad surroundings, through the release binary: each a clear error, nothing lost, the server up. What
//! needs no real process is tested in `crates/server/tests/bad_input.rs` and `crates/cli/tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use onefold_e2e::{Client, Lease, Reply, Server, SmallDisk, Told, all_jobs, counts, job, now, sum_of_states};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const SILENT: u64 = 10_000;
/// Files this process has open beside the silent sockets.
const FILES: u64 = 200;
/// `ulimit -n` where nobody changed it.
const FILES_OF_A_SHELL: u64 = 1_024;
const KIB: usize = 1024;

fn post(client: &mut Client, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    client.send(&format!("POST {path}"), headers, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
}

/// A second server on the same data is refused and harms nothing.
#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut first = Server::start(&data);
    let mut client = first.client();
    let id = client.post("/v1/queues/q/jobs", &json!({"key": "k"})).ok()["id"].take();
    for _ in 0..3 {
        let errors = Server::start_with(&data, &[]).err().expect("two servers serve the same data");
        assert!(errors.contains("in use by another onefold process"), "{errors}");
    }
    assert_eq!(client.post("/v1/queues/q/jobs", &json!({"key": "k"})).ok()["id"], id);
    assert_eq!(first.terminate().0.code(), Some(0));
    let second = Server::start(&data);
    assert_eq!(job(&mut second.client(), id.as_str().unwrap())["state"], "available");
}

/// Data of a newer version is refused and left as it is, so that the newer version can go on with it.
#[test]
fn data_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&data);
    server.client().post("/v1/queues/q/jobs", &json!({"key": "k"})).ok();
    server.terminate();
    set_schema_version(&data, 1_000);
    let before = std::fs::read(data.join("onefold.db")).unwrap();
    let errors = Server::start_with(&data, &[]).err().expect("data of the future is served");
    assert!(errors.contains("newer onefold") && errors.contains("1000"), "{errors}");
    assert!(std::fs::read(data.join("onefold.db")).unwrap() == before, "the database was changed");
    set_schema_version(&data, 1);
    server.restart();
    assert_eq!(counts(&mut server.client(), "q")["accepted"], 1);
}

/// Where SQLite keeps `PRAGMA user_version`: four bytes, big-endian, at this place of the file.
fn set_schema_version(data: &Path, version: u32) {
    const AT: usize = 60;
    let path = data.join("onefold.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[AT..AT + 4].copy_from_slice(&version.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
}

/// A directory that cannot be written to is refused in a sentence, before anything is served.
#[test]
fn a_read_only_disk_is_refused_in_a_sentence() {
    let Some(disk) = SmallDisk::mount(128) else { return };
    let data = disk.path().join("data");
    let mut server = Server::start(&data);
    server.client().post("/v1/queues/q/jobs", &json!({"key": "k"})).ok();
    server.terminate();
    disk.make_read_only();
    for data in [data, disk.path().join("new")] {
        let errors = Server::start_with(&data, &[]).err().expect("a read-only disk is written to");
        let named = errors.contains(&data.display().to_string());
        assert!(named && (errors.contains("Read-only") || errors.contains("writable")), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

/// On a full disk adding is refused with `disk-full`, finishing goes on, and once there is space everything does.
/// Nothing that was accepted is lost, also if the server is killed while the disk is full.
#[test]
fn a_full_disk_refuses_adds_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(128) else { return };
    let mut server = Server::start(&disk.path().join("data"));
    let (mut client, told) = (server.client(), Told::new());
    let payload = "x".repeat(256 * KIB);
    let add = |client: &mut Client, number: usize| {
        let key = format!("k-{number}");
        let reply = client.post("/v1/queues/q/jobs", &json!({"key": key, "payload": payload}));
        if reply.status == 503 {
            assert_eq!(reply.refusal(), (503, "disk-full".to_owned()), "{}", reply.text());
            return false;
        }
        let answer = reply.ok();
        told.added(&key, answer["id"].as_str().unwrap(), answer["duplicate"] == true);
        true
    };
    let accepted = (0..1_000).take_while(|number| add(&mut client, *number)).count();
    assert!((10..1_000).contains(&accepted), "{accepted} jobs of 256 KiB fit on a disk of 128 MiB");
    let filler = disk.fill();
    assert!(!add(&mut client, 1_000), "a full disk takes more");
    // The end of work is what makes space: it must not need any.
    let finish = |client: &mut Client, count: usize| {
        let highest = told.highest_token();
        let leased = client.post("/v1/leases", &json!({"queues": ["q"], "max": count, "lease": "1h"})).ok();
        for job in leased["jobs"].as_array().unwrap() {
            let lease = Lease::of(job);
            told.leased(lease.clone(), highest);
            let op = json!({"op": "complete", "id": lease.id, "fencing_token": lease.token});
            let settled = client.post("/v1/leases/settle", &json!({ "ops": [op] })).ok();
            told.ended(&lease, "completed", settled["results"][0]["state"].as_str().unwrap_or("refused"));
        }
    };
    finish(&mut client, 5);
    assert_eq!(told.completed(), 5);
    assert_eq!(client.get("/healthz").status, 200);
    server.kill();
    std::fs::remove_file(filler).unwrap();
    server.restart();
    let mut client = server.client();
    finish(&mut client, 5);
    let jobs: Vec<Value> = all_jobs(&mut client, "q")
        .iter()
        .map(|listed| job(&mut client, listed["id"].as_str().unwrap()))
        .collect();
    told.compare(&jobs);
    assert_eq!(counts(&mut client, "q")["accepted"], accepted);
}

/// Ten thousand connections that say nothing disturb nobody who says something, also if the server was started with
/// the limit of open files that a shell gives: it raises it.
#[test]
fn ten_thousand_silent_sockets_keep_nobody_from_working() {
    set_file_limit(FILES_OF_A_SHELL);
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!(files_allowed(server.pid()) >= most.min(SILENT + FILES), "the server raises its own limit");
    let silent = raise_file_limit();
    let mut client = server.client();
    client.post("/v1/queues/q/jobs", &json!({"key": "before"})).ok();
    let mut sockets = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 0..silent {
        // Nobody can be kept waiting by somebody who is not even let in: the system's queue is short.
        sockets.extend(TcpStream::connect(server.address()));
        if number % 100 == 0 {
            let start = now();
            let key = format!("k-{number}");
            client.post("/v1/queues/q/jobs", &json!({ "key": key })).ok();
            slowest = slowest.max(now() - start);
        }
    }
    assert_eq!(sockets.len() as u64, silent);
    // A newcomer is let in as well.
    let mut newcomer = server.client();
    let start = now();
    let leased = newcomer.post("/v1/leases", &json!({"queues": ["q"], "max": 1_000})).ok();
    let held = leased["jobs"].as_array().unwrap().len() as u64;
    assert_eq!(held, 1 + silent.div_ceil(100));
    eprintln!("{silent} silent sockets: slowest add {slowest:?}, a newcomer's lease {:?}", now() - start);
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    drop(sockets);
    assert_eq!(newcomer.get("/readyz").status, 200);
}

/// How many files a process may have open now.
fn files_allowed(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft = line.split_whitespace().next().unwrap();
    if soft == "unlimited" { u64::MAX } else { soft.parse().unwrap() }
}

/// Sets how many files this process and its children may have open.
fn set_file_limit(files: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
}

/// Lets this process have as many files open as that takes, or says that it may not: how many sockets it can have.
fn raise_file_limit() -> u64 {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = (SILENT + FILES).min(most);
    set_file_limit(wanted);
    let silent = SILENT.min(wanted - FILES);
    if silent < SILENT {
        eprintln!(
            "SKIPPED in part: {silent} instead of {SILENT} sockets, because only {most} files may be open"
        );
    }
    silent
}

/// Path, headers and body of a request, and the status and code it is refused with.
type Wrong = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>, (u16, &'static str));

/// What clients get wrong, one after the other on the same server: each a status and a code, and in the end the server
/// is the same process and holds the one good job it was given.
#[test]
fn bad_requests_are_told_what_is_wrong_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let id = client.post("/v1/queues/q/jobs", &json!({"key": "good"})).ok()["id"].take();
    let jobs = "/v1/queues/q/jobs";
    let text = |text: String| text.into_bytes();
    let requests: Vec<Wrong> = vec![
        (jobs, vec![JSON], b"{".to_vec(), (400, "invalid-json")),
        (jobs, vec![JSON], b"{\"payload\":\"\xff\"}".to_vec(), (400, "invalid-utf8")),
        (jobs, vec![JSON], text("[".repeat(100_000)), (400, "invalid-json")),
        (
            jobs,
            vec![JSON],
            text(format!("{{\"payload\":{}{}}}", "[".repeat(200), "]".repeat(200))),
            (400, "nesting-too-deep"),
        ),
        (
            jobs,
            vec![JSON],
            text(format!("{{\"payload\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
            (400, "nesting-too-deep"),
        ),
        (jobs, vec![JSON], b"{\"key\":\"a\",\"key\":\"b\"}".to_vec(), (400, "duplicate-member")),
        (jobs, vec![JSON], b"{\"key\":\" \"}".to_vec(), (422, "invalid-key")),
        (jobs, vec![JSON], text(json!({"key": "k".repeat(256)}).to_string()), (422, "invalid-key")),
        (jobs, vec![JSON], b"{\"kye\":\"k\"}".to_vec(), (422, "unknown-field")),
        (jobs, vec![JSON], b"{\"delay\":-1}".to_vec(), (422, "invalid-duration")),
        (jobs, vec![JSON], b"{\"delay\":\"1000000000000d\"}".to_vec(), (422, "invalid-duration")),
        (jobs, vec![JSON], b"{\"delay\":\"soon\"}".to_vec(), (422, "invalid-duration")),
        (
            jobs,
            vec![JSON],
            text(json!({"payload": "x".repeat(1024 * KIB)}).to_string()),
            (413, "payload-too-large"),
        ),
        (
            jobs,
            vec![JSON],
            text(format!("{{\"payload\":\"{}\"}}", "x".repeat(16 * 1024 * KIB))),
            (413, "request-too-large"),
        ),
        (jobs, vec![JSON], text(format!("[{}]", vec!["{}"; 10_001].join(","))), (413, "too-many-items")),
        (jobs, vec![JSON], b"{\"target\":{\"url\":\"ftp://localhost\"}}".to_vec(), (422, "invalid-target")),
        (jobs, vec![("Content-Type", "text/plain")], b"{}".to_vec(), (415, "unsupported-media-type")),
        (jobs, vec![JSON, ("Content-Encoding", "gzip")], b"{}".to_vec(), (415, "unsupported-media-type")),
        (
            jobs,
            vec![JSON, ("Idempotency-Key", "a"), ("Idempotency-Key", "a")],
            b"{}".to_vec(),
            (400, "invalid-idempotency-key"),
        ),
        (jobs, vec![JSON, ("Idempotency-Key", "\"a")], b"{}".to_vec(), (400, "invalid-idempotency-key")),
        (jobs, vec![JSON, ("Idempotency-Key", "a")], b"[{}]".to_vec(), (422, "idempotency-key-on-array")),
        (
            jobs,
            vec![JSON, ("Origin", "https://elsewhere.example")],
            b"{}".to_vec(),
            (403, "origin-not-allowed"),
        ),
        ("/v1/queues/no%20name/jobs", vec![JSON], b"{}".to_vec(), (422, "invalid-queue-name")),
        ("/v1/queues/%ff/jobs", vec![JSON], b"{}".to_vec(), (400, "invalid-url")),
        ("/v1/leases", vec![JSON], b"{\"queues\":[\"q\"],\"max\":1001}".to_vec(), (422, "invalid-field")),
        (
            "/v1/leases",
            vec![JSON],
            b"{\"queues\":[\"q\"],\"wait\":\"2h\"}".to_vec(),
            (422, "invalid-duration"),
        ),
        (
            "/v1/leases",
            vec![JSON],
            b"{\"queues\":[\"q\"],\"lease\":\"1ms\"}".to_vec(),
            (422, "invalid-duration"),
        ),
        ("/v1/leases", vec![JSON], b"{}".to_vec(), (422, "missing-field")),
        ("/v1/jobs/job_0/cancel", vec![JSON], b"{}".to_vec(), (404, "job-not-found")),
        ("/v1/jobs/..%2f..%2fetc/cancel", vec![JSON], b"{}".to_vec(), (404, "job-not-found")),
        ("/v1/nowhere", vec![JSON], b"{}".to_vec(), (404, "route-not-found")),
    ];
    for (path, headers, body, expected) in requests {
        // Some of them end the connection.
        let mut client = server.client();
        let reply = post(&mut client, path, &headers, &body);
        let start: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        assert_eq!(reply.refusal(), (expected.0, expected.1.to_owned()), "{path} {start}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path} {start}");
        assert!(!reply.json()["detail"].as_str().unwrap().is_empty());
    }
    let counts = counts(&mut client, "q");
    assert_eq!((&counts["accepted"], &counts["available"]), (&json!(1), &json!(1)), "{counts}");
    assert_eq!(job(&mut client, id.as_str().unwrap())["attempt"], 0);
}

/// Tokens of the wrong type, from nowhere or of other jobs end no lease, and one of them does not spoil the rest.
#[test]
fn a_batch_never_fails_whole_because_of_one_item() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let many = json!([{"payload": 1}, {"key": " "}, {"payload": 2, "dleay": "1s"}, {"payload": 3, "delay": -1}, {"payload": 4}]);
    let added = client.post("/v1/queues/q/jobs", &many).ok();
    let codes: Vec<&str> = added["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["error"]["code"].as_str().unwrap_or("ok"))
        .collect();
    assert_eq!(codes, ["ok", "invalid-key", "unknown-field", "invalid-duration", "ok"]);
    let leased = client.post("/v1/leases", &json!({"queues": ["q"], "max": 2})).ok();
    let [one, other] = [0, 1].map(|nth| Lease::of(&leased["jobs"][nth]));
    let complete = |id: &str, token: Value| json!({"op": "complete", "id": id, "fencing_token": token});
    let unknown = "job_01a1fde0fa0170008000000000009999";
    let ops = json!([
        complete(&one.id, json!("7")),
        complete(&one.id, json!(-1)),
        complete(&one.id, json!(1.5)),
        complete(&one.id, json!(1_u64 << 53)),
        complete(&one.id, json!(null)),
        complete(&one.id, json!(other.token)),
        complete(&one.id, json!(one.token - 1)),
        complete(unknown, json!(one.token)),
        complete("nonsense", json!(one.token)),
        {"op": "explode", "id": one.id, "fencing_token": one.token},
        complete(&one.id, json!(one.token)),
    ]);
    let settled = client.post("/v1/leases/settle", &json!({ "ops": ops })).ok();
    let codes: Vec<&str> = settled["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["code"].as_str().or(result["state"].as_str()).unwrap())
        .collect();
    assert_eq!(
        codes,
        [
            "invalid-field",
            "invalid-field",
            "invalid-field",
            "invalid-field",
            "invalid-field",
            "lease-lost",
            "lease-lost",
            "job-not-found",
            "job-not-found",
            "invalid-field",
            "completed",
        ]
    );
    let counts = counts(&mut client, "q");
    assert_eq!(
        (&counts["accepted"], &counts["running"], &counts["completed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(sum_of_states(&counts), 2);
}

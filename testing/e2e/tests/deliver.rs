//! HTTP targets through the whole server: a real receiver in another process, on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use onefold_e2e::{Client, Process, Receiver, Server, job, onefold_command, shell_blocks, until, workspace};
use onefold_test_postgres::{DATABASE, Server as Postgres, THROW_AWAY, USER};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

static POSTGRES: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(THROW_AWAY));

fn receiver() -> Receiver {
    Receiver::start(env!("CARGO_BIN_EXE_onefold-receiver"))
}

/// Runs a test on a server with its data in a directory, and on one with its data in PostgreSQL.
fn on_each_engine(schema: &str, test: impl Fn(&mut Server)) {
    let dir = tempfile::tempdir().unwrap();
    test(&mut Server::start(&dir.path().join("data")));
    let address = format!("host={} user={USER} dbname={DATABASE}", POSTGRES.directory().display());
    test(&mut Server::start_on(&address, dir.path(), &["--postgres-schema", schema]).unwrap());
}

fn ended(client: &mut Client, id: &str, state: &str) -> Value {
    until(&format!("{id} to be {state}"), PATIENCE, || {
        let job = job(client, id);
        (job["state"] == state).then_some(job)
    })
}

fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    let found = path.iter().fold(value, |value, member| &value[*member]);
    found.as_str().unwrap_or_else(|| panic!("no {path:?} in {value}"))
}

/// SEMANTICS "HTTP targets receive": each job is delivered once, as it was sent, with its id, attempt and token; the answer
/// is its result, and a key is a key.
#[test]
fn a_target_gets_each_job_once_and_its_answer_is_the_result() {
    on_each_engine("once", |server| {
        let (receiver, mut client) = (receiver(), server.client());
        let body = json!({
            "payload": { "order": 7 },
            "key": "order-7",
            "target": { "url": receiver.url("/echo/x?y=z"), "method": "PUT", "headers": { "X-Shop": "s" } },
        });
        let id = client.post("/v1/queues/hooks/jobs", &body).ok()["id"].as_str().unwrap().to_owned();
        assert_eq!(client.post("/v1/queues/hooks/jobs", &body).ok()["duplicate"], true);
        let got = receiver.next();
        assert_eq!((text(&got, &["method"]), text(&got, &["path"])), ("PUT", "/echo/x?y=z"));
        assert_eq!(text(&got, &["body"]), r#"{"order":7}"#);
        let header = |name: &str| text(&got, &["headers", name]).to_owned();
        for name in ["onefold-job-id", "idempotency-key", "webhook-id"] {
            assert_eq!(header(name), id, "{name}");
        }
        assert_eq!((header("onefold-attempt"), header("x-shop")), ("1".into(), "s".into()));
        assert_eq!(header("content-type"), "application/json");
        let done = ended(&mut client, &id, "completed");
        assert_eq!(done["attempts"][0]["fencing_token"].to_string(), header("onefold-fencing-token"));
        assert_eq!(done["retry_until"], header("onefold-retry-until"));
        assert_eq!(
            (&done["result"]["status"], text(&done["result"], &["body"])),
            (&json!(200), r#"{"order":7}"#)
        );
        assert_eq!(text(&done, &["target", "url"]), receiver.url("/echo/x?y=z"));
        let exchange = &done["attempts"][0]["exchange"];
        assert_eq!((text(exchange, &["method"]), &exchange["status"]), ("PUT", &json!(200)));
        assert!(receiver.url("/").contains(text(exchange, &["address"])), "{exchange}");
    });
}

/// A target that fails is tried again after the backoff, with the same id, the next attempt and a larger token, until
/// its attempts are used up; jobs of workers and of other targets are in nobody's way.
#[test]
fn a_failing_target_is_tried_again_and_the_others_go_on() {
    on_each_engine("again", |server| {
        let (receiver, mut client) = (receiver(), server.client());
        let job = |path: &str| {
            let target = json!({ "url": receiver.url(path) });
            json!({ "target": target, "max_attempts": 3, "backoff": { "fixed": "50ms" } })
        };
        let failing = client.post("/v1/queues/hooks/jobs", &job("/status/500")).ok();
        let pull = client.post("/v1/queues/hooks/jobs", &json!({ "payload": 1 })).ok();
        let fine = client.post("/v1/queues/hooks/jobs", &job("/fine")).ok();
        let mut by_job: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for _ in 0..4 {
            let got = receiver.next();
            let number = |name: &str| text(&got, &["headers", name]).parse().unwrap();
            let tries = by_job.entry(text(&got, &["headers", "onefold-job-id"]).to_owned()).or_default();
            tries.push((number("onefold-attempt"), number("onefold-fencing-token")));
        }
        let tries = &by_job[text(&failing, &["id"])];
        assert_eq!(tries.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(tries.is_sorted_by(|a, b| a.1 < b.1), "{tries:?}");
        let dead = ended(&mut client, text(&failing, &["id"]), "dead");
        assert_eq!(text(&dead, &["reason"]), "attempts");
        assert_eq!(text(&dead, &["error", "kind"]), "status-500");
        for attempt in dead["attempts"].as_array().unwrap() {
            assert_eq!(text(attempt, &["exchange", "body"]), r#"{"status":"500"}"#);
        }
        ended(&mut client, text(&fine, &["id"]), "completed");
        assert_eq!(onefold_e2e::job(&mut client, text(&pull, &["id"]))["state"], "available");
    });
}

/// A target is a handler: it is handed the headers of the job, and none that would be believed to be ours (H-09).
/// `onefold job` shows what was sent and what came back.
#[test]
fn a_target_is_handed_the_headers_of_its_job_and_the_page_shows_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let (receiver, mut client) = (receiver(), server.client());
    let mut job = json!({
        "payload": 1,
        "headers": { "X-Shop": "job", "X-Both": "job" },
        "target": { "url": receiver.url("/status/500"), "headers": { "x-both": "target" } },
        "max_attempts": 1,
    });
    let id = client.post("/v1/queues/hooks/jobs", &job).ok()["id"].as_str().unwrap().to_owned();
    let got = receiver.next();
    assert_eq!((text(&got, &["headers", "x-shop"]), text(&got, &["headers", "x-both"])), ("job", "target"));
    ended(&mut client, &id, "dead");
    let mut command = onefold_command(dir.path());
    command.args(["job", &id, "--url", &server.url()]);
    let (_, page, errors) = Process::start(&mut command, "").finish(PATIENCE);
    let page = page.join("\n");
    let sent = format!("Attempt 1: POST {} to {}", receiver.url("/status/500"), receiver.url(""));
    let sent = sent.replace(" to http://", " to ");
    assert!(page.contains(&format!("{sent}: answered 500")), "{page}{errors}");
    assert!(page.contains(r#"16 bytes: "{\"status\":\"500\"}""#), "{page}");
    job["headers"] = json!({ "Webhook-Signature": "v1,forged" });
    let refused = client.post("/v1/queues/hooks/jobs", &job);
    assert_eq!(refused.refusal(), (422, "invalid-header".to_owned()));
    job["target"] = Value::Null;
    assert_eq!(client.post("/v1/queues/pulled/jobs", &job).status, 201, "for workers it is data");
}

/// `onefold signing-key`: the line for the file.
fn signing_key(dir: &Path) -> String {
    let (status, printed, errors) =
        Process::start(onefold_command(dir).arg("signing-key"), "").finish(PATIENCE);
    assert!(status.success() && printed.len() == 1 && printed[0].starts_with("whsec_"), "{errors}");
    printed[0].clone()
}

/// Puts a file in the place of another at once, for its owner only.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// Delivers a job and gives what its target got.
fn delivered(client: &mut Client, receiver: &Receiver, payload: &Value) -> Value {
    let job = json!({ "payload": payload, "target": { "url": receiver.url("/") } });
    client.post("/v1/queues/hooks/jobs", &job).ok();
    receiver.next()
}

/// What the receiver in the guide says of a delivery.
fn believes(secret: &str, got: &Value) -> bool {
    let page = std::fs::read_to_string(workspace().join("docs/guide/delivery.md")).unwrap();
    let [receiver] = &shell_blocks(&page, "python")[..] else { panic!("one receiver in Python") };
    let asks = "import json, sys\ngot = json.load(sys.stdin)\nprint(genuine(sys.argv[1], got['headers'], got['body'].encode()))";
    let mut python = Command::new("python3");
    python.args(["-c", &format!("{receiver}\n{asks}"), secret]);
    let (_, printed, errors) = Process::start(&mut python, &got.to_string()).finish(PATIENCE);
    match &printed[..] {
        [said] if said == "True" => true,
        [said] if said == "False" => false,
        _ => panic!("{printed:?} {errors}"),
    }
}

/// W-16: what is signed are the bytes that are sent, and a receiver that knows nothing of us can tell.
#[test]
fn w_16_the_receiver_of_the_guide_believes_what_was_signed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (signing_key(dir.path()), signing_key(dir.path()));
    let keys = dir.path().join("keys");
    let (receiver, other) = (receiver(), receiver());
    put(&keys, &format!("{ours}\n[{}]\n{theirs}\n", other.url("")));
    let server = Server::start_with(
        &dir.path().join("data"),
        &["--signing-key-file", keys.to_str().unwrap(), "--log", "trace"],
    );
    let mut server = server.unwrap();
    let mut client = server.client();
    let payload = json!({ "ä": [1e3, "\u{1F980}"], "b": " " });
    let mut got = delivered(&mut client, &receiver, &payload);
    assert!(believes(&ours, &got) && !believes(&theirs, &got), "{got}");
    let at_other = delivered(&mut client, &other, &payload);
    assert!(believes(&theirs, &at_other) && !believes(&ours, &at_other), "its own keys and no others");
    got["body"] = Value::from(format!("{} ", text(&got, &["body"])));
    assert!(!believes(&ours, &got), "a body that was changed");
    // Secrets are nowhere to be seen: not in what is asked, and not in the most talkative log.
    let shown = client.get("/v1/jobs").text() + &client.get("/metrics").text();
    let (_, log) = server.terminate();
    assert!(log.contains("deliveries are signed"), "{log}");
    for secret in [&ours, &theirs] {
        assert!(!shown.contains(&secret[6..]) && !log.contains(&secret[6..]), "a secret was shown");
    }
}

/// W-14: both keys sign while the old one is still there, without a restart, and a file that cannot be used changes nothing.
#[test]
fn w_14_deliveries_are_signed_and_keys_change_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (signing_key(dir.path()), signing_key(dir.path()));
    let keys = dir.path().join("keys");
    put(&keys, &old);
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &["--signing-key-file", keys.to_str().unwrap()]).unwrap();
    let (receiver, mut client) = (receiver(), server.client());
    let mut next = || delivered(&mut client, &receiver, &json!(1));
    assert!(believes(&old, &next()));
    put(&keys, "whsec_what is this");
    put(&keys, &format!("{new}\n{old} until 2126-01-01T00:00:00Z"));
    let both = until("the new key to sign", PATIENCE, || {
        let got = next();
        assert!(believes(&old, &got), "the old key signs along all the time");
        believes(&new, &got).then_some(got)
    });
    assert_eq!(text(&both, &["headers", "webhook-signature"]).split(' ').count(), 2);
    put(&keys, &new);
    until("the old key to sign no more", PATIENCE, || {
        let got = next();
        assert!(believes(&new, &got));
        (!believes(&old, &got)).then_some(())
    });
}

/// A file of keys that cannot be used, or that others can read, is told at the start and without its secrets.
#[test]
fn a_server_does_not_start_with_keys_that_it_cannot_use_or_that_others_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let start = || {
        let arguments = ["--signing-key-file", keys.to_str().unwrap()];
        Server::start_with(&dir.path().join("data"), &arguments).err().expect("it does not start")
    };
    assert!(start().contains("cannot be read"), "{}", start());
    put(&keys, "whsec_aHVzaA==\n");
    let told = start();
    assert!(
        told.contains("keys line 1: a whsec_ key has 24 to 64 bytes") && !told.contains("aHVz"),
        "{told}"
    );
    put(&keys, &signing_key(dir.path()));
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(start().contains("chmod o="), "{}", start());
}

/// W-07: a target that says that it is gone is parked: durably, over a SIGKILL, without costing its other jobs attempts, until
/// somebody resumes it. Others go on.
#[test]
fn w_07_a_target_that_is_gone_is_parked_over_restarts_until_it_is_resumed() {
    on_each_engine("gone", |server| {
        let (gone, fine, mut client) = (receiver(), receiver(), server.client());
        // One attempt each: a repeat of the first would park it again.
        let job = |url: String| json!({ "target": { "url": url }, "max_attempts": 1 });
        let first = client.post("/v1/queues/hooks/jobs", &job(gone.url("/status/410"))).ok();
        assert_eq!(text(&gone.next(), &["headers", "onefold-attempt"]), "1");
        let parked = until("the target to be parked", PATIENCE, || {
            let parked = client.get("/v1/targets").ok()["parked"].as_array().unwrap().clone();
            (!parked.is_empty()).then_some(parked)
        });
        assert_eq!((text(&parked[0], &["origin"]), &parked[0]["job"]), (gone.url("").as_str(), &first["id"]));
        server.restart();
        let mut client = server.client();
        let waits = client.post("/v1/queues/hooks/jobs", &job(gone.url("/"))).ok();
        let other = client.post("/v1/queues/hooks/jobs", &job(fine.url("/"))).ok();
        ended(&mut client, text(&other, &["id"]), "completed");
        let standing = onefold_e2e::job(&mut client, text(&waits, &["id"]));
        assert_eq!((&standing["state"], &standing["attempt"]), (&json!("available"), &json!(0)));
        assert!(gone.told().is_empty(), "nothing was sent to it");
        let mut command = onefold_command(Path::new("/"));
        command.args(["targets", "resume", &gone.url("/any"), "--url", &server.url()]);
        let (status, said, errors) = Process::start(&mut command, "").finish(PATIENCE);
        assert!(status.success() && said[0].contains("delivered to again"), "{said:?} {errors}");
        ended(&mut client, text(&waits, &["id"]), "completed");
        let refused = client.post("/v1/targets/resume", &json!({ "url": "gopher://a" }));
        assert_eq!(refused.refusal(), (422, "invalid-target".to_owned()));
    });
}

/// SIGTERM: a delivery that does not end within the drain timeout is given back at no cost.
#[test]
fn a_delivery_that_hangs_is_given_back_when_the_server_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(&dir.path().join("data"), &["--drain-timeout", "200ms"]).unwrap();
    let (receiver, mut client) = (receiver(), server.client());
    let job = json!({ "target": { "url": receiver.url("/hang") } });
    let id = client.post("/v1/queues/hooks/jobs", &job).ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(text(&receiver.next(), &["headers", "onefold-attempt"]), "1");
    let (status, said) = server.terminate();
    assert!(status.success(), "{said}");
    server.restart();
    assert_eq!(
        text(&receiver.next(), &["headers", "onefold-attempt"]),
        "2",
        "at once, without waiting for the lease"
    );
    let job = onefold_e2e::job(&mut server.client(), &id);
    assert_eq!((&job["failures"], &job["lost_leases"]), (&json!(0), &json!(0)));
    assert_eq!(text(&job["attempts"][0], &["outcome"]), "released");
}

/// `onefold add --target`: and what cannot be delivered to is said at once.
#[test]
fn the_command_line_adds_jobs_with_targets() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let receiver = receiver();
    let add = |arguments: &[&str]| {
        let mut command = onefold_command(dir.path());
        command.args(["add", "hooks", "--url", &server.url()]).args(arguments);
        let (status, _, errors) = Process::start(&mut command, "").finish(PATIENCE);
        (status.success(), errors)
    };
    let url = receiver.url("/");
    let added = add(&["{\"a\":1}", "--target", &url, "--target-header", "X-A: b", "--target-timeout", "5s"]);
    assert!(added.0, "{}", added.1);
    let got = receiver.next();
    assert_eq!((text(&got, &["headers", "x-a"]), text(&got, &["body"])), ("b", "{\"a\":1}"));
    let (ok, said) = add(&["--target", "ftp://example.com/"]);
    assert!(!ok && said.contains("http:// and https:// only"), "{said}");
}

//! `onefold add`: one job, many lines, and a server that goes away meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use kit::{Ran, Room, Running, dead_url};
use serde_json::{Value, json};

fn summary(ran: &Ran) -> Value {
    serde_json::from_str(ran.out.lines().last().unwrap_or_default()).unwrap()
}

fn orders(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|n| format!("{{\"order_id\":{n}}}\n")).collect()
}

#[test]
fn one_job_is_new_once_and_then_repeated_and_never_mixed_up() {
    let (room, _server) = Room::served();
    let first = room.json(&[
        "add",
        "mail",
        "{\"to\":\"ada\"}",
        "--key",
        "k",
        "--kind",
        "welcome",
        "--label",
        "a",
        "--label",
        "b",
    ]);
    assert_eq!((first["state"].as_str(), first["duplicate"].as_bool()), (Some("available"), Some(false)));
    let again = room.ok(&["add", "mail", "{\"to\":\"ada\"}", "--key", "k", "--kind", "welcome"]);
    assert!(
        again.contains("it was added with this key before") && again.contains(first["id"].as_str().unwrap()),
        "{again}"
    );
    room.run(&["add", "mail", "{\"to\":\"eve\"}", "--key", "k"]).says(1, "(key-reused)");
    let later = room.json(&["add", "mail", "--delay", "1h", "--header", "X-Tenant: t"]);
    assert_eq!(later["state"], "scheduled");
    let job = room.json(&["job", later["id"].as_str().unwrap()]);
    assert_eq!((&job["headers"], &job["payload"]), (&json!({"X-Tenant": "t"}), &Value::Null));
    let job = room.json(&["job", first["id"].as_str().unwrap()]);
    assert_eq!((&job["labels"], &job["kind"]), (&json!(["a", "b"]), &json!("welcome")));
}

#[test]
fn what_cannot_be_asked_for_is_a_usage_error() {
    let room = Room::new();
    room.run(&["add", "q", "{to:1}"]).says(2, "it is not JSON");
    room.run(&["add", "a/b", "1"]).says(2, "a queue name is");
    room.run(&["add", "q", "1", "--delay", "soon"]).says(2, "a duration is");
    room.run(&["add", "q", "1", "--delay", "1s", "--run-at", "2026-01-01T00:00:00Z"])
        .says(2, "cannot be used with");
    room.run(&["add", "q", "-", "--key", "k"]).says(2, "--key-from");
    room.run(&["add", "q", "{}", "--key-from", "id"]).says(2, "no field \"id\"");
}

#[test]
fn without_a_server_it_fails_at_once_and_says_so() {
    let mut room = Room::new();
    room.url = Some(dead_url());
    room.run(&["add", "q", "1"]).says(1, "start one with `onefold serve`");
    room.feed(&["add", "q", "-"], "1\n").says(1, "nothing from line 1 on was added");
}

#[test]
fn lines_added_twice_are_one_job_each() {
    let (room, _server) = Room::served();
    let args = ["add", "inv", "-", "--key-from", "order_id"];
    let ran = room.feed(&args, &orders(0..2_500));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "2500 new, 0 repeated, 0 refused\n"), "{ran:?}");
    let ran = room.feed(&[&args[..], &["--json"]].concat(), &orders(0..2_501));
    let told = summary(&ran);
    assert_eq!((&told["new"], &told["repeated"], &told["refused"]), (&json!(1), &json!(2_500), &json!(0)));
    let list = room.json(&["jobs", "--queue", "inv", "--all"]);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2_501);
    assert_eq!(list["jobs"][0]["key"], "2500", "in the order of the lines");
}

#[test]
fn bad_lines_are_told_by_number_and_left_out() {
    let (room, _server) = Room::served();
    let long = "k".repeat(256);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let input = format!(
        "{{\"id\":1}}\nnot json\n\n{{\"no\":1}}\n{{\"id\":\"{long}\"}}\n{{\"id\":1,\"other\":true}}\n{{\"id\":3,\"deep\":{deep}}}\n{{\"id\":4}}"
    );
    let ran = room.feed(&["add", "q", "-", "--key-from", "id", "--json"], &input);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = summary(&ran);
    assert_eq!((&told["new"], &told["repeated"], &told["refused"]), (&json!(2), &json!(0), &json!(5)));
    let refusals = told["refusals"].as_array().unwrap();
    let mut lines: Vec<(u64, &str)> = refusals
        .iter()
        .map(|refusal| (refusal["line"].as_u64().unwrap(), refusal["code"].as_str().unwrap_or("-")))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [(2, "-"), (4, "-"), (5, "invalid-key"), (6, "key-reused"), (7, "nesting-too-deep")]);
    assert!(ran.err.contains("line 2: it is not JSON"), "{}", ran.err);
}

/// A server killed and restarted between batches loses nothing and adds nothing twice.
#[test]
fn a_restart_of_the_server_in_the_middle_is_survived() {
    let (room, server) = Room::served();
    let address = server.address().to_owned();
    let mut command = room.command(&["add", "inv", "-", "--key-from", "order_id", "--json"]);
    command.stdin(Stdio::piped());
    let mut add = Running::start(command);
    let mut input = add.stdin();
    input.write_all(orders(0..1_000).as_bytes()).unwrap();
    let accepted = || room.json(&["queues"])["queues"][0]["counts"]["accepted"].as_u64().unwrap_or(0);
    while accepted() < 1_000 {}
    server.kill();
    input.write_all(orders(1_000..2_000).as_bytes()).unwrap();
    let _server = room.serve_on(&address, &[]);
    input.write_all(orders(2_000..2_500).as_bytes()).unwrap();
    drop(input);
    let ran = add.finish();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = summary(&ran);
    assert_eq!((&told["new"], &told["repeated"], &told["refused"]), (&json!(2_500), &json!(0), &json!(0)));
    assert_eq!(accepted(), 2_500);
}

/// What listens takes the request and hangs up: whether it was done cannot be known.
#[test]
fn without_keys_a_lost_answer_is_told_and_not_repeated() {
    let mut room = Room::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    room.url = Some(format!("http://{}", listener.local_addr().unwrap()));
    let requests = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 65_536]).unwrap();
        }
        listener
    });
    let ran = room.feed(&["add", "q", "-", "--json"], "1\n2\n");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!((&summary(&ran)["unknown"], &summary(&ran)["new"]), (&json!(2), &json!(0)));
    assert!(ran.err.contains("of lines 1 to 2"), "{}", ran.err);
    room.run(&["add", "q", "1"]).says(1, "with a --key it could have been repeated safely");
    let listener = requests.join().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "an add without a key was sent again");
}

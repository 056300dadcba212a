//! `onefold serve`: settings, what it refuses to start on, and how it stops.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::io::{Read, Write};
use std::net::TcpStream;

use kit::{Room, Running, http};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_flag_wins_over_a_variable_over_the_file() {
    let room = Room::new();
    room.write("onefold.toml", "data = \"from-file\"\nlisten = \"127.0.0.1:0\"\n");
    let data = |flags: &[&str], variable: Option<&str>| {
        let mut command = room.command(&[&["serve", "--json"], flags].concat());
        command.envs(variable.map(|value| ("ONEFOLD_DATA", value)));
        let started: Value = serde_json::from_str(&Running::start(command).out_line()).unwrap();
        started["data"].as_str().unwrap().to_owned()
    };
    assert_eq!(data(&[], None), "from-file");
    assert_eq!(data(&[], Some("from-variable")), "from-variable");
    assert_eq!(data(&["--data", "from-flag"], Some("from-variable")), "from-flag");
    room.write("other.toml", "data = \"from-other\"\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(data(&["--config", "other.toml"], None), "from-other");
}

#[test]
fn wrong_settings_are_usage_errors_that_name_the_place_and_no_secret() {
    let room = Room::new();
    room.run(&["serve", "--config", "missing.toml"]).says(2, "cannot read missing.toml");
    room.run(&["serve", "--listen", "0.0.0.0:0"]).says(2, "set ONEFOLD_TOKEN");
    room.run(&["serve", "--log", "info,=,"]).says(2, "the log filter");
    room.write("onefold.toml", "token = \"s3cret\"\n\nlistenn = \"127.0.0.1:0\"\n");
    let ran = room.run(&["serve"]);
    ran.says(2, "onefold.toml line 3: there is no setting `listenn`");
    room.write("onefold.toml", "token = \"s3cret\n");
    let ran = room.run(&["queues"]);
    ran.says(2, "onefold.toml line 1");
    assert!(!ran.err.contains("s3cret"), "{ran:?}");
    room.write("onefold.toml", "");
    let ran = room.run(&["queues", "--token", "s3cret with spaces"]);
    ran.says(2, "--token: a token is made of");
    assert!(!ran.err.contains("s3cret"), "{ran:?}");
}

#[test]
fn a_token_is_asked_for_and_given() {
    let mut room = Room::new();
    room.write("onefold.toml", "token = \"s3cret\"\n");
    let server = room.serve(&[]);
    room.url = Some(server.url.clone());
    room.ok(&["add", "q", "1"]);
    room.write("onefold.toml", "");
    let ran = room.run(&["queues"]);
    ran.says(1, "set ONEFOLD_TOKEN");
    let mut with_variable = room.command(&["queues"]);
    assert!(with_variable.env("ONEFOLD_TOKEN", "s3cret").output().unwrap().status.success());
    let mut wrong = room.command(&["queues"]);
    let output = wrong.env("ONEFOLD_TOKEN", "wr0ng").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("wr0ng"));
}

#[test]
fn a_directory_in_use_is_refused_in_a_sentence() {
    let (room, server) = Room::served();
    room.run(&["serve", "--listen", "127.0.0.1:0"]).says(1, "in use by another onefold process");
    let listen = server.address();
    room.run(&["serve", "--listen", listen, "--data", "other"]).says(1, "choose another --listen");
    room.ok(&["queues"]);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_in_a_sentence() {
    let room = Room::new();
    room.serve(&[]).stop();
    let database = room.path("onefold-data/onefold.db");
    let set = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    let serve = |data: &str| room.run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
    set("PRAGMA user_version = 99");
    serve("onefold-data").says(1, "was written by a newer onefold (schema 99");
    set("PRAGMA user_version = 1; PRAGMA application_id = 7");
    serve("onefold-data").says(1, "is not a onefold store");
    std::fs::write(
        &database,
        "no database at all, but a text that is long enough to have a header".repeat(20),
    )
    .unwrap();
    serve("onefold-data").says(1, "restore a backup");
    room.write("file", "");
    serve("file").says(1, "cannot use file");
}

#[test]
fn told_to_stop_it_answers_what_is_in_progress_and_exits_with_zero() {
    let (room, mut server) = Room::served();
    let mut poll = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"queues":["q"],"wait":"60s"}"#;
    let length = body.len();
    write!(poll, "POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    // The metrics tell when the poll is parked.
    let parked = || {
        http(&server.url, "GET", "/metrics", "")
            .1
            .lines()
            .any(|line| line.contains("parked") && line.ends_with(" 1"))
    };
    while !parked() {}
    server.process.signal(Signal::TERM);
    let mut answer = String::new();
    poll.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"jobs":[]}"#), "{answer}");
    assert_eq!(server.process.end().code(), Some(0));
    room.run(&["queues"]).says(1, "no server answers");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (_room, mut server) = Room::served();
    let mut request = TcpStream::connect(server.address()).unwrap();
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    request.write_all(head.as_bytes()).unwrap();
    // Somebody waits for the body now.
    let mut go_on = [0; 12];
    request.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    server.process.signal(Signal::INT);
    server.process.err_line("stopping");
    server.process.signal(Signal::TERM);
    server.process.err_line("ended by a second signal, SIGTERM");
    assert_eq!(server.process.end().code(), Some(1));
}

/// Another program that locks the database for longer than a moment stands for a disk that fails.
#[test]
fn a_store_that_fails_ends_the_server_after_it_answered() {
    let (room, mut server) = Room::served();
    let other = rusqlite::Connection::open(room.path("onefold-data/onefold.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, answer) = http(&server.url, "POST", "/v1/queues/q/jobs", "{}");
    assert!(status == 503 && answer.contains("store-stopped"), "{status} {answer}");
    drop(other);
    server.process.err_line("storage failed and the engine has stopped");
    assert_eq!(server.process.end().code(), Some(1));
    let server = room.serve(&[]);
    let queues = http(&server.url, "GET", "/v1/queues", "");
    assert_eq!(queues.0, 200, "{}", queues.1);
}

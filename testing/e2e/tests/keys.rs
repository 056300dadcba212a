//! I3 from outside: however many producers use one key, in however many processes, there is one job.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use onefold_e2e::{Process, Server, counts, onefold_command};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const RACERS: usize = 100;

/// `onefold add` in a process of its own.
fn producer(server: &Server, dir: &Path, key: &str, more: &[&str]) -> Process {
    let mut command = onefold_command(dir);
    command.env("ONEFOLD_URL", server.url());
    command.args(["add", "payments", r#"{"order":17}"#, "--json", "--key", key]).args(more);
    Process::start(&mut command, "")
}

fn added(mut producer: Process) -> Value {
    let (status, printed, errors) = producer.finish(PATIENCE);
    assert!(status.success(), "{errors}");
    serde_json::from_str(&printed.join("")).unwrap()
}

const LATER: &[&str] = &["--delay", "1h"];

/// Two producers with one key at the same time, each in a process of its own: the id both were given.
fn both(server: &Server, dir: &Path, key: &str, options: [&[&str]; 2], accepted_before: bool) -> String {
    let both = options.map(|more| producer(server, dir, key, more)).map(added);
    assert_eq!(both[0]["id"], both[1]["id"], "{key}");
    let duplicates = both.iter().filter(|answer| answer["duplicate"] == true).count();
    assert_eq!(duplicates, if accepted_before { 2 } else { 1 }, "{key}: {both:?}");
    assert_eq!(both[0]["state"], both[1]["state"], "{key}");
    both[0]["id"].as_str().unwrap().to_owned()
}

/// Two producers in two processes with one key get one job: at once, delayed, or one so and one so, before and after
/// a restart.
#[test]
fn two_processes_with_one_key_get_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"));
    let kinds: [(&str, [&[&str]; 2]); 3] =
        [("now", [&[], &[]]), ("later", [LATER; 2]), ("mixed", [&[], LATER])];
    let first = kinds.map(|(key, options)| both(&server, dir.path(), key, options, false));
    let before = counts(&mut server.client(), "payments");
    assert_eq!((&before["accepted"], &before["duplicates"]), (&3.into(), &3.into()));
    assert!(before["scheduled"].as_u64() >= Some(1), "{before}");
    server.restart();
    let again = kinds.map(|(key, options)| both(&server, dir.path(), key, options, true));
    assert_eq!(again, first, "after SIGKILL and a restart");
    for (key, options) in kinds {
        both(&server, dir.path(), &format!("{key}-new"), options, false);
    }
    let after = counts(&mut server.client(), "payments");
    assert_eq!((&after["accepted"], &after["duplicates"]), (&6.into(), &12.into()));
}

/// A hundred connections send all but the last byte, wait for each other, and let go: how many were told that theirs
/// is the first, and the one id all were given.
fn race(server: &Server, queue: &str, job: &Value) -> (usize, String) {
    let start = Barrier::new(RACERS);
    let answers: Vec<(String, Value)> = std::thread::scope(|threads| {
        let race = || {
            let (request, mut connection) =
                (request(queue, job), TcpStream::connect(server.address()).unwrap());
            connection.set_nodelay(true).unwrap();
            let (last, rest) = request.as_bytes().split_last().unwrap();
            connection.write_all(rest).unwrap();
            start.wait();
            connection.write_all(&[*last]).unwrap();
            answer(connection)
        };
        let racers: Vec<_> = (0..RACERS).map(|_| threads.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let created = answers.iter().filter(|(status, _)| status == "201").count();
    let repeats =
        answers.iter().filter(|(status, body)| status == "200" && body["duplicate"] == true).count();
    assert_eq!(created + repeats, RACERS, "{queue}");
    let ids: HashSet<&str> = answers.iter().map(|(_, body)| body["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{queue}");
    (created, ids.into_iter().next().unwrap().to_owned())
}

/// A race has one winner, before and after a restart; one that was won before it has none after it.
#[test]
fn a_race_of_a_hundred_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"));
    let job = |key: &str, delay: &Value| json!({"key": key, "payload": {"order": 17}, "delay": delay});
    let queues = [("immediate", json!(0)), ("delayed", json!("1h"))];
    let winners = queues.each_ref().map(|(queue, delay)| {
        let (created, id) = race(&server, queue, &job("the-one", delay));
        assert_eq!(created, 1, "{queue}");
        id
    });
    server.restart();
    for ((queue, delay), winner) in queues.iter().zip(winners) {
        assert_eq!(race(&server, queue, &job("the-one", delay)), (0, winner), "{queue}, after a restart");
        assert_eq!(race(&server, queue, &job("another", delay)).0, 1, "{queue}, after a restart");
        assert_eq!(counts(&mut server.client(), queue)["accepted"], 2);
    }
}

fn request(queue: &str, job: &Value) -> String {
    let body = job.to_string();
    format!(
        "POST /v1/queues/{queue}/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Status and body.
fn answer(connection: TcpStream) -> (String, Value) {
    let mut connection = BufReader::new(connection);
    let mut status = String::new();
    connection.read_line(&mut status).unwrap();
    let mut rest = String::new();
    connection.read_to_string(&mut rest).unwrap();
    let (_, body) = rest.split_once("\r\n\r\n").unwrap();
    (status.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

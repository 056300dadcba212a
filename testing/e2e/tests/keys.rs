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

/// Two producers in two processes with one key get one job: at once and delayed, before and after a restart.
#[test]
fn two_processes_with_one_key_get_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"));
    for (key, more, state) in [("now", &[][..], "available"), ("later", &["--delay", "1h"][..], "scheduled")]
    {
        let both = [(); 2].map(|()| producer(&server, dir.path(), key, more));
        let both = both.map(added);
        assert_eq!(both[0]["id"], both[1]["id"]);
        let duplicates: HashSet<bool> =
            both.iter().map(|answer| answer["duplicate"].as_bool().unwrap()).collect();
        assert_eq!(duplicates.len(), 2, "one of them was the first: {both:?}");
        assert!(both.iter().all(|answer| answer["state"] == state), "{both:?}");
    }
    let before = counts(&mut server.client(), "payments");
    assert_eq!((&before["accepted"], &before["duplicates"]), (&2.into(), &2.into()));
    server.restart();
    for (key, more) in [("now", &[][..]), ("later", &["--delay", "1h"][..])] {
        let again = added(producer(&server, dir.path(), key, more));
        assert_eq!(again["duplicate"], true, "after SIGKILL and a restart: {again}");
    }
    assert_eq!(counts(&mut server.client(), "payments")["accepted"], 2);
}

/// A hundred connections send all but the last byte, wait for each other, and let go.
#[test]
fn a_race_of_a_hundred_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    for (queue, job) in [
        ("immediate", json!({"key": "the-one", "payload": {"order": 17}})),
        ("delayed", json!({"key": "the-one", "payload": {"order": 17}, "delay": "1h"})),
    ] {
        let start = Barrier::new(RACERS);
        let answers: Vec<(String, Value)> = std::thread::scope(|threads| {
            let race = || {
                let (request, mut connection) =
                    (request(queue, &job), TcpStream::connect(server.address()).unwrap());
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
        assert_eq!(created, 1, "{queue}");
        let repeats =
            answers.iter().filter(|(status, body)| status == "200" && body["duplicate"] == true).count();
        assert_eq!(repeats, RACERS - 1, "{queue}");
        let ids: HashSet<&str> = answers.iter().map(|(_, body)| body["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 1, "{queue}");
        assert_eq!(counts(&mut server.client(), queue)["accepted"], 1);
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
